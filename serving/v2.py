"""Bodies of the Open Inference Protocol (V2) over REST, with its binary tensor extension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from serving.inference import Predictions
from serving.tensors import Tensor, read_tensors, tensor_metadata
from slipway import __version__
from slipway.schema import OUTPUT, Columns, RequestError, member, shown

if TYPE_CHECKING:
    from serving.served import Served
    from serving.service import Service

BINARY_HEADER = b"inference-header-content-length"
_MEMBERS = (
    ("name", str, "a string"),
    ("datatype", str, "a string"),
    ("shape", list, "a list like [1]"),
)
SERVER: dict[str, Any] = {
    "name": "slipway",
    "version": __version__,
    "extensions": ["binary_tensor_data", "model_repository"],
}


@dataclass(slots=True)
class Asked:
    """A request to infer."""

    id: str
    tensors: list[Tensor]
    binary: bool
    """Whether the answer's tensor is to be binary."""


def read(body: bytes, length: bytes | None, load_json: Callable[[Any], Any]) -> Asked:
    """`length` is the size of the JSON part where binary tensors follow it. Raises
    `RequestError`."""
    if length is None:
        return parse(load_json(body), b"")
    if not length.isdigit() or len(length) > 20 or int(length) > len(body):
        raise RequestError(
            f"{BINARY_HEADER.decode()}: expected the size of the JSON part, up to {len(body)} "
            f"bytes, got {shown(length.decode('latin-1'))}."
        )
    end = int(length)
    return parse(load_json(body[:end]), body[end:])


def columns(served: Served, asked: Asked, may_hold_bools: bool = True) -> Columns:
    """Raises `RequestError` for tensors that are not what the model takes.

    `may_hold_bools`: whether a bool may be among numbers.
    """
    schema = served.schema
    if len(served.schemas) > 1:
        schema = served.schema_of(tensor.name for tensor in asked.tensors)
    return read_tensors(schema, asked.tensors, may_hold_bools)


def answer(
    name: str, version: str, identity: str, predictions: Predictions, binary: bool
) -> list[bytes]:
    """The JSON part, and the binary part if it was asked for."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(predictions.shape)}
    raw = b""
    if binary:
        raw = predictions.astype("<f4", copy=False).tobytes()
        output["parameters"] = {"binary_data_size": len(raw)}
    else:
        output["data"] = predictions.ravel()
    body = {"model_name": name, "model_version": version, "id": identity, "outputs": [output]}
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return [text, raw] if binary else [text]


def metadata(served: Served, name: str) -> dict[str, Any]:
    classes = served.signature["classes"]
    shape = [-1, len(classes)] if classes else [-1]
    return {
        "name": name,
        "versions": [served.version],
        "platform": "onnx",
        "inputs": tensor_metadata(served.schema),
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": shape}],
        "parameters": {"classes": classes, "request_schema": served.schema.json_schema()},
    }


def index(service: Service, ready_only: bool) -> list[dict[str, Any]]:
    """The entries of the repository's index: one, or none."""
    model = service.model
    if model is not None:
        return [{"name": service.name, "version": model.version, "state": "READY", "reason": ""}]
    gone = {"name": service.name, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
    return [] if ready_only else [gone]


def wants_ready_only(body: Any) -> bool:
    """Of a request for the repository's index. Raises `RequestError`."""
    if not isinstance(body, dict):
        raise RequestError(f"body: expected a JSON object, got {shown(body)}.")
    return _flag(body, "ready", "body")


def parse(body: Any, binary: bytes) -> Asked:
    """`binary` is what follows the JSON part. Raises `RequestError`."""
    inputs = member(body, "inputs", list, "a list of tensors")
    at = 0
    tensors = []
    for number, item in enumerate(inputs):
        tensor = _tensor(item, number)
        if tensor.data is None:
            size = item["parameters"]["binary_data_size"]
            if type(size) is not int or not 0 <= size <= len(binary) - at:
                raise RequestError(
                    f"inputs[{number}].parameters.binary_data_size: expected a number of bytes, at "
                    f"most the {len(binary) - at} that follow, got {shown(size)}."
                )
            tensor.data = binary[at : at + size]
            at += size
        tensors.append(tensor)
    if at != len(binary):
        raise RequestError(
            f"inputs: expected {at} bytes of binary data as their sizes say, got {len(binary)}."
        )
    identity = body.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestError(f"id: expected a string, got {shown(identity)}.")
    return Asked(identity or "", tensors, _wants_binary(body))


def _tensor(item: Any, number: int) -> Tensor:
    """Without data where it is binary."""
    find: Callable[[str], Any] = item.get if type(item) is dict else {}.get
    name, datatype, shape, data = find("name"), find("datatype"), find("shape"), find("data")
    right = type(name) is str and type(datatype) is str and type(shape) is list
    if right and type(data) is list and "parameters" not in item:
        return Tensor(name, datatype, shape, data)
    # Something is unusual, and perhaps wrong.
    place = f"inputs.{name[:60]}" if type(name) is str else f"inputs[{number}]"
    for key, kind, words in _MEMBERS:
        member(item, key, kind, words, place)
    if "binary_data_size" not in _parameters(item, place):
        member(item, "data", list, "a list of values", place)
    elif "data" in item:
        raise RequestError(f"{place}.data: expected none beside binary data.")
    return Tensor(name, datatype, shape, data)


def _wants_binary(body: dict[str, Any]) -> bool:
    """Checks the outputs that are asked for."""
    if "outputs" not in body and "parameters" not in body:
        return False
    wanted = _flag(_parameters(body, ""), "binary_data_output", "parameters")
    outputs = body.get("outputs")
    if outputs is None:
        return wanted
    for at, item in enumerate(member(body, "outputs", list, "a list of outputs")):
        place = f"outputs[{at}]"
        name = member(item, "name", str, "a string", place)
        if name != OUTPUT:
            raise RequestError(f"{place}.name: expected '{OUTPUT}', got {shown(name)}.")
        parameters = _parameters(item, place)
        if "binary_data" in parameters:
            wanted = _flag(parameters, "binary_data", f"{place}.parameters")
    return wanted


def _parameters(body: dict[str, Any], place: str) -> dict[str, Any]:
    found = body.get("parameters")
    if found is not None and not isinstance(found, dict):
        where = f"{place}.parameters".lstrip(".")
        raise RequestError(f"{where}: expected a JSON object, got {shown(found)}.")
    return found or {}


def _flag(parameters: dict[str, Any], name: str, place: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise RequestError(f"{place}.{name}: expected true or false, got {shown(value)}.")
    return value
