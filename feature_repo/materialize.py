"""The online store at a moment: for each entity, the newest values known by then."""

from __future__ import annotations

import io
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import definitions
from feature_repo.store import ONLINE, REGISTRY, open_store
from slipway.files import read_json, write_json
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore

STATE = "state.json"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def materialize(project: Project, feature_version: str, moment: datetime, folder: Path) -> int:
    """Bring the embedded store in `folder` to `moment`; returns how many entity rows it holds.

    Afterwards `state.json` names the feature version and the moment. The same moment again is a
    no-op, a later one adds what became known since, an earlier one or another feature version
    builds a new file and renames it: readers of the old file keep it until they open the store
    again. A killed run leaves a state without a moment, and the next one builds anew.

    Values older than their view's TTL are there too, with their timestamps: a reader compares these
    with the moment of its request. Feast's SQLite store keeps them to the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moment = moment.astimezone(UTC)
    state = _state(folder)
    same = state.get("feature_version") == feature_version and state["moment"]
    reached = datetime.fromisoformat(state["moment"]) if same else None
    if reached == moment:
        return int(state["rows"])
    if reached and reached > moment:
        reached = None
    target = {"feature_version": feature_version, "moment": None, "rows": None}
    write_json(folder / STATE, target)
    online = ONLINE if reached else f"{ONLINE}.new"
    if not reached:
        for name in (online, f"{online}-journal", REGISTRY):
            (folder / name).unlink(missing_ok=True)
    store = open_store(project, folder, online)
    with _quiet():
        if not reached:
            store.apply(definitions(project, feature_version))
        store.materialize(reached or _BEGINNING, moment)
    _close(store)
    if not reached:
        # The journal of a killed run would be played back into the new file.
        (folder / f"{ONLINE}-journal").unlink(missing_ok=True)
        os.replace(folder / online, folder / ONLINE)
    rows = _count(folder / ONLINE)
    write_json(folder / STATE, target | {"moment": moment.isoformat(), "rows": rows})
    return rows


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return read_json(path) if path.is_file() else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Feast's progress bars, and its word on every look into the registry."""
    logger = logging.getLogger("feast")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _close(store: FeatureStore) -> None:
    connection = store._get_provider().online_store._conn
    if connection is not None:
        connection.close()


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "select name from sqlite_master where type = 'table'"
        ).fetchall()
        return sum(
            connection.execute(
                f'select count(distinct entity_key) from "{name}"'  # noqa: S608
            ).fetchone()[0]
            for (name,) in tables
        )
