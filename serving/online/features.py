"""Feast's online features for rows of entities: by name, not older than their TTL."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from feature_repo.definitions import feast_project
from feature_repo.shared import redis_config
from feature_repo.store import config_file, open_store
from serving.online.layout import Record, StoreFailure, resolve
from serving.online.link import Link
from serving.online.redis import RedisSource, address
from serving.online.sqlite import SqliteSource
from slipway.contract import load_contract
from slipway.files import read_json
from slipway.imports import import_feast
from slipway.online_store import state_key
from slipway.project import Project
from slipway.schema import RequestError

if TYPE_CHECKING:
    from serving.metrics import Metrics

Clock = Literal["wall", "store"]
log = logging.getLogger("serving")

BLOCK = 200
"""Rows of one read, a few milliseconds: the event loop turns between two of them."""
SAID = 10.0
"""Seconds in which a failing store is named once in the log."""


class Tally(Protocol):
    def features(self, view: str, missing: int, stale: int) -> None:
        """Count rows of unknown entities, and rows whose values were too old."""


class OnlineFeatures:
    """The online features of one model; their store may not be there yet.

    `store` is the folder of an embedded store, or a Feast configuration (a YAML file, or the folder
    of a `feature_store.yaml`) with Redis online. `clock` is what a value's age is measured against:
    `wall`, or `store`: the moment up to which the store was materialised, for data that ended in
    the past. The store may be materialised again at any time, and is opened anew then.

    A request waits `patience` seconds at most for each block of rows; reads that fail are counted.
    Raises `UserError`, also in `start`, for a wrong configuration, or a store that lacks features
    of the model.
    """

    def __init__(
        self,
        store: Path,
        package: Path,
        clock: Clock,
        metrics: Metrics,
        patience: float = 0.1,
        connect_patience: float = 1.0,
    ) -> None:
        import_feast()
        # It tells of every look into its registry.
        logging.getLogger("feast").setLevel(logging.WARNING)
        self._clock, self._metrics, self._said = clock, metrics, -math.inf
        contract = package / "contract.yaml"
        project = Project(contract, load_contract(contract), "")
        signature = read_json(package / "signature.json")
        self._entities = list(signature["entities"])
        self._views = [
            _View(name, view, signature["features"]) for name, view in signature["views"].items()
        ]
        # A null that the contract refuses is not made up either.
        self._nulls = signature["serving"]["on_store_failure"] == "nulls" and not any(
            view.needed for view in self._views
        )
        find = partial(resolve, signature=signature)
        file = config_file(store)
        self._source: SqliteSource | RedisSource
        if file is None:
            self._source = SqliteSource(store, partial(open_store, project, store), find)
        else:
            config = redis_config(project, file)
            link = Link(address(config.connection_string, file), patience, connect_patience)

            def of_generation(generation: str) -> Any:
                return open_store(project, file, generation=generation)

            key = state_key(feast_project(project))
            self._source = RedisSource(link, key, of_generation, find)
        if clock == "store":
            log.warning(
                "THE CLOCK STANDS STILL: a feature's age is measured against the moment up to "
                "which the store was materialised, not against now: right for old data, wrong in "
                "production."
            )

    async def start(self) -> None:
        """Connect; returns after the first attempt, also if the store does not answer yet."""
        await self._source.start()
        self._metrics.store_age = self.age

    async def close(self) -> None:
        await self._source.close()

    def ready(self) -> bool:
        """Whether `read` can answer. A store that fails later does not change it."""
        self._source.refresh()
        return self._source.layout is not None or (self._nulls and self._source.down)

    def age(self) -> float | None:
        """Seconds since the store was filled; None before it was opened."""
        return None if self._source.layout is None else time.time() - self._source.filled

    async def read(
        self, entities: Mapping[str, list[Any]], tally: Tally, first: int = 0
    ) -> dict[str, list[Any]]:
        """Entity values, n rows each, to every online feature as `view__feature`.

        Missing is null: an unknown entity, a null one, a null value, one older than its view's TTL.
        `first` is the number of the first row in the request. SQLite is read without suspending, up
        to `BLOCK` rows. Raises `RequestError`: 422 where the contract refuses a request without the
        feature; 503 where the store is not filled yet, or fails and the contract says to refuse.
        """
        rows = len(entities[self._entities[0]])
        try:
            if rows <= BLOCK:
                return await self._block(entities, tally, first)
            columns: dict[str, list[Any]] = {}
            for start in range(0, rows, BLOCK):
                block = {name: entities[name][start : start + BLOCK] for name in self._entities}
                for name, values in (await self._block(block, tally, first + start)).items():
                    columns.setdefault(name, []).extend(values)
                await asyncio.sleep(0)
            return columns
        except StoreFailure as failure:
            return self._without(rows, failure)

    def _without(self, rows: int, failure: StoreFailure) -> dict[str, list[Any]]:
        self._metrics.store_failed()
        if time.monotonic() > self._said + SAID:
            self._said = time.monotonic()
            log.error("the online store failed: %s", failure)
        if not self._nulls:
            raise RequestError("The online store does not answer.", 503) from None
        return {name: [None] * rows for view in self._views for name in view.features}

    async def _block(
        self, entities: Mapping[str, list[Any]], tally: Tally, first: int
    ) -> dict[str, list[Any]]:
        source = self._source
        source.refresh()
        if source.layout is None:
            if source.down:
                raise StoreFailure("it did not answer since the start")
            raise RequestError("The online store is not filled yet.", 503)
        keys = {
            names: [
                None if None in values else key(*values)
                for values in zip(*(entities[name] for name in names), strict=True)
            ]
            for names, key in source.layout.keys.items()
        }
        now = source.moment if self._clock == "store" else time.time_ns() // 1000
        found = await source.fetch(
            {
                names: [*dict.fromkeys(k for k in all_ if k is not None)]
                for names, all_ in keys.items()
            }
        )
        columns: dict[str, list[Any]] = {}
        for view, records in zip(self._views, found, strict=True):
            held = [records.get(key) if key else None for key in keys[view.entities]]
            view.fill(columns, held, now, tally)
            view.check(columns, held, entities, first)
        return columns


class _View:
    """One view of the signature: from what a store holds to columns."""

    def __init__(
        self, name: str, view: Mapping[str, Any], features: Sequence[Mapping[str, Any]]
    ) -> None:
        self.name = name
        self.entities = tuple(view["entities"])
        mine = [item for item in features if item["source"] == name]
        self.features = [item["name"] for item in mine]
        self.needed = [
            (place, item["name"]) for place, item in enumerate(mine) if item["on_null"] == "refuse"
        ]
        ttl = view["ttl_seconds"]
        self._ttl = None if ttl is None else round(ttl * 1_000_000)

    def fill(
        self, columns: dict[str, list[Any]], held: list[Record | None], now: int, tally: Tally
    ) -> None:
        """Add this view's columns; `now` is in microseconds since 1970."""
        # Whole microseconds: a value of exactly the TTL's age counts, as in training.
        oldest = -math.inf if self._ttl is None else now - self._ttl
        fresh = [
            record[1] if record is not None and record[0] >= oldest else None for record in held
        ]
        lacking = fresh.count(None)
        if lacking:
            missing = held.count(None)
            tally.features(self.name, missing, lacking - missing)
        for place, name in enumerate(self.features):
            columns[name] = [None if values is None else values[place] for values in fresh]

    def check(
        self,
        columns: Mapping[str, list[Any]],
        held: list[Record | None],
        entities: Mapping[str, list[Any]],
        first: int,
    ) -> None:
        """Raises `RequestError` (422) for the first null that the contract refuses."""
        for place, name in self.needed:
            if None not in columns[name]:
                continue
            row = columns[name].index(None)
            record = held[row]
            shown = ", ".join(f"{key}={entities[key][row]!r}" for key in self.entities)
            if record is None:
                why = "is unknown"
            else:
                why = "is null" if record[1][place] is None else "is too old"
            raise RequestError(
                f"row {first + row}: the feature '{name}' {why} for {shown}, "
                "and the model does not answer without it.",
                422,
            )
