"""HTTP/1.1 for one client's connection: httptools parses, this bounds and answers.

One request after the other: what a client sends ahead waits. A request that is too large, too slow
or not HTTP is refused here, with the same error body as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
import orjson

from serving.settings import Limits

if TYPE_CHECKING:
    from serving.server import Server

LINGER_SECONDS = 2.0
"""How long a refused client may take to read why: closing at once would throw that away."""
_STATUS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
JSON = b"content-type: application/json\r\n"
_RETRY = b"retry-after: 1\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Headers = dict[bytes, bytes]
log = logging.getLogger("serving")


class Request:
    """One request, read whole. Header names are lower-case."""

    __slots__ = ("arrived", "body", "headers", "keep_alive", "method", "old", "path")

    def __init__(self, method: bytes, path: bytes, headers: Headers, body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.arrived = time.perf_counter()
        self.keep_alive = True
        self.old = False
        """HTTP/1.0."""


class Answer:
    __slots__ = ("body", "head", "status")

    def __init__(self, body: bytes, status: int = 200, head: bytes = JSON) -> None:
        """`head`: whole header lines; what a connection needs comes by itself."""
        self.body = body
        self.status = status
        self.head = head


def failure(status: int, message: str, head: bytes = b"") -> Answer:
    """The protocol's error."""
    retry = _RETRY if status in (429, 503) else b""
    return Answer(orjson.dumps({"error": message}), status, JSON + retry + head)


Begin = Callable[[Request, Callable[[Answer], None]], None]
"""What has a request answered, now or later."""


class Connection(asyncio.Protocol):
    """A client's connection, from its first byte to its last."""

    def __init__(
        self,
        server: Server,
        begin: Begin,
        limits: Limits,
    ) -> None:
        self._server, self._begin, self._limits = server, begin, limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._pending: deque[Request] = deque()
        self._current: Request | None = None
        """What is being answered."""
        self._going = False
        self._refused = False
        """Nothing more is read."""
        self._ended = False
        """Nothing more will come."""
        self._unread = False
        """The client does not read what was written."""
        self._since = 0.0
        """When the present wait for the client began."""
        self._left = 0
        """Bytes that the client had still to read when it was last looked at."""
        self._held = 0
        """Bytes of bodies that are not answered yet."""
        self._head: int | None = 0
        """Bytes of an unfinished head; none while there is a body to read, or no head yet."""
        self._whole = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._since = time.monotonic()
        self._server.connections.add(self)
        if len(self._server.connections) > self._limits.connections:
            self._refuse(503, "Too many connections; try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._pending.clear()
        self._refused = True
        self._hold(-self._held)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        before = self._head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            log.exception("while a request was read")
            self._refuse(500, "The server failed; its log says why.")
        except httptools.HttpParserError:
            self._refuse(400, "The request is not HTTP/1.1.")
        # The bytes in which a head began may hold a body before it.
        if self._head is not None and before is not None:
            self._head += len(data)
            if self._head > self._limits.head:
                self._refuse(431, f"The headers are larger than {self._limits.head} bytes.")

    def eof_received(self) -> bool:
        # A client may close its side and still wait for its answers.
        self._ended = True
        return self._current is not None

    def pause_writing(self) -> None:
        self._unread = True
        self._since = time.monotonic()

    def resume_writing(self) -> None:
        self._unread = False
        self._go_on()

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: Headers = {}
        self._body: list[bytes] = []
        self._size = 0
        self._head = 0
        self._whole = False
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._head = None
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._limits.body:
            self._too_large()
        elif b"expect" in self._headers and not self._refused:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._limits.body:
            self._too_large()
        elif self._server.held > self._limits.buffered:
            self._refuse(503, "Too many bytes are waiting to be answered; try again later.")
        elif not self._refused:
            self._body.append(body)
            self._hold(len(body))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._whole = True
        if self._refused:
            return
        parser = self._parser
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(parser.get_method(), self._url, self._headers, body)
        request.keep_alive = parser.should_keep_alive()
        # Only there a client has to ask for it.
        request.old = b"connection" in self._headers and parser.get_http_version() == "1.0"
        self._pending.append(request)
        if self._current is None:
            self._go_on()
        else:
            # Sent ahead: what follows stays in the kernel until this is answered.
            self._transport.pause_reading()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read on in HTTP/1.1, as RFC 9110 lets a server do that is offered another protocol.

        The parser stops where the offer's head ends, so a new one gets that head without the offer.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT: this is no proxy.")
            return
        lines = [b"%b %b HTTP/1.1" % (method, self._url)]
        lines += [
            b"%b: %b" % item
            for item in self._headers.items()
            if item[0] not in (b"connection", b"upgrade", b"expect")
        ]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # Answers.

    def _go_on(self) -> None:
        """Begin with the next request, if it may begin."""
        # A loop, because an answer may be there before `begin` returns.
        if self._going:
            return
        self._going = True
        while self._current is None and self._pending and not self._unread:
            self._current = self._pending.popleft()
            self._server.metrics.in_flight += 1
            self._begin(self._current, self._reply)
        self._going = False

    def _reply(self, answer: Answer) -> None:
        request = self._current
        if request is None:
            raise RuntimeError("a request was answered twice")
        self._current = None
        self._server.metrics.in_flight -= 1
        if self._held:
            self._hold(-len(request.body))
        self._since = time.monotonic()
        transport = self._transport
        if transport.is_closing():
            return
        last = self._refused or self._server.draining or (self._ended and not self._pending)
        keep = request.keep_alive and not last
        if not keep:
            connection = b"connection: close\r\n"
        else:
            connection = b"connection: keep-alive\r\n" if request.old else b""
        transport.write(
            b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (
                _STATUS[answer.status],
                self._server.date,
                answer.head,
                connection,
                len(answer.body),
                b"" if request.method == b"HEAD" else answer.body,
            )
        )
        if not keep:
            self._pending.clear()
            self._close()
        elif self._pending:
            self._go_on()
        else:
            transport.resume_reading()

    def _too_large(self) -> None:
        self._refuse(413, f"The body is larger than {self._limits.body} bytes; send fewer rows.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer out of turn, and hang up."""
        if self._refused:
            return
        self._refused = True
        # Not into the middle of another answer's turn.
        if self._current is None:
            answer = failure(status, message)
            self._transport.write(
                b"%b%b%bconnection: close\r\ncontent-length: %d\r\n\r\n%b"
                % (_STATUS[status], self._server.date, answer.head, len(answer.body), answer.body)
            )
        self._server.metrics.refused("", status)
        # Else the answer that is under way closes when it is out.
        if self._current is None:
            self._close()

    def _close(self) -> None:
        """Close when the client has read what was written, and has stopped sending."""
        self._refused = True
        self._since = time.monotonic()
        if self._whole or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()

    def sweep(self, now: float) -> None:
        """Hang up on a client that neither sends nor reads."""
        left = self._transport.get_write_buffer_size()
        if left < self._left:
            self._since = now
        self._left = left
        waited = now - self._since
        if left:
            if waited > self._limits.reading:
                self._transport.abort()
        elif self._refused:
            if self._current is None and waited > LINGER_SECONDS:
                self._transport.abort()
        elif not self._whole:
            if waited > self._limits.reading:
                self._refuse(408, f"The request was not whole after {self._limits.reading:g} s.")
        elif self._current is None:
            longest = LINGER_SECONDS if self._server.draining else self._limits.idle
            if waited > longest:
                self._transport.close()

    def _hold(self, more: int) -> None:
        self._held += more
        self._server.held += more

    def abort(self) -> None:
        self._transport.abort()
