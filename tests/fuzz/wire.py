"""Requests over a socket, to a server in another process."""

from __future__ import annotations

import contextlib
import http.client
import socket

from serving.endpoint import HOST
from tests.fuzz.messages import DEADLINE, Answer, Request

PATIENCE = 0.02
"""Seconds after which what was sent on a socket counts as unfinished, and its sender hangs up."""


class Wire:
    """One client's kept connection. What is asked is right HTTP, whatever it holds."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)

    def ask(self, request: Request) -> Answer:
        """The answer. Raises `TimeoutError` after `DEADLINE`."""
        connection = self._connection
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name.decode(), value)
        if not any(name == b"content-length" for name, _ in request.headers):
            connection.putheader("content-length", str(len(request.body)))
        connection.endheaders(request.body)
        return _answer(connection.getresponse())


def send_bytes(port: int, *pieces: bytes) -> list[Answer]:
    """The HTTP/1.1 answers to any bytes on a new connection; none where they ask for none.

    Raises `TimeoutError` if the server does not close in `DEADLINE` after they ended, and
    `ValueError` for what is no answer.
    """
    return answers(exchange(port, *pieces))


def exchange(port: int, *pieces: bytes) -> bytes:
    """What comes back on a new connection until it closes."""
    received = b""
    with socket.create_connection((HOST, port), timeout=DEADLINE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.settimeout(PATIENCE)
            with contextlib.suppress(TimeoutError):
                received = connection.recv(2**16)
            connection.settimeout(DEADLINE)
            with contextlib.suppress(OSError):  # it has hung up already
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(2**16):
                received += more
        except (BrokenPipeError, ConnectionResetError):
            # Refused before all was sent; what was said last may be lost.
            return received
    return received


def answers(received: bytes) -> list[Answer]:
    """Every answer in what came. Raises `ValueError` for what is none."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        protocol, status, _ = first.split(b" ", 2)
        if protocol != b"HTTP/1.1" or not end:
            raise ValueError(f"not an answer: {received[:200]!r}")
        said = headers(lines)
        length = int(said.get("content-length", 0))
        found.append(Answer(int(status), said, rest[:length]))
        received = rest[length:]
    return found


def headers(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(": ") for line in lines)
    return {name.lower(): value for name, _, value in pairs}


def _answer(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())
