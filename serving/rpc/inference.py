"""`inference.GRPCInferenceService`: the Open Inference Protocol on the one model of a `Service`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from serving import v2
from serving.call import Call
from serving.inference import Predictions
from serving.rpc.calls import Context, Unary
from serving.rpc.protos import inference_pb2 as pb
from serving.service import Service
from serving.tensors import Tensor
from slipway.schema import OUTPUT, RequestError, shown

if TYPE_CHECKING:
    from serving.served import Served

SERVICE = "inference.GRPCInferenceService"
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a tensor's values are by its datatype, unless they are raw."""
_FLOATS: dict[str, np.dtype[Any]] = {
    "fp32_contents": np.dtype("<f4"),
    "fp64_contents": np.dtype("<f8"),
}


class Inference:
    """The methods of the service. What they raise is `RequestError`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def methods(self) -> dict[bytes, Unary]:
        def path(name: str) -> bytes:
            return f"/{SERVICE}/{name}".encode()

        described: dict[str, Callable[[Any], Awaitable[Message]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        methods = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
        found = {
            path(name): Unary(_plain(getattr(pb, methods[name].input_type.name), answer))
            for name, answer in described.items()
        }
        found[path("ModelInfer")] = Unary(self._infer, self._answered)
        return found

    def _answered(self, status: int, seconds: float) -> None:
        self._service.count("grpc", status, seconds)

    async def _infer(self, message: bytes, context: Context) -> bytes:
        service = self._service
        limits, metrics = service.settings.limits, service.metrics
        if metrics.in_flight >= limits.concurrency:
            raise RequestError("Too many requests at once; try again later.", 503)
        metrics.in_flight += 1
        try:
            request = _parsed(pb.ModelInferRequest, message)
            served = service.current(request.model_name, request.model_version)
            seconds = limits.seconds
            if context.timeout is not None:
                seconds = min(seconds, context.timeout)
            given = request.id or context.headers.get(b"x-request-id", b"").decode("latin-1")
            call = Call("grpc", time.monotonic() + seconds, context.headers, given)
            _check_outputs(request)
            asked = v2.Asked(request.id, _tensors(request), bool(request.raw_input_contents))
            predictions = await service.predict(served, v2.columns(served, asked), call)
        finally:
            metrics.in_flight -= 1
        return _answer(service.name, served, call.id, predictions, asked.binary)

    async def _live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=await self._service.ready())

    async def _server(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**v2.SERVER)

    async def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        if self._service.model is None and request.name == self._service.name:
            return pb.ModelReadyResponse(ready=False)
        self._service.current(request.name, request.version)
        return pb.ModelReadyResponse(ready=await self._service.ready())

    async def _model(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        served = self._service.current(request.name, request.version)
        found = v2.metadata(served, self._service.name)
        # The message has no place for them.
        del found["parameters"]
        return pb.ModelMetadataResponse(**found)

    async def _index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        return pb.RepositoryIndexResponse(models=v2.index(self._service, request.ready))

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        self._check_name(request)
        await self._service.load()
        return pb.RepositoryModelLoadResponse(model_name=self._service.name, isLoaded=True)

    async def _unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        self._check_name(request)
        await self._service.unload()
        return pb.RepositoryModelUnloadResponse(model_name=self._service.name, isUnloaded=True)

    def _check_name(
        self, request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest
    ) -> None:
        name = request.triton_model_name or request.model_name
        if name != self._service.name:
            raise RequestError(
                f"There is no model {shown(name)}; this is '{self._service.name}'.", 404
            )


def _plain(
    kind: type[Message], answer: Callable[[Any], Awaitable[Message]]
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def call(message: bytes, _: Context) -> bytes:
        found: bytes = (await answer(_parsed(kind, message))).SerializeToString()
        return found

    return call


def _parsed(kind: type[Any], message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise RequestError(f"The message is not an {kind.DESCRIPTOR.full_name}.") from None


def _check_outputs(request: pb.ModelInferRequest) -> None:
    for at, output in enumerate(request.outputs):
        if output.name != OUTPUT:
            name = shown(output.name)
            raise RequestError(f"outputs[{at}].name: expected '{OUTPUT}', got {name}.")


def _tensors(request: pb.ModelInferRequest) -> list[Tensor]:
    inputs, raw = request.inputs, request.raw_input_contents
    if not raw:
        return [Tensor(item.name, item.datatype, item.shape, _contents(item)) for item in inputs]
    if len(raw) != len(inputs):
        raise RequestError(
            f"raw_input_contents: expected one for each of the {len(inputs)} inputs, "
            f"got {len(raw)}."
        )
    for item in inputs:
        if item.contents.ListFields():
            raise RequestError(
                f"inputs.{item.name}.contents: expected none beside raw_input_contents."
            )
    return [
        Tensor(item.name, item.datatype, item.shape, data)
        for item, data in zip(inputs, raw, strict=True)
    ]


def _contents(
    tensor: pb.ModelInferRequest.InferInputTensor,
) -> list[Any] | npt.NDArray[Any]:
    wanted = _CONTENTS.get(tensor.datatype)
    for field, _ in tensor.contents.ListFields():
        if field.name == wanted:
            continue
        place = f"inputs.{tensor.name}.contents"
        if tensor.datatype == "FP16":
            raise RequestError(f"{place}: FP16 has none; send raw_input_contents.")
        if wanted is not None:
            raise RequestError(
                f"{place}: expected {wanted} for {tensor.datatype}, got {field.name}."
            )
    if wanted is None:
        return []
    values = getattr(tensor.contents, wanted)
    if not values or wanted not in _FLOATS:
        return list(values)
    # In their message they stand as in an array, after a tag and their length as a varint. To take
    # them one by one costs fifty times as much.
    kind = _FLOATS[wanted]
    size = len(values) * kind.itemsize
    start = 1 + (size.bit_length() + 6) // 7
    return np.frombuffer(tensor.contents.SerializeToString(), kind, len(values), start)


def _answer(name: str, served: Served, identity: str, predictions: Predictions, raw: bool) -> bytes:
    answer = pb.ModelInferResponse(model_name=name, model_version=served.version, id=identity)
    output = answer.outputs.add(name=OUTPUT, datatype="FP32", shape=predictions.shape)
    # As it was asked: Triton's clients, which send raw tensors, read nothing else.
    if raw:
        answer.raw_output_contents.append(predictions.astype("<f4", copy=False).tobytes())
    else:
        output.contents.fp32_contents.extend(predictions.ravel().tolist())
    message: bytes = answer.SerializeToString()
    return message
