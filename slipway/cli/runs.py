"""`slipway runs`: what runs on a cluster, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._cluster import identity_of, on_cluster, show_steps, watch
from slipway.cli._options import Group, json_option, table
from slipway.cli.submit import images_option
from slipway.code import ROOT
from slipway.project import Project

if TYPE_CHECKING:
    from pipelines.connect import Cluster
    from pipelines.schedules import Schedule
    from pipelines.submit import Version

run_argument = click.argument("run", metavar="RUN")
"""Passes `run`: an id, its first digits, a name, or `latest`."""


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def runs(ctx: click.Context) -> None:
    """Runs on a cluster: list (also without a word), show, watch, logs, and what to do about one.

    RUN is an id, its first digits, a name, or `latest`.
    """
    if ctx.invoked_subcommand is None:
        with list_runs.make_context("list", [], parent=ctx) as listing:
            list_runs.invoke(listing)


@runs.command("list")
@click.option("--newest", default=20, show_default=True, help="How many.")
@json_option
@on_cluster
def list_runs(cluster: Cluster, newest: int, as_json: bool) -> None:
    """The newest runs, with how they stand and how long they took."""
    from pipelines.runs import seconds_of

    rows = [
        {
            "run": run["run_id"],
            "name": run["display_name"],
            "state": run.get("state", "").lower(),
            "created": run["created_at"],
            "seconds": seconds_of(run),
        }
        for run in cluster.api.runs(newest=newest)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(
            table(["run", "name", "state", "created", "seconds"], [[*r.values()] for r in rows])
        )


@runs.command("show")
@run_argument
@json_option
@on_cluster
def show_run(cluster: Cluster, run: str, as_json: bool) -> None:
    """The steps of a run, how they stand, and how long each took."""
    from pipelines.runs import steps

    found = cluster.api.run(identity_of(cluster, run))
    page = cluster.page(found["run_id"])
    if as_json:
        kept = [{"step": s.name, "state": s.state, "seconds": s.seconds} for s in steps(found)]
        told = {
            "run": found["run_id"],
            "state": found.get("state", "").lower(),
            "page": page,
            "steps": kept,
        }
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{found['run_id']}  {page}\n")
        show_steps(found)


@runs.command("watch")
@run_argument
@on_cluster
def watch_run(cluster: Cluster, run: str) -> None:
    """Follow a run until it ends; exit codes are those of `slipway submit`."""
    watch(cluster, identity_of(cluster, run))


@runs.command("logs")
@run_argument
@click.option("--step", default="", help="Only of this step.  [default: all]")
@on_cluster
def show_logs(cluster: Cluster, run: str, step: str) -> None:
    """What the steps of a run wrote, from the object store or from pods that still run."""
    from pipelines.logs import logs

    for name, text in logs(cluster, cluster.api.run(identity_of(cluster, run)), step):
        click.secho(f"=== {name}", bold=True)
        click.echo(text)


@runs.command("terminate")
@run_argument
@on_cluster
def terminate(cluster: Cluster, run: str) -> None:
    """End a run now. What its finished steps left stays: another run finds it in the cache."""
    identity = identity_of(cluster, run)
    cluster.api.terminate(identity)
    click.echo(f"run {identity} is ending")


@runs.command("retry")
@run_argument
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it to its end.")
@on_cluster
def retry(cluster: Cluster, run: str, wait: bool) -> None:
    """Run the failed steps of a run again, and what comes after them."""
    identity = identity_of(cluster, run)
    cluster.api.retry(identity)
    if wait:
        watch(cluster, identity)


@runs.command("schedule")
@click.argument(
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=ROOT / "pipelines" / "schedules.yaml",
)
@images_option
@on_cluster
def schedule(cluster: Cluster, file: Path, images: Path) -> None:
    """Make the recurring runs those of FILE (pipelines/schedules.yaml), of this commit."""
    from pipelines.compile import built_images
    from pipelines.schedules import load, reconcile
    from pipelines.submit import upload

    built: dict[str, str] = {}

    def uploaded(wanted: Schedule) -> tuple[Project, Version]:
        project = Project.load(ROOT / wanted.project)
        built.update(built or built_images(images))
        return project, upload(cluster.api, project, built)

    rows: list[list[Any]] = [[*change] for change in reconcile(cluster.api, load(file), uploaded)]
    click.echo(table(["recurring run", ""], rows) if rows else "no recurring runs")
