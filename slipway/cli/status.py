"""`slipway status`."""

from __future__ import annotations

import json

import click

from slipway.cli._options import context_option, json_option, table
from slipway.cli._platform import reach


@click.command()
@context_option
@json_option
def status(context: str, as_json: bool) -> None:
    """What runs on the cluster, in which version, what is unhealthy and why; exit code 1 then."""
    from ops.deploy import deployed
    from ops.status import look

    cluster = reach(context, "helm")
    found = look(cluster, deployed(cluster))
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        rows = [
            [one["name"], one["namespace"], one["chart"], one["status"], one["updated"][:19]]
            for one in found.releases
        ]
        click.echo(table(["release", "namespace", "chart", "status", "updated"], rows))
        click.echo()
        for problem in found.problems:
            color = "yellow" if problem.warning else "red"
            click.echo(f"{click.style('!' if problem.warning else '✗', fg=color)} {problem}")
        if found.healthy:
            click.secho("✓ everything is healthy", fg="green")
    if not found.healthy:
        raise SystemExit(1)
