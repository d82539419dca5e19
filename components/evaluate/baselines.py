"""What a model must beat: knowing only the base rate, and a linear model of the same features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipway.encoder import Encoder

Floats = npt.NDArray[np.float32]


def prior(task: str, classes: int, labels: Floats, rows: int) -> Floats:
    """The train window's rate, class shares or mean: [rows], or [rows, classes]."""
    if task == "multiclass":
        shares = np.bincount(labels.astype(int), minlength=classes) / len(labels)
        return np.tile(shares, (rows, 1)).astype(np.float32)
    return np.full(rows, labels.mean(), np.float32)


def linear(task: str, encoder: Encoder, train: Floats, labels: Floats, test: Floats) -> Floats:
    """Predictions of a logistic, or for regression a ridge, model fitted on the train window.

    `train` and `test` are encoded. Numbers are standardised, with the mean in place of what is
    missing and a flag beside it; categories are one-hot.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    design = _Design(encoder, train)
    fitted_on, asked = design(train), design(test)
    if task == "regression":
        model = Ridge().fit(fitted_on, labels)
        return np.asarray(model.predict(asked), np.float32)
    # Newton's method needs a handful of passes where gradient descent needs hundreds; the Hessian
    # of a few hundred columns is small.
    solver = "newton-cholesky" if task == "binary" else "lbfgs"
    model = LogisticRegression(solver=solver, max_iter=200).fit(fitted_on, labels.astype(int))
    shares = np.zeros((len(asked), int(labels.max()) + 1))
    shares[:, model.classes_] = model.predict_proba(asked)
    return np.asarray(shares[:, 1] if task == "binary" else shares, np.float32)


class _Design:
    """The linear model's matrix, with means and scales of the train window."""

    def __init__(self, encoder: Encoder, train: Floats) -> None:
        self._numbers = [at for at, column in enumerate(encoder.columns) if not column.categorical]
        self._categories = [
            (at, len(column.categories))
            for at, column in enumerate(encoder.columns)
            if column.categorical
        ]
        numbers = train[:, self._numbers]
        with np.errstate(all="ignore"):
            self._mean = np.nan_to_num(np.nanmean(numbers, 0)).astype(np.float32)
            spread = np.nan_to_num(np.nanstd(numbers, 0)).astype(np.float32)
        self._std = np.where(spread > 0, spread, 1).astype(np.float32)
        self._missing = np.isnan(numbers).any(0)

    def __call__(self, matrix: Floats) -> Floats:
        numbers = matrix[:, self._numbers]
        missing = np.isnan(numbers)
        scaled = np.where(missing, 0, (numbers - self._mean) / self._std).astype(np.float32)
        parts = [scaled, missing[:, self._missing].astype(np.float32)]
        for at, count in self._categories:
            parts.append(np.eye(count + 1, dtype=np.float32)[matrix[:, at].astype(int)])
        return np.hstack(parts)
