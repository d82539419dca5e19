"""How a package explains its model: `explainer.npz`, the unit of its numbers, and the proof.

    method            `tree_shap` or `permutation_shap`
    tree_shap         the arrays of `slipway.shapley.TreePaths`
    permutation_shap  background: a few encoded rows of the train window, float32 [rows, columns]

Arrays only: it is read without pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slipway.encoder import Columns
from slipway.errors import UserError
from slipway.package import EXPLAINER, Model
from slipway.shapley import Array, Matrix, TreePaths, Walks

if TYPE_CHECKING:
    import pyarrow as pa

TREES, WALKS = "tree_shap", "permutation_shap"
UNITS = {
    "binary": "log-odds",
    "multiclass": "centred log-probability",
    "regression": "the label's unit",
}
"""Effects add up on a scale without ends. A class's centred log-probability is its log-probability
less the mean over classes: `softmax` of all of them gives the probabilities back."""
TOLERANCE = 1e-5


def write_explainer(path: Path, method: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write `explainer.npz`; equal arrays give equal bytes."""
    np.savez_compressed(path, allow_pickle=False, method=np.array(method), **arrays)


class Attribution:
    """Contributions of a model's raw features to its answers."""

    def __init__(self, folder: Path, model: Model) -> None:
        """`folder` is that of a package or of a candidate, `model` the one in it."""
        self._model, self._task = model, model.signature["task"]
        position = {feature.name: at for at, feature in enumerate(model.encoder.features)}
        self._owner = np.array([position[column.feature] for column in model.encoder.columns])
        with np.load(folder / EXPLAINER, allow_pickle=False) as file:
            arrays = dict(file)
        self.method = str(arrays.pop("method"))
        self.unit = UNITS[self._task]
        self._by: TreePaths | Walks
        if self.method == TREES:
            self._by = TreePaths(self._owner, **arrays)
        else:
            self._by = Walks(self._owner, arrays["background"], self._answer)
        self.base: Array = self._scaled(self._by.base)
        """float64 [outputs], in `unit`: the answer when no feature is known."""

    def explain(
        self, rows: Columns | pa.Table
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Predictions of n rows, and contributions to them as float64 [n, features, outputs].

        `base` and the contributions of all features add up to the prediction in `unit`. Features
        are in the encoder's order, outputs are classes, or one. About a millisecond a row for
        trees, ten for a network.
        """
        matrix = self._model.encoder.encode(rows)
        contributions = self._scaled(self._by.contributions(matrix))
        return self._model.predict_encoded(matrix), contributions

    def prove(self, rows: Columns | pa.Table) -> float:
        """The largest difference between a prediction and what its explanation adds up to.

        Raises `UserError` above `TOLERANCE`, relative for values beyond 1.
        """
        predictions, contributions = self.explain(rows)
        told = as_predictions(self._task, self.base + contributions.sum(axis=1))
        difference = np.abs(told - predictions) / np.maximum(1, np.abs(predictions))
        worst = float(difference.max())
        if not worst <= TOLERANCE:
            raise UserError(
                f"The explanations differ from the model's answers by {worst:.2g}.",
                "Train it again; do not serve this package.",
            )
        return worst

    def _answer(self, matrix: Matrix) -> Array:
        return in_unit(self._task, self._model.predict_encoded(matrix))

    def _scaled(self, values: Array) -> Array:
        return _centred(values) if self._task == "multiclass" else values


def in_unit(task: str, predictions: npt.NDArray[np.float32]) -> Array:
    """Predictions [n] or [n, classes] in the unit of their task, float64 [n, outputs]."""
    values = predictions.astype(np.float64).reshape(len(predictions), -1)
    if task == "regression":
        return values
    # What float32 rounds to 0 or 1 counts as the next number to it.
    float32 = np.finfo(np.float32)
    values = values.clip(float32.tiny, 1 - float32.epsneg)
    logs: Array = np.log(values)
    return logs - np.log1p(-values) if task == "binary" else _centred(logs)


def as_predictions(task: str, values: Array) -> Array:
    """The inverse of `in_unit`: float64 [n, outputs] to [n] or [n, classes]."""
    if task == "regression":
        return values[:, 0]
    if task == "binary":
        sigmoid: Array = (1 + np.tanh(values[:, 0] / 2)) / 2  # without overflow
        return sigmoid
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Array = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _centred(values: Array) -> Array:
    """Less their mean over classes, the last axis. Softmax cannot tell the difference; without it
    one model would have many explanations."""
    centred: Array = values - values.mean(axis=-1, keepdims=True)
    return centred
