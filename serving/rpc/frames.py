"""The frames of HTTP/2 (RFC 9113, 4 and 6), as bytes."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 2**14
"""Bytes of a frame's payload that every peer must take, and the most that we take."""
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 2**16 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, FRAME_SIZE, HEADER_LIST = range(1, 7)

_HEADER = struct.Struct(">HBBBL")
HEADER_BYTES = _HEADER.size
_LONG = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class Code(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class Fault(Exception):
    """The peer broke the protocol so that its connection cannot go on."""

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


def header(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Payload's length, kind, flags and stream of the frame at `at`."""
    high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
    return high << 8 | low, kind, flags, stream & MAX_WINDOW


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def number(payload: bytes) -> int:
    """The 31 bits of a payload's first 4 bytes."""
    return int(_LONG.unpack_from(payload)[0]) & MAX_WINDOW


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(size))


def reset(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def goaway(last: int, code: Code, words: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _LONG.pack(last) + _LONG.pack(code) + words.encode())


def without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload:
        raise Fault(Code.FRAME_SIZE_ERROR, "a padded frame without a length")
    padding = payload[0]
    if padding >= len(payload):
        raise Fault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]
