"""gRPC over HTTP/2: messages, statuses, deadlines and compression of calls."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from serving.rpc.headers import Head, write
from serving.rpc.streams import Stream
from slipway.schema import RequestError

PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""
MAX_QUESTION = 2**16
"""Bytes of a message to a method that streams."""
MAX_WORDS = 2_000
"""Characters of an error's sentence; headers must fit into one frame."""

OK, DEADLINE_EXCEEDED, UNAVAILABLE, INTERNAL = 0, 4, 14, 13
_CODES = {
    400: 3,  # INVALID_ARGUMENT
    404: 5,  # NOT_FOUND
    405: 12,
    408: DEADLINE_EXCEEDED,
    409: 9,  # FAILED_PRECONDITION
    413: 3,
    415: 3,
    422: 3,
    429: 8,  # RESOURCE_EXHAUSTED
    500: INTERNAL,
    501: 12,  # UNIMPLEMENTED
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")

_HEAD = write(
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
)
_FINE = write((b"grpc-status", b"0"))
log = logging.getLogger("serving")


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a call beside its messages."""

    headers: Mapping[bytes, bytes]
    timeout: float | None
    """Seconds that the client is willing to wait, if it says so."""


@dataclass(frozen=True, slots=True)
class Unary:
    """A method of one message and one answer."""

    answer: Callable[[bytes, Context], Awaitable[bytes]]
    """Raises `RequestError`."""
    answered: Callable[[int, float], None] | None = None
    """Told the HTTP status and the seconds of every answer."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method of messages and answers as they come."""

    answers: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
    """Raises `RequestError`."""


class Calls:
    """The methods of a server by their paths, as the application of its HTTP/2 connections."""

    def __init__(
        self,
        methods: Mapping[bytes, Unary | Streaming],
        max_message: int,
        reading_seconds: float,
        unknown: Callable[[int], None],
    ) -> None:
        self._methods, self._unknown = methods, unknown
        self._max_message, self._reading_seconds = max_message, reading_seconds
        self._loop = asyncio.get_running_loop()

    def opened(self, stream: Stream) -> None:
        method = self._methods.get(stream.head.path)
        if isinstance(method, Streaming) and _is_grpc(stream.head):
            stream.task = self._loop.create_task(self._stream(stream, method))

    def grew(self, stream: Stream) -> None:
        if stream.task is not None:
            stream.arrived()
        elif self._size(stream) > self._max_message:
            self._refuse(stream, self._too_large())

    def ended(self, stream: Stream) -> None:
        if stream.task is not None:
            stream.arrived()
        elif not _is_grpc(stream.head):
            _answer_http(stream)
        elif isinstance(method := self._methods.get(stream.head.path), Unary):
            stream.task = self._loop.create_task(self._unary(stream, method))
        else:
            self._refuse(stream, _no_method(stream.head))

    def overdue(self, stream: Stream, now: float) -> None:
        if stream.task is None and now - stream.since > self._reading_seconds:
            words = f"The request was not whole after {self._reading_seconds:g} s."
            self._refuse(stream, RequestError(words, 408))

    def abandon(self, stream: Stream) -> None:
        stream.cancel()
        _fail(stream, 503, "The server stops.")

    async def _unary(self, stream: Stream, method: Unary) -> None:
        try:
            message = self._message(stream)
            answer = await method.answer(message, _context(stream))
        except RequestError as error:
            self._refuse(stream, error)
        except Exception:
            log.exception("%s", stream.head.path.decode("latin-1"))
            self._refuse(stream, RequestError("The server failed; its log says why.", 500))
        else:
            if method.answered:
                method.answered(200, time.monotonic() - stream.since)
            stream.answer(_HEAD, _prefixed(answer), _FINE)

    async def _stream(self, stream: Stream, method: Streaming) -> None:
        try:
            async for answer in method.answers(self._questions(stream)):
                if not stream.started:
                    stream.start(_HEAD)
                stream.send(_prefixed(answer))
                await stream.sent()
            if not stream.started:
                stream.start(_HEAD)
            stream.finish(_FINE)
        except RequestError as error:
            _fail(stream, error.status, error.message)
        except Exception:
            log.exception("%s", stream.head.path.decode("latin-1"))
            _fail(stream, 500, "The server failed; its log says why.")

    async def _questions(self, stream: Stream) -> AsyncIterator[bytes]:
        while True:
            size = self._size(stream)
            if size > MAX_QUESTION:
                raise RequestError(f"The message is larger than {MAX_QUESTION} bytes.", 413)
            if len(stream.body) >= PREFIX + size:
                message = bytes(stream.body[: PREFIX + size])
                del stream.body[: PREFIX + size]
                yield self._plain(stream, message, MAX_QUESTION)
            elif stream.ended:
                if stream.body:
                    raise RequestError("The message is cut off.")
                return
            else:
                await stream.more()

    def _message(self, stream: Stream) -> bytes:
        """The one message of a request. Raises `RequestError`."""
        body = stream.body
        size = self._size(stream)
        if size > self._max_message:
            raise self._too_large()
        if len(body) != PREFIX + size:
            raise RequestError(
                f"Expected one message of {size} bytes after its length, got "
                f"{max(0, len(body) - PREFIX)}."
                if len(body) >= PREFIX
                else "Expected one message, got none."
            )
        return self._plain(stream, body, self._max_message)

    def _plain(self, stream: Stream, body: bytes | bytearray, most: int) -> bytes:
        """A message without its prefix and compression."""
        if body[0] == 0:
            return bytes(memoryview(body)[PREFIX:])
        encoding = stream.head.fields.get(b"grpc-encoding") or b""
        if body[0] != 1 or encoding not in (b"gzip", b"deflate"):
            raise RequestError("Expected a message that is plain, gzip or deflate.", 501)
        # 32: with the head of either format.
        unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
        try:
            plain = unpacker.decompress(memoryview(body)[PREFIX:], most + 1)
        except zlib.error:
            raise RequestError(f"The message is not {encoding.decode()}.") from None
        if len(plain) > most:
            raise self._too_large()
        if not unpacker.eof or unpacker.unused_data:
            raise RequestError(f"The message is not {encoding.decode()}.")
        return plain

    def _size(self, stream: Stream) -> int:
        """The length that a message has by its prefix; 0 as long as that is not there."""
        return int.from_bytes(stream.body[1:PREFIX]) if len(stream.body) >= PREFIX else 0

    def _too_large(self) -> RequestError:
        words = f"The body is larger than {self._max_message} bytes; send fewer rows."
        return RequestError(words, 413)

    def _refuse(self, stream: Stream, error: RequestError) -> None:
        method = self._methods.get(stream.head.path)
        if method is None:
            self._unknown(error.status)
        elif isinstance(method, Unary) and method.answered:
            method.answered(error.status, time.monotonic() - stream.since)
        _fail(stream, error.status, error.message)


def _context(stream: Stream) -> Context:
    given = stream.head.fields.get(b"grpc-timeout")
    if given is None:
        return Context(stream.head.fields, None)
    found = _TIMEOUT.fullmatch(given)
    if found is None:
        raise RequestError("grpc-timeout: expected up to 8 digits and a unit, like 100m.")
    seconds = int(found[1]) * _UNITS[found[2]] - (time.monotonic() - stream.since)
    if seconds <= 0:
        raise RequestError("The answer took longer than allowed.", 504)
    return Context(stream.head.fields, seconds)


def _prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _fail(stream: Stream, status: int, words: str) -> None:
    """End a call with the gRPC status that an HTTP status stands for."""
    if len(words) > MAX_WORDS:
        words = f"{words[:MAX_WORDS]}..."
    trailer = (
        (b"grpc-status", b"%d" % _CODES.get(status, INTERNAL)),
        (b"grpc-message", quote(words, safe=_PLAIN).encode()),
    )
    if stream.started:
        stream.finish(write(*trailer))
    else:
        stream.finish(write((b":status", b"200"), (b"content-type", b"application/grpc"), *trailer))


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _no_method(head: Head) -> RequestError:
    return RequestError(f"There is no method {head.path[:200].decode('latin-1')}.", 501)


def _is_grpc(head: Head) -> bool:
    kind = head.fields.get(b"content-type") or b""
    return head.method == b"POST" and kind.startswith(b"application/grpc")


def _answer_http(stream: Stream) -> None:
    """Tell who speaks HTTP/2, but not gRPC."""
    stream.start(write((b":status", b"415"), (b"content-type", b"text/plain")))
    stream.send(b"This port speaks gRPC: POST, content-type application/grpc.\n")
    stream.finish(b"")
