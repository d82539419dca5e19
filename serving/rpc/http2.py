"""The server's side of HTTP/2 (RFC 9113) on asyncio, for gRPC: small messages, plain TCP with prior
knowledge, no push, no priorities.

grpcio takes 130 to 400 µs of a core for an echo, most of it on the way between its threads and
Python's event loop. This is the event loop's own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from serving.rpc import frames
from serving.rpc.frames import Code, Fault, frame
from serving.rpc.headers import MAX_LIST, Reader
from serving.rpc.streams import Application, Stream

MAX_STREAMS = 128
"""Requests at once on a connection."""
CONNECTION_WINDOW = 2**24
OVERHEAD = 2**16
"""Bytes that a request may take beyond its body's limit: its prefix, and padding."""
MAX_BUFFERED = 2**28
"""Bytes of requests that are not answered yet, of all connections of a process."""
MAX_RESETS = 200
"""Streams that a client may start and abandon in a row, faster than it takes answers."""
MAX_PIECES = 16
"""Frames of a header block after its first."""
LINGER_SECONDS = 0.05
_PROBE = b"draining"
log = logging.getLogger("serving")


@dataclass
class Shared:
    """What the connections of a server have in common."""

    application: Application
    max_body: int
    max_connections: int
    connections: set[Connection] = field(default_factory=set)
    buffered: int = 0
    draining: bool = False


class Connection(asyncio.Protocol):
    """One client's connection."""

    _transport: asyncio.Transport

    def __init__(self, shared: Shared) -> None:
        self._shared, self._application = shared, shared.application
        self._loop = asyncio.get_running_loop()
        self._reader = Reader()
        self._rest = b""
        self._out: list[bytes] = []
        self._reading = self._flushing = False
        self._greeted = self._settled = self._agreed = False
        self._partial: tuple[int, int, bytearray] | None = None
        """Stream, flags and what has come of a header block in several frames."""
        self._pieces = 0
        self._last = 0
        self._accepts = frames.MAX_WINDOW
        """The last stream that is answered; told to the client when the server stops."""
        self._forgotten: deque[int] = deque(maxlen=MAX_STREAMS)
        """Streams that we reset, of which frames may still be under way."""
        self._resets = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._incoming = CONNECTION_WINDOW
        self._initial_window = frames.DEFAULT_WINDOW
        self.streams: dict[int, Stream] = {}
        self.window = frames.DEFAULT_WINDOW
        self.max_frame = frames.MAX_FRAME
        self.full = False
        """Whether the client takes answers more slowly than it asks."""
        self._since = time.monotonic()
        """When it connected, or became full."""

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._shared.connections.add(self)
        if len(self._shared.connections) > self._shared.max_connections:
            self._transport.abort()
            return
        self.write(
            frames.settings(
                {
                    frames.MAX_STREAMS: MAX_STREAMS,
                    frames.INITIAL_WINDOW: self._shared.max_body + OVERHEAD,
                    frames.HEADER_LIST: MAX_LIST,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._reading = True
        try:
            self._parse(data)
        except Fault as fault:
            self._fail(fault)
        self._reading = False
        # After the answers to what has come.
        if self._out and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def pause_writing(self) -> None:
        self.full, self._since = True, time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        self._wake()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._shared.connections.discard(self)
        for stream in list(self.streams.values()):
            self._forget(stream)
            stream.cancel()
        self._wake()

    # What streams call

    def write(self, data: bytes) -> None:
        """Send with whatever else is ready at this turn of the loop: a system call costs more than
        all the rest."""
        self._out.append(data)
        if not self._reading and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def answered(self, stream: Stream) -> None:
        self._resets = max(0, self._resets - 1)
        self._forget(stream)
        if not stream.ended:
            # The rest of the request is not needed.
            self._forgotten.append(stream.number)
            self.write(frames.reset(stream.number, Code.NO_ERROR))
        self._close_if_done()

    async def room(self) -> None:
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    # What the server calls

    def sweep(self, now: float, patience: float) -> None:
        """Give up on a client that does not get on; times in seconds."""
        if (self.full or not self._settled) and now - self._since > patience:
            self._transport.abort()
            return
        for stream in list(self.streams.values()):
            if stream.pending:
                if now - stream.since > patience:
                    self._abort(stream.number, Code.CANCEL)
            else:
                self._application.overdue(stream, now)

    def drain(self) -> None:
        """Let the client know that it should go elsewhere, in two steps, so that it loses nothing:
        what it sends until it knows is still answered."""
        # One that has just connected is told when it has understood us: grpcio may hang otherwise.
        if self._agreed:
            goaway = frames.goaway(frames.MAX_WINDOW, Code.NO_ERROR)
            self.write(goaway + frame(frames.PING, 0, 0, _PROBE))

    def stop(self) -> None:
        """Close now."""
        for stream in list(self.streams.values()):
            self._application.abandon(stream)
        self._close()

    # Frames

    def _parse(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        if not self._greeted:
            if data[: len(frames.PREFACE)] != frames.PREFACE[: len(data)]:
                raise Fault(Code.PROTOCOL_ERROR, "expected HTTP/2 without TLS, as gRPC speaks")
            self._greeted = len(data) >= len(frames.PREFACE)
            at = len(frames.PREFACE) if self._greeted else 0
        while self._greeted and len(data) - at >= frames.HEADER_BYTES:
            size, kind, flags, number = frames.header(data, at)
            if size > frames.MAX_FRAME:
                raise Fault(Code.FRAME_SIZE_ERROR, "the frame is too large")
            start = at + frames.HEADER_BYTES
            if start + size > len(data):
                break
            at = start + size
            self._read(kind, flags, number, data[start:at])
        self._rest = data[at:]

    def _read(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._partial and (kind != frames.CONTINUATION or number != self._partial[0]):
            raise Fault(Code.PROTOCOL_ERROR, "expected the rest of the headers")
        if not self._settled and kind != frames.SETTINGS:
            raise Fault(Code.PROTOCOL_ERROR, "expected settings first")
        if kind == frames.HEADERS:
            self._headers(flags, number, payload)
        elif kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, number, payload)
        elif kind == frames.PING:
            self._ping(flags, number, payload)
        elif kind == frames.RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        elif kind == frames.PRIORITY:
            self._priority(number, payload)
        elif kind == frames.GOAWAY:
            if number or len(payload) < 8:
                raise Fault(Code.PROTOCOL_ERROR, "a wrong GOAWAY")
        elif kind == frames.PUSH_PROMISE:
            raise Fault(Code.PROTOCOL_ERROR, "a client cannot push")

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if number % 2 == 0:
            raise Fault(Code.PROTOCOL_ERROR, "headers on a stream that is no client's")
        block = frames.without_padding(flags, payload)
        if flags & frames.PRIORITIZED:
            if len(block) < 5:
                raise Fault(Code.FRAME_SIZE_ERROR, "headers without their priority")
            if frames.number(block) == number:
                raise Fault(Code.PROTOCOL_ERROR, "a stream that depends on itself")
            block = block[5:]
        if flags & frames.END_HEADERS:
            self._block(number, flags, block)
        else:
            self._partial, self._pieces = (number, flags, bytearray(block)), 0

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._partial is None:
            raise Fault(Code.PROTOCOL_ERROR, "the rest of headers that did not begin")
        number, first, block = self._partial
        block += payload
        self._pieces += 1
        if len(block) > MAX_LIST or self._pieces > MAX_PIECES:
            raise Fault(Code.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & frames.END_HEADERS:
            self._partial = None
            self._block(number, first, bytes(block))

    def _block(self, number: int, flags: int, block: bytes) -> None:
        """A header block that is whole. It is read in any case: the next one builds on it."""
        stream = self.streams.get(number)
        if stream is not None:
            right = self._reader.trailers(block)
            if stream.ended:
                self._reset(number, Code.STREAM_CLOSED)
            elif not right or not flags & frames.END_STREAM:
                self._reset(number, Code.PROTOCOL_ERROR)
            else:
                self._end(stream)
            return
        head = self._reader.head(block)
        if number <= self._last:
            if number in self._forgotten:
                return
            raise Fault(Code.STREAM_CLOSED, "headers on a stream that has ended")
        self._last = number
        if head is None:
            self._reset(number, Code.PROTOCOL_ERROR)
        elif len(self.streams) >= MAX_STREAMS or number > self._accepts:
            self._reset(number, Code.REFUSED_STREAM)
        else:
            stream = Stream(self, number, head, self._initial_window)
            self.streams[number] = stream
            stream.ended = bool(flags & frames.END_STREAM)
            self._application.opened(stream)
            if stream.ended and stream.open:
                self._end(stream)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._incoming -= size
        if self._incoming < 0:
            raise Fault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self._incoming < CONNECTION_WINDOW // 2:
            self.write(frames.window_update(0, CONNECTION_WINDOW - self._incoming))
            self._incoming = CONNECTION_WINDOW
        data = frames.without_padding(flags, payload)
        stream = self.streams.get(number)
        if stream is None:
            if number == 0 or number > self._last or number % 2 == 0:
                raise Fault(Code.PROTOCOL_ERROR, "data of a stream that did not begin")
            if number not in self._forgotten:
                raise Fault(Code.STREAM_CLOSED, "data of a stream that has ended")
            return
        stream.received += size
        self._shared.buffered += size
        if stream.ended:
            self._reset(number, Code.STREAM_CLOSED)
            return
        if stream.received > self._shared.max_body + OVERHEAD:
            self._reset(number, Code.FLOW_CONTROL_ERROR)
            return
        stream.body += data
        if flags & frames.END_STREAM:
            self._end(stream)
        elif self._shared.buffered > MAX_BUFFERED:
            self._abort(number, Code.REFUSED_STREAM)
        else:
            self._application.grew(stream)

    def _end(self, stream: Stream) -> None:
        length = stream.head.length
        if length is not None and length != len(stream.body) and stream.task is None:
            self._reset(stream.number, Code.PROTOCOL_ERROR)
            return
        stream.ended = True
        self._application.ended(stream)

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Code.FRAME_SIZE_ERROR, "a wrong WINDOW_UPDATE")
        size = frames.number(payload)
        if number == 0:
            self.window += size
            if size == 0 or self.window > frames.MAX_WINDOW:
                raise Fault(Code.FLOW_CONTROL_ERROR if size else Code.PROTOCOL_ERROR, "the window")
            self._push()
            return
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last:
                raise Fault(Code.PROTOCOL_ERROR, "the window of a stream that did not begin")
            return
        stream.window += size
        if size == 0 or stream.window > frames.MAX_WINDOW:
            self._reset(number, Code.FLOW_CONTROL_ERROR if size else Code.PROTOCOL_ERROR)
        elif stream.pending:
            stream.push()
            self._wake()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or (flags & frames.ACK and payload) or len(payload) % 6:
            code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
            raise Fault(code, "wrong settings")
        self._settled = True
        if flags & frames.ACK:
            if self._shared.draining and not self._agreed:
                self._agreed = True
                self.drain()
            self._agreed = True
            return
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW:
                self._resize(value)
            elif name == frames.FRAME_SIZE:
                if not frames.MAX_FRAME <= value < 2**24:
                    raise Fault(Code.PROTOCOL_ERROR, "a wrong size of frames")
                self.max_frame = value
            elif name == frames.ENABLE_PUSH and value > 1:
                raise Fault(Code.PROTOCOL_ERROR, "a wrong setting of push")
        self.write(frame(frames.SETTINGS, frames.ACK, 0))
        self._push()

    def _resize(self, window: int) -> None:
        if window > frames.MAX_WINDOW:
            raise Fault(Code.FLOW_CONTROL_ERROR, "a window of that size")
        for stream in self.streams.values():
            stream.window += window - self._initial_window
            if stream.window > frames.MAX_WINDOW:
                raise Fault(Code.FLOW_CONTROL_ERROR, "a window of that size")
        self._initial_window = window

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
            raise Fault(code, "a wrong PING")
        if not flags & frames.ACK:
            self.write(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _PROBE and self._shared.draining:
            # What the client sent before it knew is here; but grpcio reads faster than it heeds.
            self._loop.call_later(LINGER_SECONDS, self._leave)

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Code.FRAME_SIZE_ERROR, "a wrong RST_STREAM")
        if number == 0 or number > self._last:
            raise Fault(Code.PROTOCOL_ERROR, "the end of a stream that did not begin")
        stream = self.streams.get(number)
        if stream is not None:
            self._count_reset()
            self._forget(stream)
            stream.cancel()
            self._wake()
            self._close_if_done()

    def _priority(self, number: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise Fault(Code.FRAME_SIZE_ERROR, "a wrong PRIORITY")
        if number == 0 or frames.number(payload) == number:
            raise Fault(Code.PROTOCOL_ERROR, "a wrong PRIORITY")

    # Ends

    def _reset(self, number: int, code: Code) -> None:
        """End a stream by the client's mistake; the connection can go on."""
        self._count_reset()
        self._abort(number, code)

    def _abort(self, number: int, code: Code) -> None:
        self._forgotten.append(number)
        self.write(frames.reset(number, code))
        stream = self.streams.get(number)
        if stream is not None:
            self._forget(stream)
            stream.cancel()

    def _count_reset(self) -> None:
        # Otherwise a client could have us work for nothing without end.
        self._resets += 1
        if self._resets > MAX_RESETS:
            raise Fault(Code.ENHANCE_YOUR_CALM, "too many streams are given up")

    def _forget(self, stream: Stream) -> None:
        del self.streams[stream.number]
        self._shared.buffered -= stream.received

    def _fail(self, fault: Fault) -> None:
        log.debug("a gRPC client broke the protocol: %s", fault.words)
        self.write(frames.goaway(self._last, fault.code, fault.words))
        self._close()

    def _flush(self) -> None:
        self._flushing = False
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _close(self) -> None:
        self._flush()
        self._transport.close()

    def _leave(self) -> None:
        if not self._transport.is_closing():
            self._accepts = self._last
            self.write(frames.goaway(self._last, Code.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if not self.streams and self._accepts < frames.MAX_WINDOW:
            self._close()

    def _push(self) -> None:
        for stream in list(self.streams.values()):
            if stream.pending:
                stream.push()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
