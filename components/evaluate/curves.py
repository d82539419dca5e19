"""What the report draws of predictions, thinned to what an eye can see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[Any]
POINTS = 200
BINS = 30
CALIBRATION_BINS = 15
SCATTER = 2000


def curves(
    task: str, classes: int, labels: Labels, predictions: dict[str, Floats]
) -> dict[str, Any]:
    """ROC, precision-recall and calibration of each model; or confusion; or scatter and residuals.

    With each comes the candidate's `histogram`: of its predictions, or of the probability of the
    class that it chose.
    """
    candidate = predictions["candidate"]
    if task == "multiclass":
        cells = labels.astype(int) * classes + candidate.argmax(1)
        confusion = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        return {"confusion": confusion.tolist(), "histogram": _histogram(candidate.max(1))}
    if task == "regression":
        shown = np.linspace(0, len(labels) - 1, min(SCATTER, len(labels))).astype(int)
        return {
            "scatter": _plain(np.column_stack([labels[shown], candidate[shown]])),
            "residuals": _histogram(labels - candidate),
            "histogram": _histogram(candidate),
        }
    found: dict[str, Any] = {"roc": {}, "pr": {}, "calibration": {}}
    for name, predicted in predictions.items():
        found["roc"][name], found["pr"][name] = _ranking(labels == 1, predicted)
        found["calibration"][name] = _calibration(labels, predicted.astype(np.float64))
    return {**found, "histogram": _histogram(candidate)}


def _histogram(values: Floats) -> dict[str, Any]:
    """Counts in bins of equal width."""
    counts, edges = np.histogram(values, bins=BINS)
    return {"edges": _plain(edges), "counts": counts.tolist()}


def _ranking(positive: npt.NDArray[np.bool_], predicted: Floats) -> tuple[Any, Any]:
    """Points of (false positive rate, true positive rate), and of (recall, precision).

    A curve that does not exist, for lack of positives or negatives, has no points.
    """
    order = np.argsort(-predicted, kind="stable")
    ordered = predicted[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = np.cumsum(positive[order])[ends]
    misses = ends + 1 - hits
    kept = np.unique(np.linspace(0, len(ends) - 1, POINTS - 1).astype(int))
    if not hits[-1]:
        return [], []
    recall, precision = hits / hits[-1], hits / (ends + 1)
    pr = _plain(np.column_stack([recall, precision])[kept])
    if not misses[-1]:
        return [], pr
    roc = np.column_stack([misses / misses[-1], recall])[kept]
    return _plain(np.vstack([[0, 0], roc])), pr


def _calibration(labels: Labels, predicted: Floats) -> list[list[float]]:
    """Mean prediction, share of positives and rows, in bins of about equally many rows."""
    inner = np.quantile(predicted, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
    at = np.searchsorted(np.unique(inner), predicted, side="right")
    rows = np.bincount(at)
    means = np.bincount(at, predicted), np.bincount(at, labels)
    return [
        [round(float(means[0][bin_] / count), 6), round(float(means[1][bin_] / count), 6), count]
        for bin_, count in enumerate(rows.tolist())
        if count
    ]


def _plain(values: Floats) -> Any:
    return np.round(values.astype(float), 6).tolist()
