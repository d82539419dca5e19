"""Rows of the test window, asked of an endpoint behind a gateway by every protocol.

The answers must be those of the same package in this process, on features as they were known at the
moment that the online store stands at: what an embedded run proves of itself (`serving.replay`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from serving.replay import Floats, as_instances, offline_rows, request_rows, test_rows
from serving.tensors import tensor_metadata
from slipway.contract.checks import METRICS
from slipway.package import Model
from slipway.project import Project
from slipway.schema import RequestError, Schema, request_schema, row_schema
from slipway.scores import scores

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

BATCH = 50
LARGE_BATCH = 500
SECONDS = 30
CONTENTS = {
    "BYTES": "bytes_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "BOOL": "bool_contents",
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Remote:
    """A model behind a gateway that routes by the Host header."""

    url: str
    host: str
    name: str


def compare(
    project: Project,
    remote: Remote,
    package: Path,
    training_set: Path,
    feature_version: str,
    moment: datetime,
    rows: int = 500,
) -> dict[str, Any]:
    """Score the test window through a gateway; the facts `score`.

    `protocols`: its newest `rows` rows by entity keys, each by V1, V2 and gRPC; the features are
    those of the online store. `window`: all of its rows with their own features, by V2. In each,
    `difference` is the metric of the answers less that of `package` here on the same rows. Raises
    `RuntimeError` for an answer that is none.
    """
    import httpx

    model = Model.load(package)
    test = test_rows(project, training_set)
    asked = test.slice(max(0, len(test) - rows))  # the store's features are of their time
    expected = _predicted(model, offline_rows(project, feature_version, asked, moment))
    with httpx.Client(
        base_url=remote.url, headers={"Host": remote.host}, trust_env=False, timeout=SECONDS
    ) as client:
        found = _by_protocol(project, remote, client, model, asked, expected)
        window = _whole_window(project, remote, client, model, test)
    return {
        "moment": moment.isoformat(),
        "rows": len(asked),
        "metric": found["V1"]["metric"],
        "protocols": found,
        "window": window,
    }


def _by_protocol(
    project: Project,
    remote: Remote,
    client: httpx.Client,
    model: Model,
    asked: pa.Table,
    expected: Floats,
) -> dict[str, Any]:
    truth = asked[project.contract.target.label].to_numpy()
    sent = request_rows(model, asked)
    tensors = tensor_metadata(request_schema(model.signature))
    # Binary tensors know no null, so such a row cannot be asked by gRPC.
    whole = np.array([None not in row.values() for row in sent])
    asking: dict[str, Callable[[Rows], Floats]] = {
        "V1": lambda part: _v1(client, remote, part),
        "V2": lambda part: _v2(client, remote, tensors, part),
        "gRPC": lambda part: _grpc(remote, tensors, part),
    }
    found = {}
    for protocol, ask in asking.items():
        kept = whole if protocol == "gRPC" else np.ones(len(sent), bool)
        rows_sent = [row for row, keep in zip(sent, kept, strict=True) if keep]
        found[protocol] = _judged(project, truth[kept], expected[kept], ask, rows_sent, BATCH)
    return found


def _whole_window(
    project: Project, remote: Remote, client: httpx.Client, model: Model, test: pa.Table
) -> dict[str, Any]:
    """Rows that the contract's request schema refuses were scored in training, and are not here."""
    schema = row_schema(model.signature)
    sent = as_instances(schema, test)
    kept = np.array([_servable(schema, row) for row in sent])
    tensors = tensor_metadata(schema)
    return _judged(
        project,
        test[project.contract.target.label].to_numpy()[kept],
        _predicted(model, test)[kept],
        lambda part: _v2(client, remote, tensors, part),
        [row for row, keep in zip(sent, kept, strict=True) if keep],
        LARGE_BATCH,
    )


def _predicted(model: Model, rows: pa.Table) -> Floats:
    return model.predict(rows).astype(np.float64)


def _servable(schema: Schema, row: dict[str, Any]) -> bool:
    try:
        schema.from_instances({"instances": [row]})
    except RequestError:
        return False
    return True


def _judged(
    project: Project,
    truth: Any,
    expected: Floats,
    ask: Callable[[Rows], Floats],
    rows: Rows,
    batch: int,
) -> dict[str, Any]:
    started = time.perf_counter()
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    answers = np.concatenate([ask(part) for part in parts])
    seconds = time.perf_counter() - started
    task = project.contract.target.task
    here, there = scores(task, truth, expected), scores(task, truth, answers)
    # A ranking does not exist where all rows are of one class.
    metric = next(name for name in METRICS[task] if math.isfinite(here[name]))
    return {
        "metric": metric,
        "rows": len(truth),
        "value": there[metric],
        "embedded": here[metric],
        "difference": there[metric] - here[metric],
        "largest_difference": float(np.abs(answers - expected).max()),
        "seconds": round(seconds, 2),
    }


def _v1(client: httpx.Client, remote: Remote, rows: Rows) -> Floats:
    answer = client.post(f"/v1/models/{remote.name}:predict", json={"instances": rows})
    return np.array(_answered(answer)["predictions"], np.float64)


def _v2(client: httpx.Client, remote: Remote, tensors: list[dict[str, Any]], rows: Rows) -> Floats:
    inputs = [
        tensor | {"shape": [len(rows)], "data": [row[tensor["name"]] for row in rows]}
        for tensor in tensors
    ]
    body = json.dumps({"inputs": inputs})
    [output] = _answered(client.post(f"/v2/models/{remote.name}/infer", content=body))["outputs"]
    return np.array(output["data"], np.float64).reshape(output["shape"])


def _answered(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise RuntimeError(
            f"{answer.request.url} answered {answer.status_code}: {answer.text[:300]}"
        )
    return answer.json()


def _grpc(remote: Remote, tensors: list[dict[str, Any]], rows: Rows) -> Floats:
    import grpc

    from serving.rpc.inference import SERVICE
    from serving.rpc.protos import inference_pb2 as pb

    request = pb.ModelInferRequest(model_name=remote.name)
    for tensor in tensors:
        values = [row[tensor["name"]] for row in rows]
        if tensor["datatype"] == "BYTES":
            values = [value.encode() for value in values]
        sent = request.inputs.add(
            name=tensor["name"], datatype=tensor["datatype"], shape=[len(rows)]
        )
        getattr(sent.contents, CONTENTS[tensor["datatype"]]).extend(values)
    parts = urlsplit(remote.url)
    secure = parts.scheme == "https"
    target = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    options = [("grpc.default_authority", remote.host), ("grpc.enable_http_proxy", 0)]
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        if secure
        else grpc.insecure_channel(target, options)
    )
    with channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        try:
            answer = infer(request, timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise RuntimeError(
                f"gRPC of {remote.host}: {error.code()}: {error.details()}"
            ) from None
    [output] = answer.outputs
    if answer.raw_output_contents:
        kind = {"FP32": "<f4", "FP64": "<f8"}[output.datatype]
        found = np.frombuffer(answer.raw_output_contents[0], kind)
    else:
        found = np.array(output.contents.fp32_contents or output.contents.fp64_contents)
    return found.astype(np.float64).reshape(list(output.shape))
