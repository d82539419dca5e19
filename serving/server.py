"""The listening side of one worker: its connections, its signals, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from serving.connection import Begin, Connection
from serving.listeners import BACKLOG, stop_listening
from serving.metrics import Metrics
from serving.settings import Limits

SWEEP_SECONDS = 0.25
Stop = Callable[[float], Awaitable[None]]
log = logging.getLogger("serving")


class Server:
    """Serves until SIGTERM or SIGINT, then drains.

    A drained server closes its socket, answers everything that was sent to it with `Connection:
    close`, and ends when the last connection has, or after `drain_seconds`.
    """

    def __init__(
        self,
        begin: Begin,
        limits: Limits,
        drain_seconds: float,
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics
        self.connections: set[Connection] = set()
        self.draining = False
        self.held = 0
        """Bytes of bodies that are not answered yet, of all connections."""
        self.loop = asyncio.get_running_loop()
        self._begin, self._limits, self._drain_seconds = begin, limits, drain_seconds
        self._tick()

    async def serve(self, listener: socket.socket, *stop: Stop) -> None:
        """Each `stop` is called when a signal has come, with the seconds that it may take."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, stopped.set)
        server = await self.loop.create_server(self._connect, sock=listener, backlog=BACKLOG)
        sweeping = self.loop.create_task(self._sweep())
        log.info("listening on %s:%d", *listener.getsockname()[:2])
        await stopped.wait()
        log.info("draining %d connections", len(self.connections))
        await asyncio.gather(
            self._drain(listener, server), *(item(self._drain_seconds) for item in stop)
        )
        sweeping.cancel()

    async def _drain(self, listener: socket.socket, server: asyncio.AbstractServer) -> None:
        self.draining = True
        late = stop_listening(listener)
        server.close()
        for client in late:
            await self.loop.connect_accepted_socket(self._connect, client)
        deadline = time.monotonic() + self._drain_seconds
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self.connections:
            log.warning("cutting off %d connections", len(self.connections))
        for connection in list(self.connections):
            connection.abort()

    def _connect(self) -> Connection:
        return Connection(self, self._begin, self._limits)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._tick()
            now = time.monotonic()
            for connection in list(self.connections):
                connection.sweep(now)

    def _tick(self) -> None:
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
