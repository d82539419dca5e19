"""Shapley values: what each feature adds to an answer. Exact for trees, sampled for any model.

Both ways share a contract: `base`, float64 [outputs], is the answer when no feature is known, and
the contributions of a row's features add up with it to the answer of that row. A feature may own
several columns of the encoded row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

ROWS_AT_ONCE = 4096
"""Of a sampled explanation, in one call of the model: bounds memory, not the result."""


@dataclass(frozen=True)
class TreePaths:
    """Path-dependent tree SHAP over trees that are cut into their paths from root to leaf.

    A path asks each feature at most once: conditions on the same feature are one interval. Arrays
    are [paths] or [depth, paths]; an interval that is not asked for holds every value and has share
    1.
    """

    owner: npt.NDArray[np.intp]
    """The feature of each column: 0, 1, … without a gap. What its columns add is summed."""
    base: Array
    value: Matrix
    """What the path's leaf adds to its output."""
    output: npt.NDArray[np.int16]
    column: npt.NDArray[np.int32]
    low: Matrix
    high: Matrix
    """A value goes this way if `low <= value < high`."""
    missing: npt.NDArray[np.bool_]
    """NaN goes this way."""
    share: Matrix
    """Of the training rows that came to these splits: how many went this way."""

    def contributions(self, matrix: Matrix) -> Array:
        """float64 [n, features, outputs] of encoded rows [n, columns].

        A path's part in the answer, as a function of which features are known, is a product with
        one factor for each of them: 1 or 0 for a known feature, `share` for an unknown one. Its
        Shapley values are integrals of polynomials in how likely each feature is known (Owen 1972),
        which Gauss-Legendre nodes, half as many as the path is deep, integrate exactly.
        """
        features, outputs = int(self.owner.max()) + 1, len(self.base)
        cells = (self.owner[self.column] * outputs + self.output).ravel()
        largest = np.finfo(np.float32).max
        nodes, weights = self._rule
        share, value = self.share.astype(np.float64), self.value.astype(np.float64)
        found = np.empty((len(matrix), features, outputs))
        for at, row in enumerate(np.clip(matrix, -largest, largest)):
            asked = row[self.column]
            known = np.where(
                np.isnan(asked), self.missing, (asked >= self.low) & (asked < self.high)
            )
            added = np.zeros(share.shape)
            for node, weight in zip(nodes, weights, strict=True):
                factors = share * (1 - node) + known * node
                added += weight * factors.prod(axis=0) / factors
            added *= (known - share) * value
            sums = np.bincount(cells, added.ravel(), minlength=features * outputs)
            found[at] = sums.reshape(features, outputs)
        return found

    @cached_property
    def _rule(self) -> tuple[Array, Array]:
        nodes, weights = np.polynomial.legendre.leggauss((len(self.column) + 1) // 2)
        return (nodes + 1) / 2, weights / 2


class Walks:
    """Permutation SHAP: from each background row to the explained one, a feature at a time.

    Every background row walks in one random order and in its reverse, which takes half of the
    chance out. The orders are drawn once, so the same row gets the same values; each walk ends at
    the row's own answer, so they add up exactly, however few there are.
    """

    def __init__(
        self, owner: npt.NDArray[np.intp], background: Matrix, answer: Callable[[Matrix], Array]
    ) -> None:
        """`owner` [columns] holds the feature of each column: they become known together. `answer`
        maps encoded rows [n, columns] to float64 [n, outputs]."""
        self._answer, self._owner, self._features = answer, owner, int(owner.max()) + 1
        order = np.tile(np.arange(self._features), (len(background), 1))
        rank = np.random.default_rng(0).permuted(order, axis=1)
        self._rank = np.concatenate([rank, self._features - 1 - rank])
        self._from = np.concatenate([background, background])
        start = answer(background)
        self._start = np.concatenate([start, start])
        self.base: Array = start.mean(axis=0)

    def contributions(self, matrix: Matrix) -> Array:
        """float64 [n, features, outputs] of encoded rows [n, columns]."""
        found = np.empty((len(matrix), self._features, len(self.base)))
        ends = self._answer(matrix)
        at_once = max(1, ROWS_AT_ONCE // self._features)
        for at, (row, end) in enumerate(zip(matrix, ends, strict=True)):
            steps = [
                self._steps(row, end, slice(first, first + at_once))
                for first in range(0, len(self._rank), at_once)
            ]
            found[at] = np.concatenate(steps).mean(axis=0)
        return found

    def _steps(self, row: Matrix, end: Array, walks: slice) -> Array:
        """What each feature added on each of these walks: [walks, features, outputs]."""
        rank, start = self._rank[walks], self._start[walks, None]
        taken = np.arange(1, self._features)[:, None]
        known = rank[:, None, self._owner] < taken
        between = np.where(known, row, self._from[walks, None])
        answers = self._answer(between.reshape(-1, len(row)))
        path = np.concatenate(
            [
                start,
                answers.reshape(len(rank), self._features - 1, len(end)),
                np.broadcast_to(end, start.shape),
            ],
            axis=1,
        )
        steps: Array = np.take_along_axis(np.diff(path, axis=1), rank[:, :, None], axis=1)
        return steps
