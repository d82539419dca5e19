"""The KServe protocol, V1 and V2 over REST, as one ASGI application.

It routes on the path and knows nothing of models: a `Backend` turns validated columns into
predictions. What the client did wrong is a 4xx with one sentence; what we did wrong is a 500
without the details, which go to the log.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from serving.metrics import Metrics
from slipway import __version__
from slipway.schema import OUTPUT, RequestError, Schema

MAX_BODY = 16 * 2**20
"""Bytes of a request's body."""

PREDICTIONS = ("v1", "v2")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
log = logging.getLogger("serving")


class Backend(Protocol):
    """What answers: the model itself, or the transformer in front of it."""

    name: str
    version: str
    signature: Mapping[str, Any]
    schema: Schema
    metrics: Metrics

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ready(self) -> bool: ...

    async def predict(self, columns: dict[str, list[Any]]) -> npt.NDArray[np.float32]:
        """Columns of n rows to [n], or [n, classes]. Raises `RequestError`."""
        ...


@dataclass
class Answer:
    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    allow: bytes = b""


class ClientGone(Exception):
    """The client hung up before its request was whole."""


class App:
    """The ASGI application of one model."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.backend.start()
        except Exception as error:
            log.exception("the model does not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.backend.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        kind, name = _route(scope["path"])
        try:
            answer = await self._answer(scope, receive, kind, name)
        except ClientGone:
            return
        if kind in PREDICTIONS:
            self.backend.metrics.answered(kind, answer.status, time.perf_counter() - started)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
        ]
        if answer.allow:
            headers.append((b"allow", answer.allow))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive, kind: str, name: str) -> Answer:
        method, path = scope["method"], scope["path"]
        wanted = "POST" if kind in PREDICTIONS else "GET"
        try:
            if not kind:
                raise RequestError(f"{path}: there is nothing here.", 404)
            if method != wanted:
                answer = _failure(405, f"{path}: expected {wanted}, got {method}.")
                answer.allow = wanted.encode()
                return answer
            if name and name != self.backend.name:
                raise RequestError(
                    f"There is no model '{name}'; this is '{self.backend.name}'.", 404
                )
            if kind not in PREDICTIONS:
                return await self._describe(kind)
            body = _json(await _read(scope, receive))
            return await (self._v1(body) if kind == "v1" else self._v2(body))
        except RequestError as error:
            return _failure(error.status, error.message)
        except ClientGone:
            raise
        except Exception:
            log.exception("%s %s", method, path)
            return _failure(500, "The server failed; its log says why.")

    async def _v1(self, body: Any) -> Answer:
        predictions = await self._predict(self.backend.schema.from_instances(body))
        return _json_answer({"predictions": predictions.tolist()})

    async def _v2(self, body: Any) -> Answer:
        columns = self.backend.schema.from_tensors(body)
        identity = _identity(body)
        _check_outputs(body)
        predictions = await self._predict(columns)
        output = {
            "name": OUTPUT,
            "datatype": "FP32",
            "shape": list(predictions.shape),
            "data": predictions.ravel().tolist(),
        }
        return _json_answer(
            {
                "model_name": self.backend.name,
                "model_version": self.backend.version,
                "id": identity,
                "outputs": [output],
            }
        )

    async def _predict(self, columns: dict[str, list[Any]]) -> npt.NDArray[np.float32]:
        predictions = await self.backend.predict(columns)
        if not np.isfinite(predictions).all():
            # JSON has no NaN, and a null would look like an answer.
            raise ArithmeticError("the model's prediction is not a finite number")
        return predictions

    async def _describe(self, kind: str) -> Answer:
        """Everything that is asked with GET."""
        backend = self.backend
        if kind == "metrics":
            return Answer(backend.metrics.render(), content_type=b"text/plain; version=0.0.4")
        if kind == "list":
            return _json_answer({"models": [backend.name]})
        if kind == "server":
            return _json_answer({"name": "slipway", "version": __version__, "extensions": []})
        if kind == "live":
            return _json_answer({"live": True})
        if kind == "metadata":
            return _json_answer(self._metadata())
        ready = await backend.ready()
        status = 200 if ready else 503
        if kind == "ready":
            return _json_answer({"ready": ready}, status)
        return _json_answer({"name": backend.name, "ready": ready}, status)

    def _metadata(self) -> dict[str, Any]:
        backend = self.backend
        classes = backend.signature["classes"]
        shape = [-1, len(classes)] if classes else [-1]
        return {
            "name": backend.name,
            "versions": [backend.version],
            "platform": "onnx",
            "inputs": backend.schema.tensors(),
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": shape}],
            "parameters": {"classes": classes, "request_schema": backend.schema.json_schema()},
        }


def _route(path: str) -> tuple[str, str]:
    """What a path asks for, and of which model; nothing for a path that does not exist."""
    match path.strip("/").split("/"):
        case ["v1", "models", target] if target.endswith(":predict"):
            return "v1", target.removesuffix(":predict")
        case ["v2", "models", name, "infer"]:
            return "v2", name
        case ["v1", "models", name] | ["v2", "models", name, "ready"] if ":" not in name:
            return "model", name
        case ["v2", "models", name]:
            return "metadata", name
        case ["v1", "models"]:
            return "list", ""
        case ["v2"]:
            return "server", ""
        case ["v2", "health", "live" | "ready" as kind]:
            return kind, ""
        case ["metrics"]:
            return "metrics", ""
    return "", ""


async def _read(scope: Scope, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    too_large = RequestError(f"The body is larger than {MAX_BODY} bytes; send fewer rows.", 413)
    if int(headers.get(b"content-length", 0)) > MAX_BODY:
        raise too_large
    # A charset, curl's default or a vendor's JSON: the type says nothing that the body does not.
    # An encoding or a binary part does.
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RequestError("content-encoding: expected an uncompressed body.", 415)
    if b"inference-header-content-length" in headers:
        raise RequestError("Binary tensors are not supported; send `data` as JSON.", 415)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise too_large
        if not message.get("more_body"):
            return b"".join(chunks)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN or Infinity, send null" if _no_number(body, error.pos) else ""
        raise RequestError(f"body: not valid JSON: {error}{hint}.") from None


def _no_number(body: bytes, at: int) -> bool:
    near = body[max(0, at - 9) : at + 9]
    return b"NaN" in near or b"Infinity" in near


def _identity(body: dict[str, Any]) -> str:
    identity = body.get("id")
    if identity is None:
        return str(uuid.uuid4())
    if not isinstance(identity, str):
        raise RequestError(f"id: expected a string, got {identity!r}.")
    return identity


def _check_outputs(body: dict[str, Any]) -> None:
    outputs = body.get("outputs") or []
    named = [item.get("name") if isinstance(item, dict) else item for item in outputs]
    if any(name != OUTPUT for name in named):
        raise RequestError(f"outputs: expected only '{OUTPUT}', got {named}.")


def _json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(value), status)


def _failure(status: int, message: str) -> Answer:
    return _json_answer({"error": message}, status)
