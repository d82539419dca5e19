"""What `:explain` answers: predictions, and what each feature added to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slipway.attribution import Attribution
from slipway.encoder import Columns
from slipway.package import Model
from slipway.schema import RequestError


class Explainer:
    """A loaded package's explanations, by the names that clients know."""

    def __init__(self, package: Path, model: Model) -> None:
        self._attribution = Attribution(package, model)
        self._features = [feature.name for feature in model.encoder.features]
        self._classes = model.signature["classes"]

    def explain(self, columns: Columns) -> dict[str, Any]:
        """The body of the answer for n rows of raw features; of several classes, all by class.

        `method`, `unit`, `base` in that unit, `predictions` as `:predict` has them, and
        `explanations`: for each row what each raw feature added to `base` to give the prediction.
        Takes milliseconds a row, so not for the event loop; safe in any thread. Raises
        `RequestError` for rows whose prediction is not finite.
        """
        predictions, contributions = self._attribution.explain(columns)
        if not np.isfinite(contributions).all():
            raise RequestError("The model has no finite prediction for these values.", 422)
        return {
            "method": self._attribution.method,
            "unit": self._attribution.unit,
            "base": self._by_class(self._attribution.base.tolist()),
            "predictions": predictions.tolist(),
            "explanations": [
                self._by_class([dict(zip(self._features, values, strict=True)) for values in row])
                for row in contributions.transpose(0, 2, 1).tolist()
            ],
        }

    def _by_class(self, outputs: list[Any]) -> Any:
        return dict(zip(self._classes, outputs, strict=True)) if self._classes else outputs[0]
