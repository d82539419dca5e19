"""What runs inside a Ray Train worker. Imports no engine before its turn."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from components.train.job import Job, Reporter, Trained, TrainReporter
from slipway.files import read_json, write_json


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
        out = Path(config["out"]) / job.engine
        out.mkdir(parents=True, exist_ok=True)
        if (out / "trained.json").exists():
            continue
        reporter = TrainReporter(job.engine)
        trained = train_job(job, reporter, out)
        if reporter.rank == 0:
            write_json(out / "trained.json", asdict(trained))


def read_trained(out: Path, engine: str) -> Trained | None:
    path = out / engine / "trained.json"
    return Trained(**read_json(path)) if path.exists() else None
