"""What a project holds in the online store, as a file: JSON lines, its state the last.

Values and not `DUMP`: another version of Redis, or a managed one, reads them too, and nobody needs
the right to `RESTORE`, which parses whatever bytes it is given.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from slipway.errors import Fault
from slipway.online_store import GENERATIONS, alone, entity_keys, state_key

if TYPE_CHECKING:
    from redis import Redis

ANY = "latin-1"
"""Every byte is a letter in it: keys and values of Feast are no text."""
AT_ONCE = 1000
"""Commands of one round trip."""


def save(client: Redis, name: str, file: Path) -> int:
    """Write the project's live generation to `file`, packed; returns its entities.

    Waits for the run that fills it. Raises `Fault` where the store cannot be read.
    """
    entities = 0
    with _explained(), alone(client, name), gzip.open(file, "wt", encoding="utf-8") as out:
        state = cast("bytes | None", client.get(state_key(name)))
        if state is None:
            raise Fault(f"The online store has lost {name} since it was listed.")
        generation = json.loads(state)["generation"]
        for keys in entity_keys(client, f"{name}{generation}"):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hgetall(key)
                    pipe.pexpiretime(cast(str, key))  # redis-py takes bytes, its types do not.
                found = pipe.execute()
            for key, values, expires in zip(keys, found[::2], found[1::2], strict=True):
                if values:  # It may have expired since it was listed.
                    entities += 1
                    fields = {k.decode(ANY): v.decode(ANY) for k, v in values.items()}
                    line = {"key": key.decode(ANY), "fields": fields}
                    _write(out, line | ({"expires": expires} if expires > 0 else {}))
        _write(out, {"state": state.decode()})
    return entities


def load(client: Redis, name: str, file: Path) -> None:
    """Put what `save` wrote in place of all that the project holds. Until it has ended, readers
    find a store that is not filled. Raises `Fault` where the store cannot be written."""
    with _explained(), alone(client, name) as check:
        client.delete(state_key(name))
        for generation in GENERATIONS:
            for keys in entity_keys(client, f"{name}{generation}"):
                client.unlink(*keys)
        with gzip.open(file, "rt", encoding="utf-8") as lines, client.pipeline(False) as pipe:
            for line in map(json.loads, lines):
                if "state" in line:
                    pipe.execute()
                    check()
                    client.set(state_key(name), line["state"])
                    return
                key = line["key"].encode(ANY)
                fields = {k.encode(ANY): v.encode(ANY) for k, v in line["fields"].items()}
                pipe.hset(key, mapping=fields)
                if "expires" in line:
                    pipe.pexpireat(key, line["expires"])
                if len(pipe) >= AT_ONCE:
                    pipe.execute()


def _write(out: Any, line: dict[str, Any]) -> None:
    out.write(json.dumps(line) + "\n")


@contextmanager
def _explained() -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise Fault(f"The online store: {str(error).rstrip('.')}.") from None
