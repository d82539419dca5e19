"""The embedded store: Feast's SQLite file in a folder, with the state beside it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from feature_repo.materialize import STATE
from feature_repo.store import ONLINE
from serving.online.layout import Layout, Record, StoreFailure, View, value_reader
from slipway.contract.units import parse_instant
from slipway.errors import UserError
from slipway.files import read_json

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger("serving")
BUSY = 0.02
"""Seconds to wait for a lock: nobody else should hold one, and the event loop waits meanwhile."""


class SqliteSource:
    """Reads on the event loop without suspending: a row of eight views takes about 0.1 ms.

    `resolve` gives the layout of the store that `open_store` opens. The store may be materialised
    again at any time: `state.json` is renamed into place then, and the new file is opened. Raises
    `UserError` for a store that is there and lacks features of the model.
    """

    down = False

    def __init__(
        self,
        folder: Path,
        open_store: Callable[[], FeatureStore],
        resolve: Callable[[FeatureStore], Layout],
    ) -> None:
        self._folder, self._open_store, self._resolve = folder, open_store, resolve
        self._value = value_reader()
        self._seen: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self.layout: Layout | None = None
        self.moment, self.filled = 0, 0.0
        self._refresh()

    async def start(self) -> None:
        """Nothing to do: the store was opened when this was made."""

    async def close(self) -> None:
        if self._connection:
            self._connection.close()

    def refresh(self) -> None:
        """Open the store if it was materialised since; if that fails, what is open stays in use,
        and the log says why."""
        try:
            self._refresh()
        except Exception as error:
            log.error("%s was not opened: %s", self._folder, error)

    def _refresh(self) -> None:
        try:
            status = (self._folder / STATE).stat()
        except FileNotFoundError:
            return
        seen = status.st_mtime_ns, status.st_ino
        if seen == self._seen:
            return
        self._seen = seen
        state = read_json(self._folder / STATE)
        # Without a moment it is being written: what is open stays in use.
        if state["moment"] is not None:
            self._open(state)
            self.filled = status.st_mtime

    def _open(self, state: Mapping[str, Any]) -> None:
        layout = self._resolve(self._open_store())
        path = (self._folder / ONLINE).resolve()
        try:
            connection = sqlite3.connect(
                f"{path.as_uri()}?mode=ro", timeout=BUSY, uri=True, isolation_level=None
            )
            # One transaction for all reads: without the locks of each they take half the time, and
            # nobody can write to what is read here. `materialize` writes a new file instead.
            connection.execute("begin")
            connection.execute("select 1 from sqlite_master").fetchall()
        except sqlite3.Error as error:
            raise UserError(f"{path}: {error}.", "Materialise the store again.") from None
        if self._connection:
            self._connection.close()
        self._connection, self.layout = connection, layout
        self.moment = round(parse_instant(state["moment"]).timestamp() * 1_000_000)
        log.info("features %s as of %s", state["feature_version"], state["moment"])

    async def fetch(
        self, keys: Mapping[tuple[str, ...], Sequence[bytes]]
    ) -> list[dict[bytes, Record]]:
        """What the store holds of each view's entity keys, in the layout's order of views; unknown
        ones are left out. Raises `StoreFailure`."""
        assert self.layout is not None  # noqa: S101 (the keys were made with it)
        project = self.layout.project
        try:
            return [self._read(project, view, keys[view.entities]) for view in self.layout.views]
        except (sqlite3.Error, DecodeError) as error:
            raise StoreFailure(f"{self._folder / ONLINE}: {error}") from error

    def _read(self, project: str, view: View, keys: Sequence[bytes]) -> dict[bytes, Record]:
        assert self._connection is not None  # noqa: S101 (there is a layout, so it is open)
        marks = ",".join("?" * len(keys))
        rows = self._connection.execute(
            f"select entity_key, feature_name, value, event_ts "  # noqa: S608
            f'from "{project}_{view.stored}" where entity_key in ({marks})',
            keys,
        )
        found: dict[bytes, Record] = {}
        positions, read = view.positions, self._value
        for key, name, value, seconds in rows:
            record = found.get(key)
            if record is None:
                record = found[key] = seconds * 1_000_000, [None] * len(positions)
            place = positions.get(name)
            if place is not None:
                record[1][place] = read(value)
        return found
