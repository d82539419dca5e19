"""What runs inside a Ray Train worker. Imports no engine before its turn."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from components.train.exchange import publish
from components.train.job import Job, Reporter, Trained, TrainReporter
from slipway.files import read_json, write_json
from slipway.storage import locate

TRAINED = "trained.json"


def train_job(job: Job, reporter: Reporter, out: Path) -> Trained:
    """Train one job with its engine's module, `components.train.<engine>_engine`."""
    trained: Trained = import_module(f"components.train.{job.engine}_engine").train(
        job, reporter, out
    )
    return trained


def train_jobs(config: dict[str, Any]) -> None:
    """Train jobs one after another; one that an earlier attempt finished is not trained again."""
    for raw in config["jobs"]:
        job = Job(**raw)
        place = locate(config["out"]) / job.engine
        if (place / TRAINED).exists():
            continue
        out = place.local or Path(tempfile.mkdtemp(prefix=f"slipway-{job.engine}-"))
        out.mkdir(parents=True, exist_ok=True)
        reporter = TrainReporter(job.engine)
        trained = train_job(job, reporter, out)
        if reporter.rank == 0:
            write_json(out / TRAINED, asdict(trained))
            publish(out, place, last=TRAINED)


def read_trained(out: Path, engine: str) -> Trained | None:
    path = out / engine / TRAINED
    return Trained(**read_json(path)) if path.exists() else None
