"""A package of a model of numbers alone, for tests of the server and not of the model."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from small_model import write_package

from slipway.contract import load_contract

WIDTH = 4
CONTRACT = """\
name: numbers
description: Made up.
sources:
  events: {uri: events.csv, columns: {id: {type: int}}}
tables:
  facts: {sql: any.sql}
entities:
  id: {type: int}
views: {}
request:
  a: {type: float}
  b: {type: float}
  c: {type: float}
  d: {type: float}
target:
  sql: any.sql
  key: [id]
  event_timestamp: at
  label: y
  label_timestamp: at
  task: regression
split: {train: 3 days, validate: 1 day, test: 1 day}
"""


def write_numbers(folder: Path, slope: float) -> Path:
    """A package whose prediction is `slope` times the sum of the four numbers."""
    folder.mkdir(parents=True)
    for name in ("project.yaml", "any.sql"):
        (folder / name).write_text(CONTRACT if name.endswith("yaml") else "select 1")
    contract = load_contract(folder / "project.yaml")
    rows = np.random.default_rng(0).normal(size=(200, WIDTH))
    columns = {name: rows[:, at] for at, name in enumerate("abcd")}
    write_package(folder / "package", contract, pa.table(columns | {"y": rows.sum(axis=1) * slope}))
    return folder / "package"
