"""Scores of predictions, plain and over bootstrap resamples: one implementation for both.

A resample is a row of counts: how often each row was drawn. Scores of all resamples come from the
same sorted predictions, so five hundred of them cost about as much as sorting.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Counts = npt.NDArray[np.int32]
Scores = dict[str, npt.NDArray[np.float64]]
CHUNK = 25
"""Resamples in memory at once."""
TINY = 1e-15


def scores(task: str, labels: Floats, predictions: Floats) -> dict[str, float]:
    """Every metric of a task. `labels` is [n]: 0/1, class indices, or values; `predictions` [n]
    or, multiclass, [n, classes]. NaN where a metric does not exist, like an AUC of one class."""
    once = np.ones((1, len(labels)), np.int32)
    return {
        name: float(value[0]) for name, value in _scores(task, labels, predictions, once).items()
    }


def resampled(
    task: str,
    labels: Floats,
    predictions: dict[str, Floats],
    samples: int,
    seed: int = 0,
) -> dict[str, Scores]:
    """Scores of each model over the same `samples` resamples of rows: metric to [samples].

    The same resamples for all models make their differences paired.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[Scores]] = {name: [] for name in predictions}
    for start in range(0, samples, CHUNK):
        counts = _draw(generator, min(CHUNK, samples - start), len(labels))
        for name, predicted in predictions.items():
            parts[name].append(_scores(task, labels, predicted, counts))
    return {
        name: {metric: np.concatenate([part[metric] for part in found]) for metric in found[0]}
        for name, found in parts.items()
    }


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of a bootstrap; NaN where no resample had the metric."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def row_losses(task: str, labels: Floats, predictions: Floats) -> npt.NDArray[np.float64]:
    """Log loss of each row, or its squared error for regression: [n]."""
    if task == "regression":
        return (predictions.astype(np.float64) - labels) ** 2
    if task == "binary":
        right = np.where(labels == 1, predictions, 1 - predictions.astype(np.float64))
    else:
        right = predictions[np.arange(len(labels)), labels.astype(int)].astype(np.float64)
    return -np.log(np.clip(right, TINY, 1.0))


def _draw(generator: np.random.Generator, samples: int, rows: int) -> Counts:
    counts = np.empty((samples, rows), np.int32)
    for at in range(samples):
        counts[at] = np.bincount(generator.integers(0, rows, rows), minlength=rows)
    return counts


def _scores(task: str, labels: Floats, predictions: Floats, counts: Counts) -> Scores:
    weights = counts.astype(np.float64)
    total = weights.sum(1)
    with np.errstate(all="ignore"):
        if task == "regression":
            return _regression(labels, predictions, weights, total)
        log_loss = weights @ row_losses(task, labels, predictions) / total
        if task == "binary":
            roc_auc, pr_auc = _ranking(labels == 1, predictions, counts)
            brier = weights @ (predictions.astype(np.float64) - labels) ** 2 / total
            return {"roc_auc": roc_auc, "pr_auc": pr_auc, "log_loss": log_loss, "brier": brier}
        return {**_multiclass(labels.astype(int), predictions, counts), "log_loss": log_loss}


def _ranking(positive: npt.NDArray[np.bool_], predictions: Floats, counts: Counts) -> Any:
    """ROC-AUC and average precision, ties counted as scikit-learn counts them.

    Both are sums over positives: how many rows of which kind are ranked above each. Rows with the
    same prediction form a group, and only groups that hold a positive matter.
    """
    order = np.argsort(-predictions, kind="stable")
    ordered = predictions[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(order))
    group = np.repeat(np.arange(len(starts)), ends - starts)
    hit_rows = np.flatnonzero(positive[order])
    groups, firsts = np.unique(group[hit_rows], return_index=True)

    drawn = counts[:, order]
    if not len(hit_rows):
        nothing = np.full(len(counts), np.nan)
        return nothing, nothing
    upto = np.zeros((len(drawn), len(order) + 1), np.int32)
    np.cumsum(drawn, axis=1, dtype=np.int32, out=upto[:, 1:])
    hits = np.add.reduceat(drawn[:, hit_rows], firsts, axis=1).astype(np.float64)
    hits_upto = np.cumsum(hits, axis=1)
    above, through = upto[:, starts[groups]], upto[:, ends[groups]].astype(np.float64)
    misses_above, misses_through = above - (hits_upto - hits), through - hits_upto
    all_hits = hits_upto[:, -1]
    all_misses = upto[:, -1] - all_hits
    passed_over = (hits * (misses_above + misses_through)).sum(1) / 2
    precision = np.divide(hits_upto, through, out=np.zeros_like(hits), where=through > 0)
    return 1 - passed_over / (all_hits * all_misses), (hits * precision).sum(1) / all_hits


def _multiclass(labels: npt.NDArray[np.int_], predictions: Floats, counts: Counts) -> Scores:
    classes = predictions.shape[1]
    weights = counts.astype(np.float64)
    total = weights.sum(1)
    chosen = predictions.argmax(1)
    aucs, f1s = [], []
    for index in range(classes):
        is_class, said_class = labels == index, chosen == index
        aucs.append(_ranking(is_class, predictions[:, index], counts)[0])
        found = weights @ (is_class & said_class)
        said_or_is = weights @ is_class + weights @ said_class
        # A class that was neither there nor predicted says nothing about the model.
        f1s.append(np.where(said_or_is > 0, 2 * found / said_or_is, np.nan))
    one_hot = np.eye(classes)[labels]
    return {
        "roc_auc": _mean_known(aucs),
        "accuracy": weights @ (labels == chosen) / total,
        "f1_macro": _mean_known(f1s),
        "brier": weights @ ((predictions - one_hot) ** 2).sum(1) / total,
    }


def _mean_known(values: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The mean over classes of what is known; NaN where nothing is."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    sums = np.where(known, stacked, 0.0).sum(0)
    result: npt.NDArray[np.float64] = sums / known.sum(0)
    return result


def _regression(
    labels: Floats, predictions: Floats, weights: npt.NDArray[np.float64], total: Any
) -> Scores:
    error = predictions.astype(np.float64) - labels
    squares = weights @ error**2
    mean = weights @ labels / total
    spread = weights @ labels**2 - total * mean**2
    return {
        "rmse": np.sqrt(squares / total),
        "mae": weights @ np.abs(error) / total,
        "r2": 1 - squares / spread,
    }
