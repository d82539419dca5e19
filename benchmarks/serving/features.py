"""A model with the eight views of project.yaml, and its online stores on SQLite and on Redis."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.serving.cases import Question, ask_entities
from feature_repo.build import view_location
from feature_repo.definitions import feast_project
from feature_repo.materialize import materialize
from feature_repo.store import CONFIG, EMBEDDED, ONLINE, REGISTRY
from slipway.contract import load_contract
from slipway.encoder import input_features
from slipway.package import Model, seal
from slipway.project import Project
from tests.local.small_model import write_package

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "feature_repo" / "stores" / "cluster" / CONFIG
ROWS, QUESTIONS = 400, 32
"""Of the model's training; different entities that are asked for in turn."""
SIZES = {"carrier": 16, "origin": 3, "dest": 100, "tailnum": 4000}
"""How many there are of each entity."""
VERSION = "0123456789abcdef"
Row = dict[str, Any]


@dataclass(frozen=True)
class Features:
    package: Path
    stores: dict[str, Path]
    """`sqlite`, `redis`: what `--feature_store` takes."""
    repositories: dict[str, Path]
    """The same stores as Feast's own SDK opens them."""


def make_features(folder: Path, redis: str) -> tuple[Features, list[Question]]:
    """Make all in `folder`, and what to ask; `redis` is HOST:PORT of an empty one."""
    document = yaml.safe_load((ROOT / "project.yaml").read_text())
    # Keys and one number: more would have to be encoded, and the others' servers have no encoder.
    document["request"] = {"distance": {"type": "float"}}
    folder.mkdir()
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    project = Project(path, load_contract(path), "")
    with _home(folder):
        views = _write_views(project)
        rows = [_row(project, views, at) for at in range(ROWS)]
        model = _write_package(project, folder / "package", rows)
        stores = _fill(project, folder, redis)
    repositories = {
        kind: _write_repository(project, place, folder / f"feast-{kind}")
        for kind, place in stores.items()
    }
    questions = []
    for row in rows[:QUESTIONS]:
        expected = model.predict({item.name: [row[item.name]] for item in model.encoder.features})
        sent = {name: row[name] for name in (*project.contract.entities, "distance")}
        questions.append(ask_entities([sent], expected))
    return Features(folder / "package", stores, repositories), questions


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """With features in `folder`, wherever the environment says that they lie."""
    names = {"SLIPWAY_HOME": str(folder), "SLIPWAY_FEATURES_URI": str(folder / "views")}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _write_views(project: Project) -> dict[str, dict[tuple[str, ...], Row]]:
    """Values for every entity of every view, a minute old; by view, by key."""
    random = np.random.default_rng(7)
    stamp = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    views = {}
    for name, view in project.contract.views.items():
        keys: list[tuple[str, ...]] = [()]
        for entity in view.entities:
            keys = [(*key, f"{entity}-{at}") for key in keys for at in range(SIZES[entity])]
        values = {
            # Within every range of the contract.
            feature: random.integers(1, 200, len(keys)).tolist()
            if item.type == "int"
            else random.random(len(keys)).tolist()
            for feature, item in view.features.items()
        }
        columns: dict[str, Any] = dict(
            zip(view.entities, map(list, zip(*keys, strict=True)), strict=True)
        )
        columns |= values
        columns[view.event_timestamp] = pa.array([stamp] * len(keys), pa.timestamp("us", "UTC"))
        path = Path(view_location(project, VERSION, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        views[name] = {
            key: {f"{name}__{feature}": values[feature][at] for feature in values}
            for at, key in enumerate(keys)
        }
    return views


def _row(project: Project, views: dict[str, dict[tuple[str, ...], Row]], at: int) -> Row:
    """The `at`-th choice of entities, what the views say of them, and the request's own."""
    row: Row = {name: f"{name}-{at * 7919 % size}" for name, size in SIZES.items()}
    row["distance"] = 100.0 + at
    for name, view in project.contract.views.items():
        row |= views[name][tuple(row[entity] for entity in view.entities)]
    return row


def _write_package(project: Project, folder: Path, rows: list[Row]) -> Model:
    columns = {
        item.name: [row[item.name] for row in rows] for item in input_features(project.contract)
    }
    columns[project.contract.target.label] = [at % 2 for at in range(len(rows))]
    model = write_package(folder, project.contract, pa.table(columns))
    shutil.copy(project.path, folder / "contract.yaml")
    seal(folder)
    return model


def _fill(project: Project, folder: Path, redis: str) -> dict[str, Path]:
    """Both stores, by Feast's materialisation."""
    shared = folder / "redis" / CONFIG
    shared.parent.mkdir()
    text = Template(CLUSTER.read_text()).safe_substitute(
        SLIPWAY_FEAST_REGISTRY_TYPE="file",
        SLIPWAY_FEAST_REGISTRY=str(shared.parent / REGISTRY),
        SLIPWAY_FEAST_REDIS=redis,
    )
    shared.write_text(text)
    stores = {"sqlite": folder / "sqlite", "redis": shared}
    for place in stores.values():
        materialize(project, VERSION, datetime.now(UTC), place)
    return stores


def _write_repository(project: Project, place: Path, folder: Path) -> Path:
    """The store at `place` as Feast's own SDK opens it: without our offline store."""
    shared = place.is_file()
    raw = yaml.safe_load((place if shared else EMBEDDED).read_text())
    # A shared store's first generation is a project of its own.
    raw["project"] = feast_project(project) + ("_a" if shared else "")
    raw["registry"]["path"] = str((place.parent if shared else place) / REGISTRY)
    raw["offline_store"] = {"type": "file"}
    if not shared:
        raw["online_store"]["path"] = str(place / ONLINE)
    folder.mkdir()
    (folder / CONFIG).write_text(yaml.safe_dump(raw))
    plan = {
        "service": project.contract.name,
        "entities": list(project.contract.entities),
        "features": [item.name for item in input_features(project.contract)],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder
