"""The online store that projects share, as keys of Redis.

Each project has a state, a lock that its one writer holds, and the values of its entities: hashes
as Feast writes them, in two generations that take turns, each a project of Feast.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from slipway.errors import Fault

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

GENERATIONS = ("_a", "_b")
"""What the names of Feast's two projects end in."""
WAIT = 900
"""Seconds that a writer waits for the one before it."""
_LOCK = 60
"""Seconds after which the lock of a writer that was killed is free."""
_AT_ONCE = 1000
"""Keys of one round trip."""


def state_key(name: str) -> str:
    """The key of a project's state, JSON: `feature_version` and `project_version`, `generation`,
    `moment` up to which the store is filled, `reaching` (later than that while it is being filled
    further), `rows`, and `filled`, the Unix time when it was."""
    return f"slipway:{name}:state"


def projects(client: Redis) -> list[str]:
    """Names of the projects that have a state, sorted."""
    before, after = state_key("*").encode().split(b"*")
    found = client.scan_iter(state_key("*"), count=_AT_ONCE)
    return sorted({key.removeprefix(before).removesuffix(after).decode() for key in found})


def entity_keys(client: Redis, generation: str) -> Iterator[list[bytes]]:
    """The keys of the entities of a project of Feast, `_AT_ONCE` at most each time."""
    from feast.infra.key_encoding_utils import deserialize_entity_key

    end = generation.encode()

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


@contextmanager
def alone(client: Redis, name: str) -> Iterator[Callable[[], None]]:
    """One writer of a project's store at a time. Gives what raises `Fault` if the store was
    restarted, or taken over, meanwhile: what was written to it may be gone."""
    from redis.exceptions import RedisError

    # Without scripts, which many a Redis forbids: redis-py's own lock needs them.
    key, token = f"slipway:{name}:writer", uuid4().hex
    deadline, waiting = time.monotonic() + WAIT, False
    while not client.set(key, token, nx=True, ex=_LOCK):
        if time.monotonic() > deadline:
            raise Fault(f"Another run has been filling the online store for {WAIT} seconds.")
        if not waiting:
            log.warning("another run fills the online store: waiting for it, %d s at most", WAIT)
        waiting = True
        time.sleep(0.5)
    server, done = client.info("server").get("run_id"), threading.Event()

    def ours() -> bool:
        return bool(client.get(key) == token.encode())

    def keep() -> None:
        while not done.wait(_LOCK / 3):
            with suppress(RedisError):
                if ours():
                    client.expire(key, _LOCK)

    def check() -> None:
        if client.info("server").get("run_id") != server or not ours():
            raise Fault("The online store was restarted while it was filled: run again.")

    threading.Thread(target=keep, daemon=True).start()
    try:
        yield check
    finally:
        done.set()
        with suppress(RedisError):
            if ours():
                client.delete(key)
