"""The online store that many processes share: Feast's Redis, its state beside the values.

Two generations of the store take turns, as two projects of Feast: `<name>_a` and `<name>_b`. One is
read while the other is built anew; then the state names the new one, and the old fades an hour
later. The state is a key of Redis: it is read in the same round trip as the features, and a Redis
that has lost its values has lost it too.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.definitions import definitions, feast_project
from feature_repo.store import open_store, quiet, store_config
from slipway.errors import UserError
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig
    from redis import Redis

FADE = 3600
"""Seconds that an old generation stays, for readers that have not opened the new one yet."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 1000
"""Keys of one round trip."""


def state_key(project: Project) -> str:
    """The key of the state, JSON: `feature_version`, `generation`, `moment` up to which the store
    is filled, `reaching` (later than that while it is being filled further), `rows`, and `filled`,
    the Unix time when it was."""
    return f"slipway:{feast_project(project)}:state"


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
    project: Project, feature_version: str, moment: datetime, place: Path
) -> int:
    """Bring the Redis of the Feast configuration at `place` to `moment`; returns the entity rows
    it holds. A killed run changes nothing for readers, and the next one mends it."""
    config = redis_config(project, place)
    client = open_store(project, place)._get_provider().online_store._get_client(config)
    key = state_key(project)
    state = json.loads(client.get(key) or "{}")
    same = state.get("feature_version") == feature_version
    reached = datetime.fromisoformat(state["moment"]) if same else None
    # Where a killed run was going, values of that later moment may lie already.
    furthest = datetime.fromisoformat(state["reaching"]) if same else None
    if reached == furthest == moment:
        return int(state["rows"])
    grows = furthest is not None and furthest <= moment
    old = state.get("generation")
    generation = old if grows else "_b" if old == "_a" else "_a"
    store = open_store(project, place, generation=generation)
    if grows:
        client.set(key, json.dumps(state | {"reaching": moment.isoformat()}))
    else:
        for keys in _keys(client, store.project):
            client.unlink(*keys)
    with quiet():
        if not grows:
            store.apply(definitions(project, feature_version))
        store.materialize(reached if grows and reached else _BEGINNING, moment)
    rows = _count(client, store)
    state = {
        "feature_version": feature_version,
        "generation": generation,
        "moment": moment.isoformat(),
        "reaching": moment.isoformat(),
        "rows": rows,
        "filled": time.time(),
    }
    client.set(key, json.dumps(state))
    if old and not grows:
        _fade(client, f"{feast_project(project)}{old}")
    return rows


def _keys(client: Redis, project: str) -> Iterator[list[bytes]]:
    """The keys of the entities of a project of Feast, `_AT_ONCE` at most each time."""
    from feast.infra.key_encoding_utils import deserialize_entity_key

    end = project.encode()

    def ours(key: bytes) -> bool:
        try:
            deserialize_entity_key(key.removesuffix(end))
        except (ValueError, struct.error):
            # Of a project whose name ends like this one's.
            return False
        return True

    # Redis may show a key twice.
    found = list(set(filter(ours, client.scan_iter(b"*" + end, count=_AT_ONCE))))
    for first in range(0, len(found), _AT_ONCE):
        yield found[first : first + _AT_ONCE]


def _count(client: Redis, store: FeatureStore) -> int:
    from feast.infra.online_stores.helpers import compute_versioned_name

    versions = store.config.registry.enable_online_feature_view_versioning
    stamps = [
        f"_ts:{compute_versioned_name(view, versions)}" for view in store.list_feature_views()
    ]
    rows = 0
    for keys in _keys(client, store.project):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, stamps)
            rows += sum(stamp is not None for found in pipe.execute() for stamp in found)
    return rows


def _fade(client: Redis, project: str) -> None:
    for keys in _keys(client, project):
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                # `lt`: a shorter life, by Feast's key_ttl_seconds, stays.
                pipe.expire(key, FADE, lt=True)
            pipe.execute()
