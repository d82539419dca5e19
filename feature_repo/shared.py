"""The online store that many processes share: Feast's Redis, its state beside the values.

Two generations of the store take turns, as two projects of Feast: `<name>_a` and `<name>_b`. One is
read while the other is built anew; then the state names the new one, and the old fades an hour
later. The state is a key of Redis: it is read in the same round trip as the features, and a Redis
that has lost its values has lost it too.

Training runs and the materialisation of the newest data write to one store: one at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import definitions, feast_project
from feature_repo.store import open_store, quiet, store_config
from slipway.errors import UserError
from slipway.online_store import GENERATIONS, alone, entity_keys, state_key
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig
    from redis import Redis

FADE = 3600
"""Seconds that an old generation stays, for readers that have not opened the new one yet."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def redis_config(project: Project, place: Path) -> RedisOnlineStoreConfig:
    """The online store of the Feast configuration at `place`. Raises `UserError` for one that is
    not a single Redis."""
    online = store_config(project, place).online_store
    kind = online.type if online.type != "redis" else online.redis_type.value
    if kind != "redis":
        raise UserError(
            f"{place}: the online store is of the type {kind}.",
            "Slipway reads one Redis (or Valkey): `type: redis`, without redis_type.",
        )
    return online


def materialize_shared(
    project: Project, feature_version: str, moment: datetime, place: Path, back: bool = True
) -> int:
    """Bring the Redis of the Feast configuration at `place` to `moment`; returns the entity rows
    it holds. A killed run changes nothing for readers, and the next one mends it.

    Not `back`: a store of the same project version that has reached a later moment stays there.
    """
    config = redis_config(project, place)
    client = open_store(project, place)._get_provider().online_store._get_client(config)
    with alone(client, feast_project(project)) as check:
        state = json.loads(client.get(state_key(feast_project(project))) or "{}")
        known = state.get("project_version") == project.version
        if known and not back and datetime.fromisoformat(state["moment"]) > moment:
            return int(state["rows"])
        return _fill(client, project, state, feature_version, moment, place, check)


def _fill(
    client: Redis,
    project: Project,
    state: dict[str, Any],
    feature_version: str,
    moment: datetime,
    place: Path,
    check: Callable[[], None],
) -> int:
    key = state_key(feast_project(project))
    same = state.get("feature_version") == feature_version
    reached = datetime.fromisoformat(state["moment"]) if same else None
    # Where a killed run was going, values of that later moment may lie already.
    furthest = datetime.fromisoformat(state["reaching"]) if same else None
    if reached == furthest == moment:
        return int(state["rows"])
    grows = furthest is not None and furthest <= moment
    old = state.get("generation")
    generation = old if grows else next(one for one in GENERATIONS if one != old)
    store = open_store(project, place, generation=generation)
    if grows:
        client.set(key, json.dumps(state | {"reaching": moment.isoformat()}))
    else:
        for keys in entity_keys(client, store.project):
            client.unlink(*keys)
    with quiet():
        if not grows:
            store.apply(definitions(project, feature_version))
        store.materialize(reached if grows and reached else _BEGINNING, moment)
    rows = _count(client, store)
    state = {
        "feature_version": feature_version,
        "project_version": project.version,
        "generation": generation,
        "moment": moment.isoformat(),
        "reaching": moment.isoformat(),
        "rows": rows,
        "filled": time.time(),
    }
    check()
    client.set(key, json.dumps(state))
    if old and not grows:
        _fade(client, f"{feast_project(project)}{old}")
    return rows


def _count(client: Redis, store: FeatureStore) -> int:
    from feast.infra.online_stores.helpers import compute_versioned_name

    versions = store.config.registry.enable_online_feature_view_versioning
    stamps = [
        f"_ts:{compute_versioned_name(view, versions)}" for view in store.list_feature_views()
    ]
    rows = 0
    for keys in entity_keys(client, store.project):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, stamps)
            rows += sum(stamp is not None for found in pipe.execute() for stamp in found)
    return rows


def _fade(client: Redis, project: str) -> None:
    for keys in entity_keys(client, project):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                # `lt`: a shorter life, by Feast's key_ttl_seconds, stays.
                pipe.expire(key, FADE, lt=True)
            pipe.execute()
