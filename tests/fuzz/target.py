"""What is fuzzed: each protocol as a function from an input to a judged answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving.tensors import tensor_metadata
from slipway.files import read_json
from slipway.schema import row_schema
from tests.fuzz import judge
from tests.fuzz.messages import Answer, Headers, Request

ROWS = 3
_LENGTH = b"inference-header-content-length"
_KINDS: dict[str, Any] = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}


@dataclass(frozen=True)
class Valid:
    """Right requests of the same rows."""

    v1: dict[str, Any]
    v1_lists: dict[str, Any]
    v2: dict[str, Any]
    binary_head: dict[str, Any]
    binary_parts: list[bytes]
    """Of the tensors in `binary_head`."""


@dataclass
class Target:
    """One model behind `transport`, its protocols as functions of what is sent."""

    name: str
    transport: Callable[[Request], Answer]
    valid: Valid
    found: Path
    """Folder for requests that should not have been answered so."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How many answers had which status."""

    def v1(self, body: bytes) -> Answer:
        return self.ask(Request("POST", f"/v1/models/{self.name}:predict", body))

    def explain(self, body: bytes) -> Answer:
        return self.ask(Request("POST", f"/v1/models/{self.name}:explain", body))

    def v2(self, body: bytes, headers: Headers = ()) -> Answer:
        return self.ask(Request("POST", f"/v2/models/{self.name}/infer", body, headers))

    def binary(self, length: bytes, body: bytes) -> Answer:
        """`length` is what the header says of the JSON part's size."""
        return self.v2(body, ((_LENGTH, length),))

    def ask(self, request: Request) -> Answer:
        """Raises `AssertionError` for an answer that must not be, `TimeoutError` for none; the
        request is left in a file, to be kept as one that is always tried."""
        try:
            answer = self.transport(request)
            self.statuses[answer.status] += 1
            sent = request.path.encode() + request.body
            judge.rest(answer.status, answer.headers["content-type"], answer.body, sent)
        except Exception as error:
            error.add_note(f"for the request in {keep(self.found, 'http', request.raw())}")
            raise
        return answer


def keep(folder: Path, ending: str, data: bytes) -> Path:
    """Write an input to a file that is named by it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}.{ending}"
    path.write_bytes(data)
    return path


def valid(package: Path) -> Valid:
    """Requests of the package's reference rows."""
    columns = {name: values[:ROWS] for name, values in _reference(package).items()}
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    inputs = [
        item | {"shape": [ROWS], "data": columns[item["name"]]}
        for item in tensor_metadata(row_schema(read_json(package / "signature.json")))
    ]
    parts = [_binary(item["datatype"], item["data"]) for item in inputs]
    head = [
        {key: item[key] for key in ("name", "datatype", "shape")}
        | {"parameters": {"binary_data_size": len(part)}}
        for item, part in zip(inputs, parts, strict=True)
    ]
    return Valid(
        v1={"instances": [dict(zip(columns, row, strict=True)) for row in rows]},
        v1_lists={"instances": rows, "parameters": {"trace": True}},
        v2={"id": "mine", "inputs": inputs, "outputs": [{"name": "prediction"}]},
        binary_head={"id": "mine", "inputs": head, "parameters": {"binary_data_output": True}},
        binary_parts=parts,
    )


def _reference(package: Path) -> dict[str, list[Any]]:
    """Reference rows without a null, which binary tensors cannot say of every type."""
    columns = json.loads((package / "reference.json").read_text())["rows"]
    rows = [row for row in zip(*columns.values(), strict=True) if None not in row]
    return {
        name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    }


def _binary(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values, _KINDS[datatype]).tobytes()
