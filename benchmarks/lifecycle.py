"""The whole local run beside the bare work of its steps in one process: `make bench-lifecycle`.

The whole run is `slipway run`: a process for each step, KFP around it, Ray under the training. The
bare work is the same step functions called one after another in one process, the engines without
Ray. The ratio is what the platform costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.measure import measured
from slipway.code import code_version
from slipway.project import Project
from slipway.step import Step

ROOT = Path(__file__).resolve().parent.parent


@click.command()
@click.option("--project", default="project.yaml", envvar="PROJECT", show_default=True)
@click.option("--runs", default=1, show_default=True, help="How often each is measured.")
@click.option("--bare", is_flag=True, hidden=True)
def main(project: str, runs: int, bare: bool) -> None:
    """Print seconds of the whole run, of the bare work, and their ratio."""
    if bare:
        bare_work(Project.load(project))
        return
    whole = [sys.executable, "-c", "from slipway.cli import main; main()", "run"]
    lonely = [sys.executable, "-m", "benchmarks.lifecycle", "--bare"]
    ratios = []
    for _ in range(runs):
        seconds = {}
        for name, command in (("whole run", whole), ("bare work in one process", lonely)):
            with tempfile.TemporaryDirectory() as home:
                found = measured([*command, "--project", project], {"SLIPWAY_HOME": home})
            seconds[name] = found.seconds
            click.echo(f"{name:<26}{found.seconds:7.1f} s  {found.peak_mb:7,.0f} MB")
        ratios.append(seconds["whole run"] / seconds["bare work in one process"])
    click.echo(f"{'ratio':<26}{sorted(ratios)[len(ratios) // 2]:7.2f}")
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import slipway.cli, slipway.step"], check=True, cwd=ROOT)
    with_slipway = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    click.echo(f"{'import slipway':<26}{with_slipway - (time.perf_counter() - started):7.2f} s")


def bare_work(project: Project) -> None:
    """Every step of the pipeline in this process."""
    from components.evaluate.step import evaluate
    from components.features.step import features
    from components.ingest.step import ingest
    from components.register.step import register
    from components.train.step import train
    from components.validate.step import validate

    work = project.home.path / "bare"
    work.mkdir(parents=True)
    as_of = project.contract.resolve_as_of().isoformat()
    training_set, candidate = work / "training_set", work / "candidate"
    data = ingest(Step("ingest", project))
    validate(Step("validate", project), data, work / "docs.html")
    version = features(Step("features", project), data, as_of, training_set)
    train_without_ray(project, version, training_set)
    train(Step("train", project), version, code_version(), training_set, candidate)
    evaluate(Step("evaluate", project), data, training_set, candidate, work / "evaluation")
    register(
        Step("register", project),
        data,
        version,
        as_of,
        training_set,
        candidate,
        work / "evaluation",
        work / "package",
    )


def train_without_ray(project: Project, feature_version: str, training_set: Path) -> None:
    """Leave trained engines where the train step looks for finished ones."""
    from dataclasses import asdict

    from components.train.step import _prepare
    from components.train.worker import train_job
    from slipway.files import write_json

    class Silent:
        rank, world = 0, 1

        def restore(self) -> None:
            return None

        def report(self, step: int, loss: float, save: object) -> None:
            pass

    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    work = project.home.ray / f"{feature_version}-{code_version()}"
    for job in _prepare(project.contract, training_set, work / "data").jobs:
        out = work / "out" / job.engine
        out.mkdir(parents=True)
        write_json(out / "trained.json", asdict(train_job(job, Silent(), out)))


if __name__ == "__main__":
    main()
