"""Requests and answers as the fuzzing sees them, whatever brings them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEADLINE = 5.0
"""Seconds in which anything must be answered; what takes longer is a hang."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """With its query, as on the wire."""
    body: bytes = b""
    headers: Headers = ()

    def raw(self) -> bytes:
        """As it goes over a socket."""
        lines = [f"{self.method} {self.path} HTTP/1.1".encode(), b"host: a"]
        lines += [name + b": " + value for name, value in self.headers]
        lines.append(b"content-length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
