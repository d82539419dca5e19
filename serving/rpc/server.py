"""A worker's gRPC server: its listener, its connections, and their end."""

from __future__ import annotations

import asyncio
import socket
import time

from serving.listeners import BACKLOG, stop_listening
from serving.rpc.calls import Calls
from serving.rpc.http2 import Connection, Shared
from serving.rpc.inference import Inference
from serving.rpc.standard import Health, Reflection
from serving.service import Service

SWEEP_SECONDS = 0.5


class RpcServer:
    """The gRPC services of a `Service`, on its event loop."""

    def __init__(self, service: Service) -> None:
        limits = service.settings.limits
        methods = Inference(service).methods() | Health(service).methods() | Reflection().methods()
        calls = Calls(
            methods,
            limits.body,
            limits.reading,
            lambda status: service.metrics.refused("grpc", status),
        )
        self._shared = Shared(calls, limits.body, limits.connections)
        self._patience = limits.reading

    async def start(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=listener, backlog=BACKLOG)
        self._listener = listener
        self._sweeping = loop.create_task(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Take no new clients, answer what the others have sent, and close; after `seconds`, at
        once."""
        deadline = time.monotonic() + seconds
        loop = asyncio.get_running_loop()
        late = stop_listening(self._listener)
        self._server.close()
        for client in late:
            await loop.connect_accepted_socket(self._connect, client)
        # Not before: who is sent away must not come back here.
        self._shared.draining = True
        for connection in list(self._shared.connections):
            connection.drain()
        while self._shared.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self._sweeping.cancel()
        for connection in list(self._shared.connections):
            connection.stop()

    def _connect(self) -> Connection:
        return Connection(self._shared)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self._shared.connections):
                connection.sweep(now, self._patience)
