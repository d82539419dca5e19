"""The services that tools expect of any gRPC server: `grpc.health.v1` and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2 as health
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from serving.rpc.calls import Context, Streaming, Unary
from serving.rpc.inference import SERVICE
from serving.service import Service
from slipway.schema import RequestError, shown

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
WATCH_SECONDS = 1.0


class Health:
    """Whether the server, or a service of it, is ready."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def methods(self) -> dict[bytes, Unary | Streaming]:
        return {
            f"/{HEALTH}/Check".encode(): Unary(self._check),
            f"/{HEALTH}/Watch".encode(): Streaming(self._watch),
        }

    async def _check(self, message: bytes, _: Context) -> bytes:
        name = _parsed(health.HealthCheckRequest, message).service
        status = await self._status(name)
        if status == health.HealthCheckResponse.SERVICE_UNKNOWN:
            raise RequestError(f"There is no service {shown(name)}.", 404)
        answer: bytes = health.HealthCheckResponse(status=status).SerializeToString()
        return answer

    async def _watch(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        name = _parsed(health.HealthCheckRequest, await anext(messages, b"")).service
        last = None
        while True:
            status = await self._status(name)
            if status != last:
                yield health.HealthCheckResponse(status=status).SerializeToString()
            last = status
            await asyncio.sleep(WATCH_SECONDS)

    async def _status(self, name: str) -> Any:
        if name not in ("", SERVICE, self._service.name):
            return health.HealthCheckResponse.SERVICE_UNKNOWN
        if await self._service.ready():
            return health.HealthCheckResponse.SERVING
        return health.HealthCheckResponse.NOT_SERVING


class Reflection:
    """What services there are and how their messages look, for tools like grpcurl."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def methods(self) -> dict[bytes, Streaming]:
        # Both versions have the same messages.
        return {
            f"/{name}/ServerReflectionInfo".encode(): Streaming(self._info)
            for name in (REFLECTION, "grpc.reflection.v1.ServerReflection")
        }

    async def _info(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            request = _parsed(reflection.ServerReflectionRequest, message)
            answer = reflection.ServerReflectionResponse(
                valid_host=request.host, original_request=request
            )
            try:
                self._fill(answer, request)
            except KeyError:
                answer.error_response.error_code = 5
                answer.error_response.error_message = "There is no such name."
            yield answer.SerializeToString()

    def _fill(self, answer: Any, request: Any) -> None:
        """Raises `KeyError` for a name that is not here."""
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in (SERVICE, HEALTH, REFLECTION):
                    answer.list_services_response.service.add(name=name)
            case "file_by_filename":
                self._add(answer, self._pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                name = request.file_containing_symbol
                self._add(answer, self._pool.FindFileContainingSymbol(name))
            case _:
                # Extensions: there are none.
                raise KeyError

    @staticmethod
    def _add(answer: Any, file: Any) -> None:
        answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)


def _parsed(kind: type[Any], message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise RequestError(f"The message is not a {kind.DESCRIPTOR.full_name}.") from None
