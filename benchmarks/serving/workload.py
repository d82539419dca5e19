"""The two models that are served, the requests to them, and the right answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.serving.cases import MODEL, Question, ask_rows
from benchmarks.serving.features import Features, make_features
from slipway.contract import load_contract
from tests.local.small_model import write_package

FEATURES = 26


@dataclass(frozen=True)
class Files:
    """What was made: where it lies, and what to ask."""

    package: Path
    """A model of 26 numbers that the client sends."""
    answers: Path
    """What the echo answers, by path."""
    questions: dict[tuple[str, int], list[Question]]
    """By protocol and rows."""
    features: Features | None


def make(folder: Path, redis: str | None) -> Files:
    """Make all in `folder`; `redis` is HOST:PORT of an empty one, None for no feature store."""
    path, package = folder / "model.yaml", folder / "package"
    path.write_text(yaml.safe_dump(CONTRACT, sort_keys=False))
    contract = load_contract(path)
    rows = np.random.default_rng(7).normal(size=(400, FEATURES)).astype(np.float32)
    table = pa.table(dict(zip(contract.request, rows.T, strict=True)))
    label = pa.array((rows[:, :5].sum(axis=1) > 0).astype(np.int64))
    model = write_package(package, contract, table.append_column("label", label))
    questions = {}
    for count in (1, 100):
        expected = model.predict_encoded(rows[:count])
        for protocol in ("v1", "v2", "binary", "grpc"):
            questions[protocol, count] = [ask_rows(protocol, rows[:count], expected)]
    features = None
    if redis:
        features, asked = make_features(folder / "features", redis)
        questions["features", 1] = asked
    answers = folder / "answers.json"
    answers.write_text(json.dumps(_echoed(questions)))
    return Files(package, answers, questions, features)


def _echoed(questions: dict[tuple[str, int], list[Question]]) -> dict[str, str]:
    """Answers of the size that our own have, by path."""
    found = {}
    for rows in (1, 100):
        predictions = questions["v1", rows][0].expected.tolist()
        output = {"name": "prediction", "datatype": "FP32", "shape": [rows], "data": predictions}
        head = {"model_name": MODEL, "model_version": "0" * 12, "id": "0" * 32}
        for path, answer in (
            ("v1", {"predictions": predictions}),
            ("v2", {**head, "outputs": [output]}),
        ):
            found[f"/{path}/{rows}"] = json.dumps(answer, separators=(",", ":"))
    return found


CONTRACT: dict[str, Any] = {
    "name": "bench",
    "description": "Numbers, to measure the server.",
    "sources": {"events": {"uri": "events.csv", "columns": {"id": {"type": "int"}}}},
    "tables": {"facts": {"sql": "facts.sql"}},
    "entities": {"thing": {}},
    "views": {},
    "request": {f"feature_{at:02d}": {"type": "float"} for at in range(FEATURES)},
    "target": {
        "sql": "target.sql",
        "key": ["id"],
        "event_timestamp": "at",
        "label": "label",
        "label_timestamp": "at",
        "task": "binary",
    },
    "split": {"train": "30 days", "validate": "5 days", "test": "5 days"},
}
