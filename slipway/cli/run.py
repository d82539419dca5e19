"""`slipway run`: the training pipeline alone, in local processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli._options import as_of_option, project_option
from slipway.cli.console import Progress
from slipway.project import Project

if TYPE_CHECKING:
    from pipelines.local import LocalRun


@click.command()
@project_option
@as_of_option
def run(project: Path, as_of: str) -> None:
    """Run the training pipeline here: ingest, validate, features, train, evaluate, register."""
    loaded = Project.load(project)
    with Progress() as progress:
        done = run_pipeline(loaded, as_of, progress)
    facts = done.records[-1]["facts"]
    click.echo(f"{facts['model']} version {facts['version']} is {facts['alias']}: {done.package}")


def run_pipeline(project: Project, as_of: str, progress: Progress) -> LocalRun:
    """The pipeline with its progress shown; exits with code 1 where a step fails by our fault."""
    from pipelines.local import StepFailed, run_training

    project.contract.resolve_as_of(as_of)  # a typo is told before anything runs
    try:
        return run_training(project, as_of, progress)
    except StepFailed as error:
        raise click.ClickException(str(error)) from None
