"""Training sets in the form that the features step leaves, small and made up, with a signal."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slipway.files import write_text
from slipway.project import Project

CONTRACT = """\
name: small
description: A made-up event.
sources:
  events: {{uri: events.csv, columns: {{id: {{type: int}}}}}}
tables:
  facts: {{sql: any.sql}}
entities:
  shop: {{type: string}}
views:
  recent:
    sql: any.sql
    entities: [shop]
    ttl: 6h
    features:
      mean: {{type: float}}
      kind: {{type: string}}
request:
  size: {{type: float}}
target:
  sql: any.sql
  key: [id]
  event_timestamp: at
  label: y
  label_timestamp: known_at
  task: {task}
split: {{train: 6 months, validate: 2 months, test: 2 months}}
training: {training}
"""
CLASSES = "multiclass\n  classes: [a, b, c]"
WINDOWS = {"train": 2000, "validate": 500, "test": 500}


def small_project(folder: Path, task: str, training: str) -> Project:
    """A project whose contract fits the training set; `training` is its section as YAML."""
    text = CONTRACT.format(task=CLASSES if task == "multiclass" else task, training=training)
    write_text(folder / "project.yaml", text)
    write_text(folder / "any.sql", "select 1")
    return Project.load(folder / "project.yaml")


def small_training_set(folder: Path, task: str, seed: int = 0) -> Path:
    """3,000 rows with nulls in both features; the label hangs on all three features."""
    rng = np.random.default_rng(seed)
    rows = sum(WINDOWS.values())
    size, mean = rng.normal(size=rows), rng.normal(size=rows)
    kind = rng.integers(0, 4, rows)
    score = size - mean + np.array([-1.0, 0.0, 1.0, 2.0])[kind] + rng.normal(scale=0.5, size=rows)
    labels = {
        "binary": (score > 0).astype(np.int64),
        "multiclass": np.digitize(score, [-0.7, 1.0]).astype(np.int64),
        "regression": 50 + 10 * score,
    }
    start = datetime(2024, 1, 1, tzinfo=UTC)
    at = [start + timedelta(hours=2 * row) for row in range(rows)]
    table = pa.table(
        {
            "row_id": np.arange(rows),
            "window": np.repeat(list(WINDOWS), list(WINDOWS.values())),
            "id": np.arange(rows),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
            "known_at": pa.array(at, pa.timestamp("us", "UTC")),
            "shop": [f"shop{row % 5}" for row in range(rows)],
            "size": size,
            "y": labels[task],
            "recent__mean": pa.array(mean, mask=rng.random(rows) < 0.05),
            "recent__kind": pa.array(
                [f"kind{code}" for code in kind], mask=rng.random(rows) < 0.02
            ),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "training_set.parquet")
    return folder
