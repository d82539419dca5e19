"""The online store at a moment: for each entity, the newest values known by then."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import definitions
from feature_repo.shared import materialize_shared
from feature_repo.store import ONLINE, REGISTRY, config_file, open_store, quiet
from slipway.files import read_json, write_json
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore

STATE = "state.json"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def materialize(
    project: Project, feature_version: str, moment: datetime, place: Path, back: bool = True
) -> int:
    """Bring the store at `place` to `moment`; returns how many entity rows it holds.

    `place` is the folder of an embedded store, or a Feast configuration with Redis online
    (`feature_repo.store.config_file`). The same moment again is a no-op, a later one adds what
    became known since, an earlier one or another feature version builds the store anew beside the
    old one: readers of the old keep it until they open the store again. Not `back`: a shared store
    of this project version that is at a later moment already stays there.

    Values older than their view's TTL are there too, with their timestamps: a reader compares these
    with the moment of its request. Feast's SQLite store keeps them to the second.
    """
    moment = moment.astimezone(UTC)
    if config_file(place):
        return materialize_shared(project, feature_version, moment, place, back)
    return _materialize_embedded(project, feature_version, moment, place)


def _materialize_embedded(
    project: Project, feature_version: str, moment: datetime, folder: Path
) -> int:
    """`state.json` names the feature version and the moment. A killed run leaves a state without a
    moment, and the next one builds anew. What readers have open is never written to."""
    folder.mkdir(parents=True, exist_ok=True)
    state = _state(folder)
    same = state.get("feature_version") == feature_version and state["moment"]
    reached = datetime.fromisoformat(state["moment"]) if same else None
    if reached == moment:
        return int(state["rows"])
    if reached and reached > moment:
        reached = None
    target = {"feature_version": feature_version, "moment": None, "rows": None}
    write_json(folder / STATE, target)
    online = f"{ONLINE}.new"
    for name in (online, f"{online}-journal"):
        (folder / name).unlink(missing_ok=True)
    if reached:
        shutil.copyfile(folder / ONLINE, folder / online)
    else:
        (folder / REGISTRY).unlink(missing_ok=True)
    store = open_store(project, folder, online)
    with quiet():
        if not reached:
            store.apply(definitions(project, feature_version))
        store.materialize(reached or _BEGINNING, moment)
    _close(store)
    # The journal of a killed run would be played back into the new file.
    (folder / f"{ONLINE}-journal").unlink(missing_ok=True)
    os.replace(folder / online, folder / ONLINE)
    rows = _count(folder / ONLINE)
    write_json(folder / STATE, target | {"moment": moment.isoformat(), "rows": rows})
    return rows


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return read_json(path) if path.is_file() else {}


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
