"""`slipway compile`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._options import project_option
from slipway.code import ROOT
from slipway.project import Project


@click.command()
@project_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where to write it.  [default: build/NAME-training.yaml]",
)
def compile(project: Path, out: Path | None) -> None:
    """Compile the training pipeline to the YAML that a KFP cluster runs."""
    from pipelines.compile import compile_training

    loaded = Project.load(project)
    out = out or Path("build") / f"{loaded.contract.name}-training.yaml"
    if not loaded.path.is_relative_to(ROOT):
        raise click.UsageError(f"{loaded.path} lies outside {ROOT}, so no image would hold it")
    compile_training(loaded, loaded.path.relative_to(ROOT).as_posix(), out)
    click.echo(f"wrote {out}; upload it in the KFP UI, or with a KFP client")
