"""gRPC requests: right ones, wrong messages, wrong bytes on the connection, and their answers."""

from __future__ import annotations

import math
import struct
from random import Random
from typing import Any

import grpc

from serving.rpc.protos import inference_pb2 as pb
from tests.fuzz import judge, mutate
from tests.fuzz.messages import DEADLINE

INFER = "/inference.GRPCInferenceService/ModelInfer"
MEANT = {
    *(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED),
    *(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION),
}
"""The codes of a refusal; INTERNAL and UNKNOWN are faults of the server."""
_CONTENTS = {
    "BYTES": "bytes_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "BOOL": "bool_contents",
}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _MORE = range(10)


def typed(name: str, v2: dict[str, Any]) -> pb.ModelInferRequest:
    """A V2 body as a message with typed contents."""
    message = pb.ModelInferRequest(model_name=name, id="mine")
    for item in v2["inputs"]:
        values = [v.encode() if isinstance(v, str) else v for v in item["data"]]
        tensor = message.inputs.add(
            name=item["name"], datatype=item["datatype"], shape=item["shape"]
        )
        getattr(tensor.contents, _CONTENTS[item["datatype"]]).extend(values)
    return message


def raw(name: str, v2: dict[str, Any], parts: list[bytes]) -> pb.ModelInferRequest:
    """The same with raw contents."""
    message = typed(name, v2)
    for tensor, part in zip(message.inputs, parts, strict=True):
        tensor.ClearField("contents")
        message.raw_input_contents.append(part)
    return message


def wrong(rng: Random, right: pb.ModelInferRequest) -> bytes:
    """`right` with faults in what it says, or in its bytes."""
    if rng.randrange(3) == 0:
        return mutate.raw(rng, right.SerializeToString())
    message = pb.ModelInferRequest()
    message.CopyFrom(right)
    for _ in range(rng.choice((1, 1, 2))):
        _spoil(rng, message)
    return bytes(message.SerializeToString())


def _spoil(rng: Random, message: pb.ModelInferRequest) -> None:
    at = rng.randrange(len(message.inputs)) if message.inputs else -1
    texts = [value for value in mutate.VALUES if isinstance(value, str) and value.isprintable()]
    fault = rng.randrange(10)
    if fault == 0 or at < 0:
        message.model_version = rng.choice(texts)
    elif fault == 1:
        message.inputs[at].datatype = rng.choice(texts)
    elif fault == 2:
        message.inputs[at].name = rng.choice(texts)
    elif fault == 3:
        del message.inputs[at].shape[:]
        message.inputs[at].shape.extend(
            rng.choice(([], [0], [-1], [3, 1], [1, 3], [3, 3], [2**62, 4], [2**63 - 1], [2]))
        )
    elif fault == 4:
        contents = message.inputs[at].contents
        contents.fp32_contents.extend(rng.choice(([1.0], [math.nan], [math.inf] * 3, [0.5] * 300)))
    elif fault == 5:
        del message.inputs[at]
    elif fault == 6:
        message.inputs.add().CopyFrom(message.inputs[at])
    elif fault == 7:
        message.outputs.add(name=rng.choice(("prediction", *texts)))
    elif fault == 8 and message.raw_input_contents:
        part = rng.randrange(len(message.raw_input_contents))
        message.raw_input_contents[part] = mutate.binary_tensor(
            rng, message.raw_input_contents[part]
        )
    else:
        message.raw_input_contents.append(rng.choice((b"", b"\0" * 24, b"\xff" * 24)))


class Channel:
    """Calls of any bytes to one method."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._call = self._channel.unary_unary(INFER)

    def ask(self, message: bytes) -> grpc.StatusCode:
        """The code of the answer. Raises `AssertionError` for one that must not be."""
        try:
            answered(self._call(message, timeout=DEADLINE))
        except grpc.RpcError as refusal:
            code, words = refusal.code(), refusal.details()
        else:
            return grpc.StatusCode.OK
        assert code in MEANT, (code, words)
        judge.refusal(words, message)
        return code

    def close(self) -> None:
        self._channel.close()


def answered(message: bytes) -> None:
    """Raises `AssertionError` unless it is an answer with finite predictions."""
    answer = pb.ModelInferResponse.FromString(message)
    [output] = answer.outputs
    values = list(output.contents.fp32_contents)
    if answer.raw_output_contents:
        [part] = answer.raw_output_contents
        values = list(struct.unpack(f"<{len(part) // 4}f", part))
    assert len(values) == math.prod(output.shape) > 0
    assert all(map(math.isfinite, values)), values


def connection(message: bytes) -> list[bytes]:
    """Everything that a client sends for one call: the preface, then frames."""
    names = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": INFER.encode(),
        b":authority": b"a",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in names.items())
    body = b"\0" + struct.pack(">I", len(message)) + message
    half, third = len(block) // 2, len(body) // 3
    return [
        _PREFACE,
        _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 2**20)),
        _frame(_WINDOW, 0, 0, struct.pack(">I", 2**20)),
        _frame(_PING, 0, 0, b"12345678"),
        _frame(_HEADERS, 0, 1, block[:half]),
        _frame(_MORE, 4, 1, block[half:]),
        _frame(_PRIORITY, 0, 1, b"\0\0\0\0\x10"),
        _frame(_DATA, 0, 1, body[:third]),
        _frame(_DATA, 8, 1, b"\4" + body[third:-1] + b"\0" * 4),
        _frame(_DATA, 1, 1, body[-1:]),
        _frame(_HEADERS, 4, 3, block),
        _frame(_DATA, 1, 3, body),
        _frame(_SETTINGS, 1, 0, b""),
    ]


def wrong_connection(rng: Random, frames: list[bytes]) -> bytes:
    """Frames with faults in their order, their heads or their bytes."""
    frames = list(frames)
    at = rng.randrange(1, len(frames))
    fault = rng.randrange(7)
    if fault == 0:
        del frames[at]
    elif fault == 1:
        frames.insert(at, rng.choice(frames))
    elif fault == 2:
        kind, flags = rng.randrange(12), rng.choice((0, 1, 4, 5, 8, 9, 32, 37, 45, 255))
        stream = rng.choice((0, 1, 2, 3, 5, 2**31 - 1, 2**31, 2**32 - 1))
        payload = rng.choice((b"", b"\0" * 4, b"\xff" * 4, b"\0" * 8, b"\0" * 6, frames[at][9:]))
        frames.insert(at, _frame(kind, flags, stream, payload))
    elif fault == 3:
        size = rng.choice((0, 1, 16384, 16385, 2**24 - 1, len(frames[at]) - 8))
        frames[at] = size.to_bytes(3, "big") + frames[at][3:]
    elif fault == 4:
        place = rng.randrange(3, 9)
        frames[at] = frames[at][:place] + bytes([rng.randrange(256)]) + frames[at][place + 1 :]
    elif fault == 5:
        head = frames[at][:3]
        frames[at] = head + mutate.raw(rng, frames[at][3:])
    else:
        return mutate.raw(rng, b"".join(frames))
    return b"".join(frames)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value
