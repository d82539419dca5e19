"""What is measured: a protocol, rows in a request, connections; and what each protocol says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from serving.rpc.protos.inference_pb2 import ModelInferRequest, ModelInferResponse

Protocol = Literal["v1", "v2", "binary", "grpc", "features"]
"""`features` is V1 with entity keys: the server looks the features up."""
LENGTH = "inference-header-content-length"
MODEL = "bench"
TOLERANCE = 1e-5


class Case(NamedTuple):
    protocol: Protocol
    rows: int
    connections: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.rows}/{self.connections}"


CASES = (
    *(
        Case(protocol, rows, connections)
        for protocol in ("v1", "v2", "binary", "grpc")
        for rows in (1, 100)
        for connections in (1, 16, 64)
    ),
    Case("features", 1, 1),
    Case("features", 1, 16),
)
BARS = tuple(
    case for case in CASES if (case.rows, case.connections) in ((1, 1), (1, 16), (100, 16))
)
"""The cases that the bars need."""


@dataclass(frozen=True)
class Question:
    """A request's body, and the predictions that are the right answer, float [n]."""

    body: bytes
    headers: Mapping[str, str]
    expected: npt.NDArray[np.float32]


def ask_rows(protocol: Protocol, rows: npt.NDArray[np.float32], expected: Any) -> Question:
    """The question after rows of numbers, float32 [n, features], in one of the protocols."""
    if protocol == "grpc":
        return Question(_grpc(rows), {}, expected)
    if protocol == "v1":
        body = json.dumps({"instances": rows.tolist()}).encode()
        return Question(body, JSON, expected)
    tensor = {"name": "features", "shape": list(rows.shape), "datatype": "FP32"}
    if protocol == "v2":
        body = json.dumps({"inputs": [tensor | {"data": rows.ravel().tolist()}]}).encode()
        return Question(body, JSON, expected)
    raw = rows.astype("<f4").tobytes()
    head = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    kind = {"content-type": "application/octet-stream", LENGTH: str(len(text))}
    return Question(text + raw, kind, expected)


JSON = {"content-type": "application/json"}


def ask_entities(rows: list[dict[str, Any]], expected: Any) -> Question:
    return Question(json.dumps({"instances": rows}).encode(), JSON, expected)


def _grpc(rows: npt.NDArray[np.float32]) -> bytes:
    request = ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="FP32", shape=rows.shape)
    tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return bytes(request.SerializeToString())


class WrongAnswer(Exception):
    """A server that does not answer, or not what it should; the message says how."""


def check(question: Question, found: npt.NDArray[np.float64]) -> None:
    """Raises `WrongAnswer`."""
    expected = question.expected
    if found.shape != expected.shape or not np.allclose(found, expected, 0, TOLERANCE):
        raise WrongAnswer(f"expected {_shown(expected)}, got {_shown(found)}")


def read_http(headers: Message | Mapping[str, str], body: bytes) -> npt.NDArray[np.float64]:
    """The predictions in an answer of any server here. Raises `WrongAnswer`."""
    try:
        length = headers.get(LENGTH)
        document = json.loads(body[: int(length)] if length else body)
        if isinstance(document, list):
            return np.array(document, np.float64)
        if "predictions" in document:
            return np.array(document["predictions"], np.float64)
        output = document["outputs"][0]
        if length is None:
            return np.array(output["data"], np.float64)
        return _raw(body[int(length) :], output["datatype"])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswer(f"not an answer ({error!r}): {body[:200]!r}") from None


def read_grpc(message: bytes) -> npt.NDArray[np.float64]:
    """The predictions in a ModelInferResponse. Raises `WrongAnswer`."""
    response = ModelInferResponse.FromString(message)
    if not response.outputs:
        raise WrongAnswer(f"an answer without outputs: {message[:200]!r}")
    output = response.outputs[0]
    if response.raw_output_contents:
        return _raw(response.raw_output_contents[0], output.datatype)
    contents = output.contents.fp32_contents or output.contents.fp64_contents
    return np.array(contents, np.float64)


def _raw(data: bytes, datatype: str) -> npt.NDArray[np.float64]:
    kinds = {"FP32": "<f4", "FP64": "<f8"}
    if datatype not in kinds:
        raise WrongAnswer(f"an answer of the type {datatype}")
    return np.frombuffer(data, kinds[datatype]).astype(np.float64)


def _shown(values: npt.NDArray[Any]) -> str:
    more = ", …" if values.size > 3 else ""
    return f"[{', '.join(f'{value:.7g}' for value in values.ravel()[:3])}{more}] {values.shape}"
