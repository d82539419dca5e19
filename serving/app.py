"""The KServe protocol, V1 and V2 over REST.

It routes on the path and knows nothing of models: `Service` turns validated columns into
predictions. What the client did wrong is a 4xx with one sentence; what we did wrong is a 500
without the details, which go to the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from serving import v2
from serving.call import Call, Protocol
from serving.connection import JSON, Answer, Request, failure
from serving.inference import Done, Predictions
from serving.logs import SLOW_SECONDS, access
from serving.served import Served
from serving.service import Service
from serving.trace import trace_id, traceparent
from slipway.schema import Columns, RequestError, Schema, instances, shown

log = logging.getLogger("serving")

Reply = Callable[[Answer], None]
Respond = Callable[[Request, Call], Awaitable[Answer]]
Describe = Callable[[Request], Awaitable[Answer]]


class Asked(NamedTuple):
    """A request for predictions, read and validated."""

    served: Served
    columns: Columns
    answer: Callable[[Predictions], Answer]


@dataclass(frozen=True, slots=True)
class Get:
    describe: Describe
    method = b"GET"


@dataclass(frozen=True, slots=True)
class Post:
    respond: Respond
    protocol: Protocol
    counted: bool = False
    """As a prediction or an explanation."""
    method = b"POST"


@dataclass(frozen=True, slots=True)
class Predict:
    read: Callable[[Request, Call], Asked]
    """Raises `RequestError`."""
    protocol: Protocol
    counted = True
    method = b"POST"


Route = Get | Post | Predict


class App:
    """Answers the requests to one model."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.limits = service.settings.limits
        name = service.name
        v1, v2_model = f"/v1/models/{name}", f"/v2/models/{name}"
        repository = f"/v2/repository/models/{name}"
        routes: dict[str, Route] = {
            f"{v1}:predict": Predict(self._v1_read, "v1"),
            f"{v1}:explain": Post(self._v1_explain, "v1", counted=True),
            f"{v2_model}/infer": Predict(self._v2_read, "v2"),
            v1: Get(self._model_status),
            v2_model: Get(self._v2_metadata),
            f"{v2_model}/ready": Get(self._model_status),
            "/": Get(self._alive),
            "/v1/models": Get(self._list),
            "/v2": Get(self._server),
            "/v2/health/live": Get(self._live),
            "/v2/health/ready": Get(self._ready),
            "/v2/repository/index": Post(self._index, "v2"),
            f"{repository}/load": Post(self._load, "v2"),
            f"{repository}/unload": Post(self._unload, "v2"),
            "/metrics": Get(self._metrics),
            "/openapi.json": Get(self._openapi),
        }
        self.routes = {path.encode(): route for path, route in routes.items()}
        self._paths = {route: path for path, route in self.routes.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, request: Request, reply: Reply) -> None:
        """Have `reply` called with the answer, once, now or later."""
        route = self.routes.get(request.path)
        if isinstance(route, Predict) and request.method == b"POST":
            try:
                call = self._call(request, route.protocol)
                asked = route.read(request, call)
                done = partial(self._done, request, route, asked, reply)
                if not self.service.submit(asked.served, asked.columns, call, done):
                    self._in_task(self._predict(asked, call, done))
            except Exception as error:
                self._finish(request, route, self._failed(request, error), reply)
        else:
            self._in_task(self._respond(request, route, reply))

    def _in_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        # The loop itself holds a task only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _predict(self, asked: Asked, call: Call, done: Done) -> None:
        try:
            outcome: Predictions | Exception = await self.service.predict(*asked[:2], call)
        except Exception as error:
            outcome = error
        done(outcome)

    def _done(
        self,
        request: Request,
        route: Predict,
        asked: Asked,
        reply: Reply,
        outcome: Predictions | Exception,
    ) -> None:
        # Nothing may be raised here: the other requests of the batch wait for their turn.
        try:
            if isinstance(outcome, Exception):
                raise outcome
            answer = asked.answer(outcome)
        except Exception as error:
            answer = self._failed(request, error)
        self._finish(request, route, answer, reply)

    async def _respond(self, request: Request, route: Route | None, reply: Reply) -> None:
        try:
            if route is None:
                route = self._route(request.path)
            if request.method != route.method:
                answer = await self._other_method(request, route)
            elif isinstance(route, Predict):
                # One that names its version.
                request.path = self._paths[route]
                self.begin(request, reply)
                return
            elif isinstance(route, Post):
                answer = await route.respond(request, self._call(request, route.protocol))
            else:
                answer = await route.describe(request)
        except Exception as error:
            answer = self._failed(request, error)
        self._finish(request, route, answer, reply)

    def _finish(self, request: Request, route: Route | None, answer: Answer, reply: Reply) -> None:
        if route is not None and not isinstance(route, Get) and route.counted:
            seconds = time.perf_counter() - request.arrived
            self.service.count(route.protocol, answer.status, seconds)
            if answer.status >= 500 or seconds >= SLOW_SECONDS:
                access(route.protocol, answer.status, seconds, _log_fields(request))
        reply(answer)

    @staticmethod
    def _failed(request: Request, error: Exception) -> Answer:
        if isinstance(error, RequestError):
            return failure(error.status, error.message)
        place = f"{request.method.decode()} {shown(request.path.decode('latin-1'))}"
        log.error("%s", place, exc_info=error)
        return failure(500, "The server failed; its log says why.")

    async def _other_method(self, request: Request, route: Route) -> Answer:
        if request.method == b"HEAD" and isinstance(route, Get):
            return await route.describe(request)
        wanted, got = route.method.decode(), request.method.decode()
        path = request.path.decode("latin-1")
        return failure(
            405, f"{shown(path)}: expected {wanted}, got {got}.", b"allow: %b\r\n" % route.method
        )

    def _call(self, request: Request, protocol: Protocol) -> Call:
        if self.service.metrics.in_flight > self.limits.concurrency:
            raise RequestError("Too many requests at once; try again later.", 503)
        headers = request.headers
        # A charset, curl's default or a vendor's JSON: the type says nothing that the body does
        # not. An encoding does.
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestError("content-encoding: expected an uncompressed body.", 415)
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        return Call(protocol, time.monotonic() + self.limits.seconds, headers, given)

    def _route(self, path: bytes) -> Route:
        """The route of a path that is not in the table: one with a version, or with a mistake."""
        text = unquote(path.partition(b"?")[0].decode("latin-1"), errors="replace")
        parts = text.strip("/").split("/")
        if parts[:2] == ["v2", "models"] and parts[3:4] == ["versions"] and len(parts) > 4:
            self.service.current(parts[2], parts[4])
            del parts[3:5]
        route = self.routes.get(f"/{'/'.join(parts)}".encode())
        if route is None and parts[1:2] == ["models"] and parts[0] in ("v1", "v2") and parts[2:]:
            self.service.current(parts[2].partition(":")[0] if parts[0] == "v1" else parts[2])
        elif route is None and parts[:3] == ["v2", "repository", "models"] and parts[3:]:
            self.service.current(parts[3])
        if route is None:
            raise RequestError(f"{shown(text)}: there is nothing here.", 404)
        return route

    def _v1_read(self, request: Request, call: Call) -> Asked:
        served, columns = self._v1_rows(request)
        return Asked(served, columns, lambda predictions: _v1_answer(request, predictions))

    def _v1_rows(self, request: Request) -> tuple[Served, Columns]:
        served = self.service.current(self.service.name)
        body = load_json(request.body)
        schema = _v1_schema(served, body)
        return served, schema.from_instances(body, _may_hold_bools(request.body))

    async def _v1_explain(self, request: Request, call: Call) -> Answer:
        explained = await self.service.explain(*self._v1_rows(request), call)
        return Answer(orjson.dumps(explained), head=_named(request))

    def _v2_read(self, request: Request, call: Call) -> Asked:
        served = self.service.current(self.service.name)
        asked = v2.read(request.body, request.headers.get(v2.BINARY_HEADER), load_json)
        call.id = asked.id or call.id
        columns = v2.columns(served, asked, _may_hold_bools(request.body))

        def answer(predictions: Predictions) -> Answer:
            name, version = self.service.name, served.version
            parts = v2.answer(name, version, call.id, predictions, asked.binary)
            if not asked.binary:
                return Answer(parts[0])
            head = b"content-type: application/octet-stream\r\n%b: %d\r\n"
            return Answer(b"".join(parts), head=head % (v2.BINARY_HEADER, len(parts[0])))

        return Asked(served, columns, answer)

    async def _model_status(self, _: Request) -> Answer:
        ready = await self.service.ready()
        return json_answer({"name": self.service.name, "ready": ready}, 200 if ready else 503)

    async def _list(self, _: Request) -> Answer:
        return json_answer({"models": [self.service.name]})

    async def _alive(self, _: Request) -> Answer:
        return json_answer({"status": "alive"})

    async def _live(self, _: Request) -> Answer:
        return json_answer({"live": True})

    async def _ready(self, _: Request) -> Answer:
        ready = await self.service.ready()
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def _server(self, _: Request) -> Answer:
        return json_answer(v2.SERVER)

    async def _v2_metadata(self, _: Request) -> Answer:
        return json_answer(v2.metadata(self.service.current(self.service.name), self.service.name))

    async def _index(self, request: Request, call: Call) -> Answer:
        ready_only = bool(request.body) and v2.wants_ready_only(load_json(request.body))
        return json_answer(v2.index(self.service, ready_only))

    async def _load(self, _: Request, call: Call) -> Answer:
        await self.service.load()
        return json_answer({})

    async def _unload(self, _: Request, call: Call) -> Answer:
        await self.service.unload()
        return json_answer({})

    async def _metrics(self, request: Request) -> Answer:
        accept = request.headers.get(b"accept", b"")
        text, kind = self.service.metrics.render(accept.decode("latin-1"))
        return Answer(text, head=f"content-type: {kind}\r\n".encode())

    async def _openapi(self, _: Request) -> Answer:
        from serving.openapi import openapi

        return json_answer(openapi(self.service.name, self.service.current(self.service.name)))


def _v1_schema(served: Served, body: Any) -> Schema:
    """By the first row: the rows of a request are alike."""
    if len(served.schemas) > 1:
        first = instances(body)[0]
        if isinstance(first, dict):
            return served.schema_of(first)
        if isinstance(first, list):
            return served.schema_of_width(len(first))
    return served.schema


def _log_fields(request: Request) -> dict[str, str]:
    return {
        "request_id": request.headers.get(b"x-request-id", b"").decode("latin-1"),
        "trace_id": trace_id(traceparent(request.headers.items())),
    }


def _v1_answer(request: Request, predictions: Predictions) -> Answer:
    found = orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(b'{"predictions":' + found + b"}", head=_named(request))


def _may_hold_bools(body: bytes) -> bool:
    """Whether to look at each value: a quick look at the bytes says no for rows of numbers."""
    return b"true" in body or b"false" in body


def _named(request: Request) -> bytes:
    """The client's own name of a request goes back with the answer."""
    given = request.headers.get(b"x-request-id")
    return JSON if given is None else b"%bx-request-id: %b\r\n" % (JSON, given)


def load_json(body: bytes | memoryview) -> Any:
    """Raises `RequestError` for what is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN or Infinity, send null" if _no_number(body, error.pos) else ""
        place = f"line {error.lineno}, column {error.colno}"
        raise RequestError(f"body: not valid JSON at {place}{hint}.") from None


def _no_number(body: bytes | memoryview, at: int) -> bool:
    near = bytes(body[max(0, at - 9) : at + 9])
    return b"NaN" in near or b"Infinity" in near


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(value), status)
