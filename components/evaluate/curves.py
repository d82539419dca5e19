"""What the report draws of predictions, thinned to what an eye can see."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
POINTS = 200
BINS = 15
SCATTER = 2000


def curves(
    task: str, classes: int, labels: Floats, predictions: dict[str, Floats]
) -> dict[str, Any]:
    """ROC, precision-recall and calibration of each model; confusion; or scatter and residuals."""
    candidate = predictions["candidate"]
    if task == "multiclass":
        confusion = np.zeros((classes, classes), int)
        np.add.at(confusion, (labels.astype(int), candidate.argmax(1)), 1)
        return {"confusion": confusion.tolist()}
    if task == "regression":
        shown = np.linspace(0, len(labels) - 1, min(SCATTER, len(labels))).astype(int)
        pairs = np.column_stack([labels[shown], candidate[shown]])
        return {"scatter": _plain(pairs), "residuals": histogram(labels - candidate)}
    found: dict[str, Any] = {"roc": {}, "pr": {}, "calibration": {}}
    for name, predicted in predictions.items():
        found["roc"][name], found["pr"][name] = _ranking(labels == 1, predicted)
        found["calibration"][name] = _calibration(labels, predicted)
    return found


def histogram(values: Floats) -> dict[str, Any]:
    """Counts in 30 bins of equal width."""
    counts, edges = np.histogram(values[np.isfinite(values)], bins=30)
    return {"edges": _plain(edges), "counts": counts.tolist()}


def _ranking(positive: npt.NDArray[np.bool_], predicted: Floats) -> tuple[Any, Any]:
    order = np.argsort(-predicted, kind="stable")
    ordered = predicted[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = np.cumsum(positive[order])[ends]
    misses = ends + 1 - hits
    recall, fall_out = hits / max(hits[-1], 1), misses / max(misses[-1], 1)
    kept = np.unique(np.linspace(0, len(ends) - 1, POINTS).astype(int))
    roc = np.vstack([[0, 0], np.column_stack([fall_out, recall])[kept]])
    return _plain(roc), _plain(np.column_stack([recall, hits / (ends + 1)])[kept])


def _calibration(labels: Floats, predicted: Floats) -> list[list[float]]:
    """Mean prediction, share of positives and rows, in bins of about equally many rows."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BINS + 1)))
    at = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [
        [float(predicted[at == index].mean()), float(labels[at == index].mean()), int(rows)]
        for index, rows in enumerate(np.bincount(at))
        if rows
    ]


def _plain(values: Floats) -> Any:
    return np.round(values.astype(float), 6).tolist()
