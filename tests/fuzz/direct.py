"""The whole server in this process, so that a fuzzer sees which of its code an input reaches."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import uvloop

from serving.app import App
from serving.connection import Answer as AppAnswer
from serving.connection import Request as AppRequest
from serving.endpoint import HOST
from serving.metrics import Metrics
from serving.rpc.calls import Context
from serving.rpc.inference import Inference
from serving.rpc.server import RpcServer
from serving.server import Server
from serving.service import Service
from serving.settings import Settings
from slipway.files import read_json
from slipway.schema import RequestError
from tests.fuzz import grpc_calls, judge, wire
from tests.fuzz.messages import DEADLINE, Answer, Request

_T = TypeVar("_T")


class Direct:
    """A predictor that is loaded once, listens on loopback, and is asked from the main thread.

    Everything here raises `TimeoutError` after `DEADLINE`, also out of an endless loop.
    """

    def __init__(self, name: str, package: Path) -> None:
        signature = read_json(package / "signature.json")
        metrics = Metrics("predictor", name, signature["task"], signature["views"], None)
        self._settings = Settings("predictor", name, package, 0, HOST)
        self._loop = uvloop.new_event_loop()
        signal.signal(signal.SIGALRM, _hangs)
        self._service = Service(self._settings, metrics, None)
        self._run(self._service.open())
        np.seterr(over="ignore")  # as serving.run has it
        self._app = App(self._service)
        self._infer = Inference(self._service).methods()[grpc_calls.INFER.encode()]
        self.http, self.grpc = self._run(self._listen(metrics))

    def ask(self, request: Request) -> Answer:
        headers = dict(request.headers)
        asked = AppRequest(request.method.encode(), request.path.encode(), headers, request.body)
        answer = self._run(self._answer(asked))
        return Answer(answer.status, wire.headers(answer.head.splitlines()), answer.body)

    async def _answer(self, request: AppRequest) -> AppAnswer:
        future: asyncio.Future[AppAnswer] = self._loop.create_future()
        self._app.begin(request, future.set_result)
        return await future

    def infer(self, message: bytes) -> bool:
        """Whether a gRPC message is answered. Raises `AssertionError` for a wrong answer."""
        try:
            answer = self._run(self._infer.answer(message, Context({}, None)))
        except RequestError as refusal:
            status, words = refusal.status, refusal.message
        else:
            grpc_calls.answered(answer)
            return True
        assert status in judge.MEANT, (status, words)
        judge.refusal(words, message)
        return False

    def exchange(self, port: int, data: bytes) -> bytes:
        """What comes back for any bytes on a new connection until it closes."""
        return self._run(self._exchange(port, data))

    async def _exchange(self, port: int, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                writer.write_eof()
                return await reader.read()
        finally:
            writer.close()
        return b""

    async def _listen(self, metrics: Metrics) -> tuple[int, int]:
        settings = self._settings
        listeners = [socket.create_server((HOST, 0)) for _ in range(2)]
        for listener in listeners:
            listener.setblocking(False)
        http, grpc = listeners
        server = Server(self._app.begin, settings.limits, settings.drain_seconds, metrics)
        self._serving = self._loop.create_task(server.serve(http, self._service.drain))
        self._rpc = RpcServer(self._service)
        await self._rpc.start(grpc)
        return http.getsockname()[1], grpc.getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        signal.setitimer(signal.ITIMER_REAL, 2 * DEADLINE)
        try:
            return self._loop.run_until_complete(asyncio.wait_for(work, DEADLINE))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer in {2 * DEADLINE:g} s")
