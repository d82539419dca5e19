"""How far a feature's distribution has moved: PSI and KS, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slipway.encoder import Encoder

Floats = npt.NDArray[np.floating[Any]]

ROWS = 50_000
"""Rows compared at most: more change the result by less than sampling already does."""
_EMPTY = 1e-4
"""Share that an empty bin counts as, so that its logarithm exists."""


def psi(reference: Floats, current: Floats, bins: int = 10) -> float | None:
    """Population stability index of two samples of numbers [n] and [m], NaN meaning null.

    Bins end at the quantiles of `reference`; nulls are a bin of their own. 0 is no shift, from 0.2
    on it is large by convention. None where a sample is empty.
    """
    if not len(reference) or not len(current):
        return None
    known = reference[~np.isnan(reference)]
    if not len(known):
        edges = np.empty(0)
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]))

    def shares(values: Floats) -> Floats:
        null = np.isnan(values)
        counts = np.bincount(np.searchsorted(edges, values[~null]), minlength=len(edges) + 1)
        return np.append(counts, null.sum()) / len(values)

    return _psi(shares(reference), shares(current))


def psi_categories(reference: npt.NDArray[Any], current: npt.NDArray[Any]) -> float | None:
    """Population stability index of two samples of categories, each value a bin of its own.

    Null is a value like any other; code it before. None where a sample is empty.
    """
    if not len(reference) or not len(current):
        return None
    _, codes = np.unique(np.concatenate([reference, current]), return_inverse=True)
    size = int(codes.max()) + 1
    before = np.bincount(codes[: len(reference)], minlength=size) / len(reference)
    after = np.bincount(codes[len(reference) :], minlength=size) / len(current)
    return _psi(before, after)


def ks(reference: Floats, current: Floats) -> float | None:
    """Kolmogorov-Smirnov statistic: the largest distance of the two distribution functions, 0..1.

    Nulls (NaN) are left out. None where nothing else is left of a sample.
    """
    before = np.sort(reference[~np.isnan(reference)])
    after = np.sort(current[~np.isnan(current)])
    if not len(before) or not len(after):
        return None
    points = np.concatenate([before, after])
    below = np.searchsorted(before, points, side="right") / len(before)
    return float(np.abs(below - np.searchsorted(after, points, side="right") / len(after)).max())


def feature_drift(encoder: Encoder, reference: pa.Table, current: pa.Table) -> list[dict[str, Any]]:
    """`{feature, psi, ks}` of every column that the model sees, between two tables of raw features.

    Category codes have no order, so their `ks` is None. What `encoder` has not seen is one bin with
    null. Rows are sampled with a fixed seed.
    """
    before, after = (encoder.encode(sample(table)) for table in (reference, current))
    found = []
    for at, column in enumerate(encoder.columns):
        if column.categorical:
            shift, distance = psi_categories(before[:, at], after[:, at]), None
        else:
            shift, distance = psi(before[:, at], after[:, at]), ks(before[:, at], after[:, at])
        found.append({"feature": column.name, "psi": shift, "ks": distance})
    return found


def sample(table: pa.Table, rows: int = ROWS, seed: int = 0) -> pa.Table:
    """At most `rows` rows of `table`, in its order, the same ones at each call."""
    if table.num_rows <= rows:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, rows, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def _psi(reference: Floats, current: Floats) -> float:
    before, after = np.maximum(reference, _EMPTY), np.maximum(current, _EMPTY)
    return float(np.sum((after - before) * np.log(after / before)))
