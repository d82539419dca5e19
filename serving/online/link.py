"""One connection to Redis that all requests of a process share, and that comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any

import hiredis

from serving.online.layout import StoreFailure

log = logging.getLogger("serving")
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between attempts to connect: doubled after each that failed."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    tls: ssl.SSLContext | None
    greeting: tuple[tuple[Any, ...], ...]
    """Commands that each connection begins with, such as AUTH: all must be answered well."""

    def __str__(self) -> str:
        return f"Redis at {self.host}:{self.port}"


def pack(*words: Any) -> bytes:
    packed: bytes = hiredis.pack_command(words)
    return packed


class Link:
    """Keeps a connection up from `start` to `close`.

    `patience` is the longest, in seconds, that a request waits; the connection that is slower ends,
    because answers come in order. `connect_patience` bounds an attempt to connect. While Redis is
    known to be down, requests fail at once.
    """

    def __init__(self, address: Address, patience: float, connect_patience: float) -> None:
        self._address, self._patience = address, patience
        self._connect_patience = connect_patience
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason = "not connected yet"
        # Cleared while the first attempt after a good connection lasts: requests wait for it.
        self._settled = asyncio.Event()

    @property
    def down(self) -> bool:
        """Whether the last attempt to connect failed."""
        return self._wire is None and self._settled.is_set()

    async def start(self) -> None:
        """Returns when the first attempt to connect has ended, well or not."""
        self._task = asyncio.create_task(self._keep())
        await self._settled.wait()

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._wire:
            self._wire.end("the server stops")

    async def ask(self, commands: bytes, count: int) -> list[Any]:
        """The answers to `count` packed commands. Raises `StoreFailure`."""
        if self._wire is None and not self._settled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._settled.wait()
        if self._wire is None:
            raise StoreFailure(self._reason)
        return await self._wire.ask(commands, count)

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            try:
                async with asyncio.timeout(self._connect_patience):
                    self._wire = wire = await self._connect()
            except (OSError, UnicodeError, StoreFailure) as error:  # also TimeoutError and TLS
                self._say_down(str(error) or type(error).__name__)
            else:
                if pause:
                    log.warning("%s: connected again.", self._address)
                self._settled.set()
                self._reason = await wire.lost
                self._wire = None
                if wire.served:
                    pause = 0.0
                    self._settled.clear()
                    continue
                self._say_down(self._reason)
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _connect(self) -> _Wire:
        address = self._address
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: _Wire(self._patience), address.host, address.port, ssl=address.tls
        )
        try:
            await wire.ask(
                b"".join(pack(*words) for words in address.greeting), len(address.greeting)
            )
        except BaseException:
            wire.end("the greeting failed")
            raise
        wire.served = False
        return wire

    def _say_down(self, reason: str) -> None:
        if reason != self._reason or not self._settled.is_set():
            log.error("%s does not answer: %s", self._address, reason)
        self._reason = reason
        self._settled.set()


class _Wire(asyncio.Protocol):
    """One connection: commands out, answers in, in the same order."""

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._reader = hiredis.Reader()
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "the connection was closed"
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.served = False
        """Whether it has answered anything."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def ask(self, commands: bytes, count: int) -> list[Any]:
        if self._transport is None or self.lost.done():
            raise StoreFailure(self._reason)
        now = self._loop.time()
        waiting = _Waiting(self._loop.create_future(), count, [], now + self._patience)
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.until, self._check)
        self._transport.write(commands)
        answers = await waiting.future
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                raise StoreFailure(str(answer))
        return answers

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                waiting = self._waiting[0]
                waiting.answers.append(answer)
                if len(waiting.answers) == waiting.count:
                    self._waiting.popleft()
                    self.served = True
                    # The one who asked may have gone.
                    if not waiting.future.done():
                        waiting.future.set_result(waiting.answers)
        except (hiredis.ProtocolError, IndexError):
            self.end("it does not speak Redis's protocol")

    def _check(self) -> None:
        # After a busy turn of the event loop, what has arrived was read before this.
        self._timer = None
        if not self._waiting:
            return
        until = self._waiting[0].until
        if until > self._loop.time():
            self._timer = self._loop.call_at(until, self._check)
        else:
            self.end(f"no answer in {self._patience * 1000:.0f} ms")

    def end(self, reason: str) -> None:
        """Fails what is in flight, now."""
        self._reason = reason
        if self._transport:
            self._transport.abort()
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.lost.done():
            return
        if self._timer:
            self._timer.cancel()
        if error:
            self._reason = str(error)
        self.lost.set_result(self._reason)
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(StoreFailure(self._reason))
        self._waiting.clear()


@dataclass(slots=True, eq=False)
class _Waiting:
    future: asyncio.Future[list[Any]]
    count: int
    answers: list[Any]
    until: float
