"""The predictor: full rows of raw features by name, encoded and run through ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.metrics import Metrics
from slipway.errors import UserError
from slipway.files import read_json
from slipway.imports import import_pyarrow
from slipway.package import Model, digest, verify
from slipway.schema import RequestError, row_schema

TOLERANCE = 1e-6
VERSION_LENGTH = 12
"""A model's version in answers and metrics is the start of its package's digest."""


class Predictor:
    """One model package behind the protocol. Raises `UserError` for a package that is not right."""

    def __init__(self, name: str, folder: Path) -> None:
        import_pyarrow()
        verify(folder)
        self._model = Model.load(folder)
        self.name = name
        self.version = digest(folder)[:VERSION_LENGTH]
        self.signature = self._model.signature
        self.schema = row_schema(self.signature)
        self.metrics = Metrics("predictor", name, self.version, self.signature["task"])
        self.largest_difference = self._reproduce(folder)

    async def start(self) -> None:
        """Nothing to do: a predictor is loaded, and proven, when it is made."""

    async def stop(self) -> None:
        """Nothing to give back."""

    async def ready(self) -> bool:
        return True

    async def predict(self, columns: dict[str, list[Any]]) -> npt.NDArray[np.float32]:
        # On the event loop: a row takes less time than handing it to a thread.
        return self._model.predict(columns)

    def _reproduce(self, folder: Path) -> float:
        """The largest difference to the package's reference predictions, sent as a client would."""
        reference = read_json(folder / "reference.json")
        names, values = list(reference["rows"]), reference["rows"].values()
        rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        expected = np.array(reference["predictions"], np.float64)
        try:
            found = self._model.predict(self.schema.from_instances({"instances": rows}))
        except RequestError as error:
            raise UserError(
                f"{folder}: the serving runtime refuses the package's own reference rows: {error}",
                "Register the model again.",
            ) from None
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=TOLERANCE, atol=TOLERANCE
        ):
            raise UserError(
                f"{folder}: the model does not reproduce its reference predictions to {TOLERANCE}.",
                "Train it again; do not serve this package.",
            )
        return float(np.abs(found - expected).max())
