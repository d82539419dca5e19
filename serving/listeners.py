"""The sockets that a server listens on, made once and shared by its workers."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass

from serving.settings import Settings
from slipway.errors import UserError

BACKLOG = 2048
_TRIES = 100
log = logging.getLogger("serving")


@dataclass(frozen=True)
class Listeners:
    http: socket.socket
    grpc: socket.socket | None


def listen(settings: Settings) -> Listeners:
    """Raises `UserError` for a port that cannot be had."""
    grpc = settings.grpc_port
    return Listeners(
        _listen(settings.host, settings.http_port, "--http_port"),
        None if grpc is None else _listen(settings.host, grpc, "--grpc_port"),
    )


def stop_listening(listener: socket.socket) -> list[socket.socket]:
    """Refuse new clients from now on; returns those who had connected by then.

    A client in the kernel's queue is cut off when its listener closes, although it was let in and
    may have sent its request. So the queue is made one place long, emptied, and that place taken by
    a client of our own: while that is in, nobody else is.
    """
    listener.listen(0)
    accepted: list[socket.socket] = []
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            while True:
                accepted.append(listener.accept()[0])
        with socket.socket(listener.family) as plug:
            plug.setblocking(False)
            plug.connect_ex(listener.getsockname())
            try:
                plug.getpeername()
            except OSError:
                continue  # Another one was quicker.
            listener.shutdown(socket.SHUT_RD)
            return accepted
    log.warning("the queue of new clients could not be emptied; some may be cut off")
    return accepted


def _listen(host: str, port: int, flag: str) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a port"
        raise UserError(
            f"Port {port} on {host} cannot be used: {why}.", f"Choose another with {flag}."
        ) from None
    listener.setblocking(False)
    return listener
