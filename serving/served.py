"""One version of a model, loaded and proven, with everything that answers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.explain import Explainer
from serving.inference import Inference, LocalModel, RemoteModel, Worker
from serving.metrics import Metrics, Tally
from serving.settings import Settings
from slipway.errors import UserError
from slipway.files import read_json
from slipway.package import Model, digest, verify
from slipway.schema import Columns, RequestError, Schema, request_schema, row_schema

if TYPE_CHECKING:
    from serving.online import OnlineFeatures
    from serving.payload import PayloadLog

TOLERANCE = 1e-6
VERSION_LENGTH = 12
"""A model's version in answers and metrics is the start of its package's digest."""


@dataclass(frozen=True)
class Served:
    package: Path
    version: str
    signature: dict[str, Any]
    schemas: tuple[Schema, ...]
    """The rows that clients may send, the usual one first: entity keys and request features, or
    full rows of raw features."""
    features: OnlineFeatures | None
    model: Inference
    explainer: Explainer | None
    payload: PayloadLog | None
    tally: Tally

    @property
    def schema(self) -> Schema:
        return self.schemas[0]

    def schema_of(self, names: Iterable[str]) -> Schema:
        """The schema of rows that have these fields, else the usual one."""
        found = set(names)
        return next((item for item in self.schemas if found == set(item.names)), self.schema)

    def schema_of_width(self, width: int) -> Schema:
        return next((item for item in self.schemas if len(item.fields) == width), self.schema)

    def lacks_features(self, columns: Columns) -> bool:
        """Whether the online features are still to be read."""
        return self.features is not None and len(columns) == len(self.schema.fields)

    async def start(self) -> None:
        """Raises `UserError` for an online store that is not right."""
        if self.features is not None:
            await self.features.start()

    async def ready(self) -> bool:
        return (self.features is None or self.features.ready()) and await self.model.ready()

    async def close(self) -> None:
        if self.features is not None:
            await self.features.close()
        await self.model.close()
        if self.payload is not None:
            # It waits for the disk.
            await asyncio.get_running_loop().run_in_executor(None, self.payload.close)


def load(settings: Settings, metrics: Metrics, worker: Worker) -> Served:
    """Load the package as it is now. Raises `UserError` for one that is not right."""
    # A link that is turned to the next package meanwhile must not mix the two.
    package = settings.package.resolve()
    verify(package)
    signature = read_json(package / "signature.json")
    version = digest(package)[:VERSION_LENGTH]
    rows = row_schema(signature)
    features = None
    schemas: tuple[Schema, ...] = (rows,)
    if settings.role != "predictor" and signature["views"]:
        if settings.feature_store is None:
            raise UserError(
                f"The model '{settings.name}' reads online features.",
                "Name their store with --feature_store.",
            )
        from serving.online import OnlineFeatures

        features = OnlineFeatures(settings.feature_store, package, settings.clock, metrics)
        schemas = (request_schema(signature), rows)
    tally = metrics.of(version, signature["classes"])
    model: Inference
    explainer = None
    if settings.role == "transformer":
        model = RemoteModel(
            settings.name, rows, settings.predictor, settings.predictor_protocol, tally
        )
    else:
        loaded = Model.load(package)
        reproduce(package, loaded)
        model = LocalModel(loaded, tally, worker)
        explainer = Explainer(package, loaded)
    payload = None
    if settings.payload_log is not None:
        from serving.payload import PayloadLog

        payload = PayloadLog(settings.payload_log, signature, settings.name, metrics)
    return Served(package, version, signature, schemas, features, model, explainer, payload, tally)


def reproduce(package: Path, model: Model) -> float:
    """The largest difference to the package's reference predictions, read as a client's request.

    Raises `UserError` for a model that does not answer as it did when it was registered.
    """
    reference = read_json(package / "reference.json")
    names, values = list(reference["rows"]), reference["rows"].values()
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    expected = np.array(reference["predictions"], np.float64)
    try:
        columns = row_schema(model.signature).from_instances({"instances": rows})
    except RequestError as error:
        raise UserError(
            f"{package}: the serving runtime refuses the package's own reference rows: {error}",
            "Register the model again.",
        ) from None
    found = model.predict(columns)
    if found.shape != expected.shape or not np.allclose(
        found, expected, rtol=TOLERANCE, atol=TOLERANCE
    ):
        raise UserError(
            f"{package}: the model does not reproduce its reference predictions to {TOLERANCE}.",
            "Train it again; do not serve this package.",
        )
    return float(np.abs(found - expected).max())
