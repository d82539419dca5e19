"""`slipway submit`: the training pipeline on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli._cluster import on_cluster, watch
from slipway.cli._options import as_of_option, project_option
from slipway.code import ROOT
from slipway.project import Project

if TYPE_CHECKING:
    from pipelines.connect import Cluster

images_option = click.option(
    "--images",
    type=click.Path(path_type=Path, dir_okay=False),
    default=ROOT / ".slipway" / "images.json",
    help="Note of the built images.  [default: .slipway/images.json, which `make images` writes]",
)
"""Passes `images: Path`."""


@click.command()
@project_option
@as_of_option
@images_option
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Follow the run until it ends."
)
@on_cluster
def submit(cluster: Cluster, project: Path, as_of: str, images: Path, wait: bool) -> None:
    """Upload the training pipeline of this commit if it is not there, and run it.

    An equal run that is on its way is taken instead of a second one. Exit codes: 0 the run
    succeeded (or was submitted), 2 a step found a mistake of yours, 1 everything else.
    """
    from pipelines.compile import built_images, pipeline_name
    from pipelines.submit import start, upload

    loaded = Project.load(project)
    loaded.contract.resolve_as_of(as_of)  # a typo is told before anything runs
    version = upload(cluster.api, loaded, built_images(images))
    uploaded = "uploaded" if version.new else "there already"
    click.echo(f"pipeline {pipeline_name(loaded)} version {version.name}: {uploaded}", err=True)
    run, new = start(cluster.api, loaded, version, as_of)
    going = "" if new else "is on its way already; watching it"
    click.echo(" ".join(filter(None, [f"run {run}", going, cluster.page(run)])), err=True)
    if wait:
        watch(cluster, run)
    else:
        click.echo(run)
