"""`slipway backup`."""

from __future__ import annotations

import click

from slipway.cli._options import context_option
from slipway.cli._platform import narrator, reach
from slipway.errors import Fault


@click.command()
@context_option
@click.option("--to", required=True, help="A new folder, or s3://bucket/prefix.")
def backup(context: str, to: str) -> None:
    """Back up databases, objects, models and their aliases of a platform into one place."""
    from ops.backup import backup as back_up
    from ops.deploy import deployed

    cluster = reach(context, "helm")
    try:
        back_up(cluster, deployed(cluster), to, narrator())
    except (Fault, OSError) as error:
        raise click.ClickException(
            f"{error} There is no backup in {to} yet; run it again."
        ) from None
    click.echo(f"next: `slipway restore --from {to}` on an empty platform proves it")
