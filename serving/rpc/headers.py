"""Header blocks of HTTP/2: read with HPACK and checked (RFC 9113, 8.2, 8.3), or written plain."""

from __future__ import annotations

from dataclasses import dataclass

import hpack

from serving.rpc.frames import Code, Fault

MAX_LIST = 16 * 2**10
"""Bytes of a request's headers."""

_ONCE = {b"content-length", b"content-type", b"grpc-timeout", b"grpc-encoding"}
_PSEUDO = {b":method", b":scheme", b":path", b":authority"}
_NEEDED = (b":method", b":scheme", b":path")
_OF_CONNECTIONS = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
}
KNOWN_BLOCKS = 32
_SIZE_UPDATE = range(0x20, 0x40)
"""First bytes of a block that begins with a new size for the table."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request's headers."""

    method: bytes
    path: bytes
    length: int | None
    """Bytes of the body, if it says so."""
    fields: dict[bytes, bytes]
    """The regular ones; of several of a name, the last."""


class Reader:
    """Reads the header blocks of one connection, each of which may change how the next is read."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_LIST)
        self._known: dict[bytes, Head | None] = {}

    def head(self, block: bytes) -> Head | None:
        """Nothing for headers that are no request's. Raises `Fault` for what is not HPACK."""
        # A client repeats itself, and a block means the same until some block changes the table.
        if block in self._known:
            return self._known[block]
        entries = self._decoder.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        head = _head(self._decode(block))
        changed = len(entries) != size or (size > 0 and entries[0] is not newest)
        if changed or len(self._known) >= KNOWN_BLOCKS:
            self._known.clear()
        if not changed and block and block[0] not in _SIZE_UPDATE:
            self._known[block] = head
        return head

    def trailers(self, block: bytes) -> bool:
        """Whether these may be the headers after a body. Raises `Fault` for what is not HPACK."""
        self._known.clear()
        return all(name[:1] != b":" for name, _ in self._decode(block))

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise Fault(Code.ENHANCE_YOUR_CALM, "the headers are too large") from None
        except hpack.HPACKError:
            raise Fault(Code.COMPRESSION_ERROR, "the headers are not HPACK") from None


def _head(fields: list[tuple[bytes, bytes]]) -> Head | None:
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO:
                return None
            pseudo[name] = value
        elif name != name.lower() or name in _OF_CONNECTIONS or (name in regular and name in _ONCE):
            return None
        else:
            regular[name] = value
    if not all(pseudo.get(name) for name in _NEEDED):
        return None
    if regular.get(b"te", b"trailers") != b"trailers":
        return None
    length = regular.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 20):
        return None
    size = None if length is None else int(length)
    return Head(pseudo[b":method"], pseudo[b":path"], size, regular)


def write(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block that leaves no trace in the peer's table."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    size -= 127
    prefix = bytearray(b"\x7f")
    while size >= 128:
        prefix.append(size % 128 + 128)
        size //= 128
    prefix.append(size)
    return bytes(prefix) + value
