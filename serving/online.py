"""Feast's online features for rows of entities: by name, not older than their TTL."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from feature_repo.materialize import STATE
from feature_repo.store import open_store
from serving.metrics import Metrics
from slipway.contract import load_contract
from slipway.contract.units import parse_instant
from slipway.errors import UserError
from slipway.files import read_json
from slipway.imports import import_feast
from slipway.project import Project
from slipway.schema import RequestError

if TYPE_CHECKING:
    from feast import FeatureStore

Clock = Literal["wall", "store"]
log = logging.getLogger("serving")


class OnlineFeatures:
    """The online store of one model's feature service, which may not be there yet.

    `clock` is what a value's age is measured against: `wall`, or `store`: the moment up to which
    the store was materialised, for data that ended in the past. The store may be materialised
    again at any time: `state.json` in its folder says so, and it is opened anew.
    """

    def __init__(self, folder: Path, package: Path, clock: Clock, metrics: Metrics) -> None:
        import_feast()
        from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

        self._folder, self._clock, self._metrics = folder, clock, metrics
        contract = package / "contract.yaml"
        self._project = Project(contract, load_contract(contract), "")
        signature = read_json(package / "signature.json")
        self._views = signature["views"]
        self._entities = {name: item["type"] for name, item in signature["entities"].items()}
        self._features: dict[str, list[tuple[str, bool]]] = {name: [] for name in self._views}
        for item in signature["features"]:
            if item["source"] != "request":
                self._features[item["source"]].append((item["name"], item["on_null"] == "refuse"))
        self._service_name = signature["name"]
        self._present = FieldStatus.PRESENT
        self._seen: tuple[int, int] | None = None
        self._store: FeatureStore | None = None
        self.ready()

    def ready(self) -> bool:
        """Whether there is a store; opens it anew if it was materialised since. Raises `UserError`
        for a store that lacks features of the model."""
        try:
            status = (self._folder / STATE).stat()
        except FileNotFoundError:
            return False
        # The state is renamed into place before and after every materialisation.
        seen = status.st_mtime_ns, status.st_ino
        if seen != self._seen:
            state = read_json(self._folder / STATE)
            # Without a moment it is being written: what is open stays in use.
            if state["moment"] is not None:
                self._open(state)
            self._seen = seen
        return self._store is not None

    def read(self, entities: Mapping[str, list[Any]], first: int = 0) -> dict[str, list[Any]]:
        """Entity values, n rows each, to every online feature as `view__feature`.

        Missing is null: an unknown entity, a null one, a null value, one older than its view's TTL.
        `first` is the number of the first row in the request. Raises `RequestError` (422) where
        the contract refuses a request without the feature.
        """
        if not self.ready() or self._store is None:
            raise RequestError("The online store is not filled yet.", 503)
        response = self._store.get_online_features(
            features=self._service,
            entity_rows=self._filled(entities),
            full_feature_names=True,
        ).proto
        # The order of columns changes with the process's hash seed: only names are safe.
        vectors = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
        columns: dict[str, list[Any]] = {}
        for view in self._views:
            columns |= self._read_view(view, entities, vectors, first)
        return columns

    def _read_view(
        self, view: str, entities: Mapping[str, list[Any]], vectors: Mapping[str, Any], first: int
    ) -> dict[str, list[Any]]:
        keys = self._views[view]["entities"]
        ttl = self._views[view]["ttl_seconds"]
        stamps = [
            stamp.seconds + stamp.nanos * 1e-9
            for stamp in vectors[self._features[view][0][0]].event_timestamps
        ]
        known = [
            # Feast's timestamp of an entity that it does not know is the epoch's first moment,
            # which is also a real one: the statuses tell.
            any(vectors[name].statuses[row] == self._present for name, _ in self._features[view])
            and all(entities[key][row] is not None for key in keys)
            for row in range(len(stamps))
        ]
        oldest = -math.inf if ttl is None else self._now() - ttl
        fresh = [found and stamp >= oldest for found, stamp in zip(known, stamps, strict=True)]
        self._metrics.features(view, known.count(False), known.count(True) - fresh.count(True))
        columns = {}
        for name, needed in self._features[view]:
            columns[name] = [
                _python(value) if ok else None
                for value, ok in zip(vectors[name].values, fresh, strict=True)
            ]
            if needed and None in columns[name]:
                row = columns[name].index(None)
                shown = ", ".join(f"{key}={entities[key][row]!r}" for key in keys)
                why = "is null" if fresh[row] else "is too old" if known[row] else "is unknown"
                raise RequestError(
                    f"row {first + row}: the feature '{name}' {why} for {shown}, "
                    "and the model does not answer without it.",
                    422,
                )
        return columns

    def _check_features(self) -> None:
        held = {
            f"{view.name}__{feature.name}"
            for view in self._service.feature_view_projections
            for feature in view.features
        }
        needed = [name for features in self._features.values() for name, _ in features]
        lacking = [name for name in needed if name not in held]
        if lacking:
            raise UserError(
                f"{self._folder}: the model needs {', '.join(lacking)}, the online store lacks it.",
                "Materialise it from the feature version that the model was trained on.",
            )

    def _filled(self, entities: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Feast fails on a null key: any value does, because `_read_view` ignores what it finds."""
        filler = {"string": "", "int": 0}
        return {
            name: [filler[kind] if value is None else value for value in entities[name]]
            for name, kind in self._entities.items()
        }

    def _now(self) -> float:
        return time.time() if self._clock == "wall" else self._moment

    def _open(self, state: Mapping[str, Any]) -> None:
        moment = parse_instant(state["moment"])
        self._moment = moment.timestamp()
        self._store = open_store(self._project, self._folder)
        self._service = self._store.get_feature_service(self._service_name)
        self._check_features()
        log.info("features %s as of %s", state["feature_version"], moment.isoformat())
        if self._clock == "store":
            log.warning(
                "THE CLOCK STANDS STILL: a feature's age is measured against %s, when the store "
                "was materialised, not against now, %s: right for old data, wrong in production.",
                moment.isoformat(),
                datetime.now(UTC).isoformat(timespec="seconds"),
            )


def _python(value: Any) -> Any:
    """The Python value of Feast's protobuf; null for NaN, which JSON does not have."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    plain = getattr(value, kind)
    return None if plain != plain else plain
