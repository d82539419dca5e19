"""From an engine's model to the package's `explainer.npz`, checked against the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from components.train.export import TOLERANCE
from components.train.job import Array
from slipway.attribution import TREES, WALKS, write_explainer
from slipway.shapley import TreePaths

if TYPE_CHECKING:
    import xgboost

BACKGROUND_ROWS = 64
"""Twice as many double the time of an explanation, to take a fifth off its sampling error."""


def explain_network(features: Array, path: Path) -> None:
    """Write what a row is compared with: rows evenly spread over the train window's `features`
    [n, columns]."""
    rows = np.linspace(0, len(features) - 1, min(len(features), BACKGROUND_ROWS)).astype(int)
    write_explainer(path, WALKS, {"background": features[rows]})


def xgboost_contributions(booster: xgboost.Booster, features: Array) -> Array:
    """XGBoost's own, float32 [n, outputs, columns + 1]; the last is the base.

    With several workers all must call this: to make a `DMatrix`, they talk to each other.
    """
    import xgboost

    found: Array = booster.predict(xgboost.DMatrix(features), pred_contribs=True, strict_shape=True)
    return found


def explain_booster(booster: xgboost.Booster, features: Array, expected: Array, path: Path) -> None:
    """Write trees as their paths. Raises `RuntimeError` if these explain `features` [n, columns]
    otherwise than XGBoost does, whose contributions are `expected`."""
    arrays = _arrays(booster) | {"base": expected[0, :, -1].astype(np.float64)}
    paths = TreePaths(np.arange(features.shape[1]), **arrays)
    found = paths.contributions(features).transpose(0, 2, 1)
    worst = float(np.abs(found - expected[:, :, :-1]).max() / max(1.0, np.abs(expected).max()))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{path}: explanations differ from the engine's by {worst:.2g}")
    write_explainer(path, TREES, arrays)


class _Interval(NamedTuple):
    low: float = -np.inf
    high: float = np.inf
    missing: bool = True
    share: float = 1.0


def _arrays(booster: xgboost.Booster) -> dict[str, np.ndarray[Any, Any]]:
    """`TreePaths` but for its base."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    found = [
        (output, value, conditions)
        for output, tree in zip(model["tree_info"], model["trees"], strict=True)
        for value, conditions in _paths(tree)
    ]
    shape = max(1, *(len(conditions) for _, _, conditions in found)), len(found)
    column = np.zeros(shape, np.int32)
    low, high = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    missing, share = np.ones(shape, bool), np.ones(shape, np.float32)
    for at, (_, _, conditions) in enumerate(found):
        for level, (asked, interval) in enumerate(conditions.items()):
            cell = level, at
            column[cell] = asked
            low[cell], high[cell], missing[cell], share[cell] = interval
    return {
        "value": np.array([value for _, value, _ in found], np.float32),
        "output": np.array([output for output, _, _ in found], np.int16),
        "column": column,
        "low": low,
        "high": high,
        "missing": missing,
        "share": share,
    }


def _paths(tree: dict[str, list[Any]]) -> Iterator[tuple[float, dict[int, _Interval]]]:
    """Each leaf's value, with what leads there: an interval for each column that is asked."""
    pending: list[tuple[int, dict[int, _Interval]]] = [(0, {})]
    while pending:
        node, conditions = pending.pop()
        left, right = tree["left_children"][node], tree["right_children"][node]
        # Of a leaf, XGBoost keeps the value where a split has its threshold.
        threshold = tree["split_conditions"][node]
        if left == -1:
            yield threshold, conditions
            continue
        column = tree["split_indices"][node]
        before = conditions.get(column, _Interval())
        to_left = bool(tree["default_left"][node])
        weight = tree["sum_hessian"]
        below = _Interval(
            before.low,
            min(before.high, threshold),
            before.missing and to_left,
            before.share * weight[left] / weight[node],
        )
        above = _Interval(
            max(before.low, threshold),
            before.high,
            before.missing and not to_left,
            before.share * weight[right] / weight[node],
        )
        pending += [(left, conditions | {column: below}), (right, conditions | {column: above})]
