"""The two models that are fuzzed: one with a field of every type, one that also takes a matrix."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pyarrow as pa

from slipway.contract import load_contract
from tests.local.small_model import write_package

_CONTRACT = """
    name: {name}
    description: A model to be fuzzed.
    timezone: America/New_York
    sources:
      events:
        uri: events.csv
        columns: {{id: {{type: int}}, at: {{type: timestamp}}}}
    tables: {{facts: {{sql: facts.sql}}}}
    entities: {{shop: {{}}}}
    views: {{}}
    request: {request}
    target:
      sql: target.sql
      key: [id]
      event_timestamp: at
      label: label
      label_timestamp: at
      task: {task}
    split: {{train: 30 days, validate: 5 days, test: 5 days}}
"""
_KINDS = """{
      color: {type: string},
      note: {type: string, on_null: keep},
      at: {type: timestamp, parts: [minute_of_day, hour, day_of_week, day_of_year]},
      size: {type: float, range: [0, 1000]},
      weight: {type: float, on_null: keep},
      count: {type: int, on_null: keep},
      stars: {type: int, range: [1, 5]},
      fresh: {type: bool}}"""
_NUMBERS = """{
      a: {type: float},
      b: {type: float, on_null: keep},
      c: {type: float, range: [-10, 10]}}"""

KINDS, NUMBERS = "kinds", "numbers"


def write_kinds(folder: Path) -> Path:
    """A sealed package of a probability from fields of every type."""
    first = datetime(2024, 3, 1, tzinfo=UTC)
    return _write(
        folder,
        KINDS,
        _KINDS,
        "binary",
        {
            "color": ["red", "green", "blue", "ünï"],
            "note": [None, "a", "b", ""],
            "at": [first + timedelta(hours=7 * at) for at in range(4)],
            "size": [0.0, 1.5, 999.5, 1000.0],
            "weight": [None, -1e9, 1e-9, 3.25],
            "count": [None, 0, -(2**40), 7],
            "stars": [1, 2, 3, 5],
            "fresh": [True, False, True, True],
        },
    )


def write_numbers(folder: Path) -> Path:
    """A sealed package of a regression on three numbers."""
    numbers: dict[str, list[Any]] = {
        "a": [0.5, 1.0, -2.0, 8.0],
        "b": [None, 2.5, 1.0, -1.0],
        "c": [-10.0, 10.0, 0.0, 0.25],
    }
    return _write(folder, NUMBERS, _NUMBERS, "regression", numbers)


def _write(folder: Path, name: str, request: str, task: str, columns: dict[str, list[Any]]) -> Path:
    folder.mkdir(parents=True)
    source = folder.parent / f"{name}.yaml"
    source.write_text(dedent(_CONTRACT.format(name=name, request=request, task=task)))
    labels = [-2.0, 1.0, -0.5, 0.4] * 8 if task == "binary" else [-900.0, 200.0, 0.0, 4000.0] * 8
    rows = {key: values * 8 for key, values in columns.items()}
    write_package(folder, load_contract(source), pa.table(rows | {"label": labels}))
    return folder
