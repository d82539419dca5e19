"""What a model must beat: knowing only the base rate, and a linear model of the same features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipway.encoder import Encoder
from slipway.errors import UserError

Floats = npt.NDArray[np.float32]
CELLS = 60_000_000
"""Largest design matrix. Of more train rows a sample is taken: a linear model hardly feels it."""
ONE_HOT = 400
"""Columns for all categories together; each gives its most frequent values."""


def prior(task: str, classes: int, labels: npt.NDArray[np.number], rows: int) -> Floats:
    """The train window's rate, class shares or mean: [rows], or [rows, classes]."""
    if task == "multiclass":
        shares = np.bincount(labels.astype(int), minlength=classes) / len(labels)
        return np.tile(shares, (rows, 1)).astype(np.float32)
    return np.full(rows, labels.mean(), np.float32)


def linear(
    task: str,
    classes: int,
    encoder: Encoder,
    train: Floats,
    labels: npt.NDArray[np.number],
    test: Floats,
    seed: int = 0,
) -> Floats:
    """Predictions for `test` of a logistic, or for regression a ridge, model of the train window.

    `train` and `test` are encoded. Numbers are standardised, with the mean in place of what is
    missing and a flag beside it; categories are one-hot. Raises `UserError` where the train window
    holds a single class.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    if task != "regression" and labels.min() == labels.max():
        raise UserError(
            f"All {len(labels):,} labels of the train window are {labels[0]}.",
            "Widen `split.train` in the contract, or mend the SQL of its target.",
        )
    design = Design(encoder, train)
    most = CELLS // design.width
    if len(train) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(train), most, replace=False))
        train, labels = train[chosen], labels[chosen]
    fitted_on, asked = design(train), design(test)
    if task == "regression":
        model = Ridge(solver="cholesky").fit(fitted_on, labels)
        return np.asarray(model.predict(asked), np.float32)
    # Converged for every digit that a report shows, in a fifth of the time that 1e-4 takes.
    model = LogisticRegression(solver="lbfgs", tol=1e-3, max_iter=500)
    model.fit(fitted_on, labels.astype(int))
    shares = np.zeros((len(asked), classes), np.float32)
    shares[:, model.classes_] = model.predict_proba(asked)
    return shares[:, 1] if task == "binary" else shares


class Design:
    """The linear model's matrix, with means and scales of the train window."""

    def __init__(self, encoder: Encoder, train: Floats) -> None:
        self._numbers = [at for at, column in enumerate(encoder.columns) if not column.categorical]
        categories = [at for at, column in enumerate(encoder.columns) if column.categorical]
        self._places = [
            (at, _places(train[:, at], ONE_HOT // len(categories), encoder.columns[at].categories))
            for at in categories
        ]
        numbers = train[:, self._numbers].astype(np.float64)
        missing = np.isnan(numbers)
        known = np.maximum((~missing).sum(0), 1)
        self._mean = np.where(missing, 0, numbers).sum(0) / known
        variance = np.where(missing, 0, (numbers - self._mean) ** 2).sum(0) / known
        self._scale = np.where(variance > 0, np.sqrt(variance), 1)
        self._flagged = missing.any(0)

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        one_hot = sum(int(places.max()) + 1 for _, places in self._places)
        return len(self._numbers) + int(self._flagged.sum()) + one_hot

    def __call__(self, matrix: Floats) -> Floats:
        """Encoded rows [n, columns of the encoder] to float32 [n, width]."""
        numbers = matrix[:, self._numbers]
        missing = np.isnan(numbers)
        design = np.zeros((len(matrix), self.width), np.float32)
        count = len(self._numbers)
        design[:, :count] = np.where(missing, 0, (numbers - self._mean) / self._scale)
        end = count + int(self._flagged.sum())
        design[:, count:end] = missing[:, self._flagged]
        for at, places in self._places:
            found = places[matrix[:, at].astype(int)]
            rows = np.flatnonzero(found >= 0)
            design[rows, end + found[rows]] = 1
            end += int(places.max()) + 1
        return design


def _places(codes: Floats, most: int, categories: tuple[str, ...]) -> npt.NDArray[np.int_]:
    """Column of each category's code among at most `most`; -1 for null and for what is rare."""
    counts = np.bincount(codes.astype(int), minlength=len(categories) + 1)[1:]
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    places = np.full(len(categories) + 1, -1)
    places[kept + 1] = np.arange(len(kept))
    return places
