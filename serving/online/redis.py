"""The shared store: Feast's Redis, read in one round trip, its state with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from serving.online.layout import Layout, Record, StoreFailure, value_reader
from serving.online.link import Address, Link, pack
from slipway.contract.units import parse_instant
from slipway.errors import UserError

if TYPE_CHECKING:
    from feast import FeatureStore

log = logging.getLogger("serving")
LOOK = 1.0
"""Seconds between two looks at the state where no request has one."""
AGAIN = 5.0
"""Seconds to the next attempt where Feast's registry could not be read."""


class RedisSource:
    """Made before the event loop runs; lives on it from `start` to `close`.

    `open_store(generation)` opens Feast, `resolve` gives its layout: both in a thread, when the
    state names another feature version or generation. Until that is done the old one is read.
    """

    def __init__(
        self,
        link: Link,
        state_key: str,
        open_store: Callable[[str], FeatureStore],
        resolve: Callable[[FeatureStore], Layout],
    ) -> None:
        self._link, self._open_store, self._resolve = link, open_store, resolve
        self._value, self._moment = value_reader(), _moment_reader()
        self._get_state = pack("GET", state_key)
        self._state: bytes | None = None
        self._opened: tuple[str, str] | None = None
        self._hashes: list[_Hash] = []
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.layout: Layout | None = None
        self.moment, self.filled = 0, 0.0

    @property
    def down(self) -> bool:
        return self._link.down

    async def start(self) -> None:
        """Raises `UserError` for a store that is there and lacks features of the model."""
        await self._link.start()
        try:
            await self._look()
        except UserError:
            await self.close()
            raise
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._link.close()

    def refresh(self) -> None:
        """Nothing to do: each answer brings the state along."""

    async def fetch(
        self, keys: Mapping[tuple[str, ...], Sequence[bytes]]
    ) -> list[dict[bytes, Record]]:
        """What the store holds of each view's entity keys, in the layout's order of views; unknown
        ones are left out. Raises `StoreFailure`."""
        hashes = self._hashes
        commands = [item.command(key) for item in hashes for key in keys[item.entities]]
        # The state comes last: if it is there, so was every value before.
        commands.append(self._get_state)
        answers = await self._link.ask(b"".join(commands), len(commands))
        state = answers.pop()
        if state is None:
            raise StoreFailure("Redis has lost the store's state, and with it the values")
        if state != self._state:
            self._changed.set()
        found: list[dict[bytes, Record]] = [{} for item in hashes for _ in item.views]
        rest = iter(answers)
        try:
            for item in hashes:
                for key in keys[item.entities]:
                    self._read(item, key, next(rest), found)
        except DecodeError as error:
            raise StoreFailure(f"a value is not Feast's: {error}") from error
        return found

    def _read(
        self, item: _Hash, key: bytes, values: list[bytes | None], found: list[dict[bytes, Record]]
    ) -> None:
        for place, start, end in item.views:
            stamp = values[start]
            if stamp is not None:
                # Empty is a protobuf without fields: the epoch's first moment, and a null.
                features = [
                    self._value(value) if value else None for value in values[start + 1 : end]
                ]
                found[place][key] = (self._moment(stamp), features)

    async def _watch(self) -> None:
        while True:
            self._changed.clear()
            await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._changed.wait()

    async def _look(self) -> None:
        """Follow the state. Raises `UserError` only while nothing is open."""
        try:
            [state] = await self._link.ask(self._get_state, 1)
        except StoreFailure:
            return
        if state is None or state == self._state:
            return
        try:
            await self._follow(json.loads(state))
        except UserError as error:
            log.error("the online store was not opened: %s", error)
            if self._task is None:
                raise
        except Exception as error:
            log.error("Feast's registry cannot be read: %s: %s", type(error).__name__, error)
            await asyncio.sleep(AGAIN if self._task else 0)
            return
        self._state = state

    async def _follow(self, state: Mapping[str, Any]) -> None:
        opened = state["feature_version"], state["generation"]
        if opened != self._opened:
            layout = await asyncio.to_thread(self._resolve_layout, state["generation"])
            self._hashes = _hashes(layout)
            self.layout, self._opened = layout, opened
            log.info("features %s as of %s", state["feature_version"], state["moment"])
        self.moment = round(parse_instant(state["moment"]).timestamp() * 1_000_000)
        self.filled = state["filled"]

    def _resolve_layout(self, generation: str) -> Layout:
        return self._resolve(self._open_store(generation))


@dataclass(frozen=True, slots=True)
class _Hash:
    """The command that reads all views of one combination of entities: they share a hash."""

    entities: tuple[str, ...]
    views: tuple[tuple[int, int, int], ...]
    """Of each view: its place in the layout, and where its values start and end in the answer: its
    moment, then its features."""
    project: bytes
    head: bytes
    tail: bytes

    def command(self, key: bytes) -> bytes:
        return b"%b$%d\r\n%b%b%b" % (
            self.head,
            len(key) + len(self.project),
            key,
            self.project,
            self.tail,
        )


def _hashes(layout: Layout) -> list[_Hash]:
    from feast.infra.online_stores.helpers import _mmh3

    hashes = []
    for entities in layout.keys:
        fields: list[bytes] = []
        views = []
        for place, view in enumerate(layout.views):
            if view.entities == entities:
                start = len(fields)
                fields.append(f"_ts:{view.stored}".encode())
                fields += [_mmh3(f"{view.stored}:{name}") for name in view.positions]
                views.append((place, start, len(fields)))
        head = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
        tail = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)
        hashes.append(_Hash(entities, tuple(views), layout.project.encode(), head, tail))
    return hashes


def _moment_reader() -> Callable[[bytes], int]:
    """From Feast's stored timestamp to microseconds since 1970."""
    from google.protobuf.timestamp_pb2 import Timestamp

    parse = Timestamp.FromString

    def read(data: bytes) -> int:
        stamp = parse(data)
        return int(stamp.seconds) * 1_000_000 + int(stamp.nanos) // 1000

    return read


def address(connection_string: str, file: Path) -> Address:
    """Where Feast's `connection_string` leads, as Feast's own client would read it. Raises
    `UserError` for one that is wrong."""
    from feast.infra.online_stores.redis import RedisOnlineStore
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        nodes, options = RedisOnlineStore._parse_connection_string(connection_string)
        [node] = nodes
        client: Any = Redis(host=node["host"], port=int(node["port"]), **options)
        connection = client.connection_pool.make_connection()
        tls = connection.ssl_context.get() if options.get("ssl") else None
    except (TypeError, ValueError, KeyError, OSError, RedisError) as error:
        # Without its text, which may hold a secret.
        raise UserError(
            f"{file}: the connection_string of the online store is wrong ({type(error).__name__}).",
            "Write host:port,ssl=true,username=NAME,password=SECRET,db=0; all but host:port may "
            "be left out.",
        ) from None
    greeting: list[tuple[Any, ...]] = []
    if connection.password is not None:
        user = [connection.username] if connection.username else []
        greeting.append(("AUTH", *user, connection.password))
    if connection.db:
        greeting.append(("SELECT", connection.db))
    return Address(connection.host, connection.port, tls, (*greeting, ("PING",)))
