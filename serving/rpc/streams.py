"""A request over HTTP/2 and its answer, and who answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from serving.rpc import frames
from serving.rpc.frames import frame
from serving.rpc.headers import Head

if TYPE_CHECKING:
    from serving.rpc.http2 import Connection

_LAST = frames.END_HEADERS | frames.END_STREAM


class Stream:
    """One request and its answer."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_started",
        "_trailer",
        "body",
        "ended",
        "head",
        "number",
        "pending",
        "received",
        "since",
        "task",
        "window",
    )

    def __init__(self, connection: Connection, number: int, head: Head, window: int) -> None:
        self._connection, self._started = connection, False
        self._trailer: bytes | None = None
        self._arrival: asyncio.Event | None = None
        self.number, self.head = number, head
        self.since = time.monotonic()
        """When its headers arrived, or its answer was first held up."""
        self.body = bytearray()
        self.ended = False
        """Whether the request is whole."""
        self.received = 0
        self.window = window
        self.pending = bytearray()
        self.task: asyncio.Task[None] | None = None
        """Who answers it; cancelled when the client gives up."""

    @property
    def open(self) -> bool:
        """Whether an answer can still be sent."""
        return self._trailer is None and self._connection.streams.get(self.number) is self

    @property
    def started(self) -> bool:
        return self._started

    def answer(self, head: bytes, data: bytes, trailer: bytes) -> None:
        """The whole answer: header blocks, and the body between them."""
        connection, size = self._connection, len(data)
        if not self.open:
            return
        if size <= min(self.window, connection.window, connection.max_frame):
            self.window -= size
            connection.window -= size
            connection.write(
                frame(frames.HEADERS, frames.END_HEADERS, self.number, head)
                + frame(frames.DATA, 0, self.number, data)
                + frame(frames.HEADERS, _LAST, self.number, trailer)
            )
            connection.answered(self)
        else:
            self.start(head)
            self.send(data)
            self.finish(trailer)

    def start(self, head: bytes) -> None:
        if self.open:
            self._started = True
            self._connection.write(frame(frames.HEADERS, frames.END_HEADERS, self.number, head))

    def send(self, data: bytes) -> None:
        """A part of the body, as the client's window allows."""
        if self.open:
            self.pending += data
            self.push()

    def finish(self, trailer: bytes) -> None:
        """The last header block, or none; the only one, if nothing was sent."""
        if self.open:
            self.since = time.monotonic()
            self._trailer = trailer
            self.push()

    def push(self) -> None:
        """Send what the windows allow."""
        connection = self._connection
        while self.pending:
            size = min(len(self.pending), self.window, connection.window, connection.max_frame)
            if size <= 0:
                return
            connection.write(frame(frames.DATA, 0, self.number, bytes(self.pending[:size])))
            del self.pending[:size]
            self.window -= size
            connection.window -= size
        if self._trailer is not None:
            connection.write(
                frame(frames.HEADERS, _LAST, self.number, self._trailer)
                if self._trailer
                else frame(frames.DATA, frames.END_STREAM, self.number)
            )
            connection.answered(self)

    def arrived(self) -> None:
        """Wake up who waits for more of the body."""
        if self._arrival is not None:
            self._arrival.set()

    async def more(self) -> None:
        """Wait until more of the body is here, or its end."""
        self._arrival = asyncio.Event()
        await self._arrival.wait()

    async def sent(self) -> None:
        """Wait until the client has taken what it was sent."""
        while self.pending or self._connection.full:
            await self._connection.room()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Application(Protocol):
    """Who answers. Each is called on the event loop and must not raise."""

    def opened(self, stream: Stream) -> None:
        """A request's headers are here."""

    def grew(self, stream: Stream) -> None:
        """More of its body is here, but not all of it."""

    def ended(self, stream: Stream) -> None:
        """It is whole."""

    def overdue(self, stream: Stream, now: float) -> None:
        """Called now and then, for each request that is not answered yet."""

    def abandon(self, stream: Stream) -> None:
        """The server stops and waits no longer."""
