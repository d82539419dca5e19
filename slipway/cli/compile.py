"""`slipway compile`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._options import project_option
from slipway.project import Project


@click.command()
@project_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where to write it.  [default: build/NAME-training.yaml]",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=None,
    help="Note of built images (.slipway/images.json); without it steps name them by version.",
)
def compile(project: Path, out: Path | None, images: Path | None) -> None:
    """Compile the training pipeline to the YAML that a KFP cluster runs."""
    from pipelines.compile import built_images, compile_training, path_in_image, pipeline_name

    loaded = Project.load(project)
    out = out or Path("build") / f"{pipeline_name(loaded)}.yaml"
    built = built_images(images) if images else None
    compile_training(loaded, path_in_image(loaded), out, built)
    click.echo(f"wrote {out}; `slipway submit` uploads and runs it")
