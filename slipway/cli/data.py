"""`slipway data`: the versions of the data, as others use DVC for."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli._options import Group, as_of_option, json_option, project_option, table
from slipway.data import DataStore, Manifest

if TYPE_CHECKING:
    from slipway.diff import TableDiff


def _store(project: Path) -> DataStore:
    from slipway.project import Project

    return DataStore(Project.load(project).home.data_uri)


@click.group(cls=Group)
def data() -> None:
    """List, show and compare data versions, and bring the newest into the online store.

    A VERSION is an id, the beginning of one, or `latest`.
    """


@data.command("list")
@project_option
@json_option
def list_(project: Path, as_json: bool) -> None:
    """List every data version, the oldest first."""
    store = _store(project)
    versions = store.list()
    if as_json:
        click.echo(json.dumps([manifest.to_json() for manifest in versions], indent=2))
    elif versions:
        click.echo(
            table(
                ("version", "created", "rows", "MB", "sources"),
                [
                    (
                        manifest.id,
                        _moment(manifest),
                        sum(source.rows for source in manifest.sources),
                        round(sum(source.bytes for source in manifest.sources) / 1e6, 2),
                        ", ".join(source.name for source in manifest.sources),
                    )
                    for manifest in versions
                ],
            )
        )
    else:
        click.echo(f"{store.base.uri} holds no data version yet; a run makes one.")


@data.command()
@click.argument("version", default="latest")
@project_option
@json_option
def show(version: str, project: Path, as_json: bool) -> None:
    """Show what a data version holds, and whence it came."""
    manifest = _store(project).find(version)
    if as_json:
        click.echo(json.dumps(manifest.to_json(), indent=2))
        return
    click.echo(f"{manifest.id}, stored {_moment(manifest)}")
    for source in manifest.sources:
        key = f", key {', '.join(source.key)}" if source.key else ""
        click.echo(
            f"\n{click.style(source.name, bold=True)}: {source.rows:,} rows{key}\n"
            f"from {source.uri}\nsha256 {source.sha256}"
        )
        rows = [(column.name, column.type, column.nulls) for column in source.columns]
        click.echo(table(("column", "type", "nulls"), rows))


@data.command()
@click.argument("old")
@click.argument("new", default="latest")
@project_option
@json_option
def diff(old: str, new: str, project: Path, as_json: bool) -> None:
    """Show what changed from one data version to another: rows, schema, distributions."""
    store = _store(project)
    before, after = store.find(old), store.find(new)
    found = store.diff(before.id, after.id)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    click.echo(f"{before.id} ({_moment(before)}) -> {after.id} ({_moment(after)})")
    for name in found.sources_added:
        click.echo(f"\n{click.style(name, bold=True)}: a new source")
    for name in found.sources_removed:
        click.echo(f"\n{click.style(name, bold=True)}: a source no more")
    for name, change in found.sources.items():
        click.echo(f"\n{click.style(name, bold=True)}: {_summary(change)}")
        if change and change.columns:
            click.echo(_columns(change))


@data.command()
@project_option
@as_of_option
@json_option
def materialize(project: Path, as_of: str, as_json: bool) -> None:
    """Bring the online store to a moment, from the sources as they are now, without training.

    The sources become a data version, are held against the contract, and the feature views are
    built of them. What is there already is reused. A store that many share is replaced at once,
    when the new values are complete. On a cluster a CronJob runs this.
    """
    from pipelines.refresh import refresh
    from slipway.project import Project

    with redirect_stdout(sys.stderr):
        found = refresh(Project.load(project), as_of)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(
            f"The online store is at {found['as_of']}: {found['online_rows']:,} entity rows of "
            f"feature version {found['feature_version']}."
        )


@data.command()
@project_option
def check(project: Path) -> None:
    """See whether every store answers and can be written to: buckets, registry, online store."""
    from feature_repo.check import check as stores
    from slipway.imports import import_feast
    from slipway.project import Project

    loaded = Project.load(project)
    import_feast()
    for what, place in stores(loaded):
        click.echo(f"{what}: {place}")


def _moment(manifest: Manifest) -> str:
    return datetime.fromisoformat(manifest.created).strftime("%Y-%m-%d %H:%M:%S UTC")


def _summary(change: TableDiff | None) -> str:
    if change is None:
        return "unchanged"
    changed = "" if change.changed is None else f", {change.changed:,} changed"
    matched = f"by {', '.join(change.key)}" if change.key else "whole rows compared"
    lines = [
        f"{change.rows[0]:,} -> {change.rows[1]:,} rows: {change.added:,} added, "
        f"{change.removed:,} removed{changed} ({matched})"
    ]
    lines += [f"column {name} is new" for name in change.columns_added]
    lines += [f"column {name} is gone" for name in change.columns_removed]
    lines += [f"column {name} was {old}, is {new}" for name, old, new in change.types]
    return "\n  ".join(lines)


def _columns(change: TableDiff) -> str:
    rows = []
    for column in map(asdict, change.columns):
        sides = [column["nulls"], column["mean"], column["min"], column["max"]]
        rows.append((column["column"], column["cells"], *(side for pair in sides for side in pair)))
    header = ["column", "cells"]
    for what in ("nulls", "mean", "min", "max"):
        header += [what, "->"]
    return table(header, rows)
