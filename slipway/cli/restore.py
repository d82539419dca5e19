"""`slipway restore`."""

from __future__ import annotations

import click

from slipway.cli._options import context_option
from slipway.cli._platform import narrator, reach
from slipway.errors import Fault


@click.command()
@context_option
@click.option("--from", "source", required=True, help="What `slipway backup` wrote.")
@click.option("--replace", is_flag=True, help="Lose what the platform holds.")
def restore(context: str, source: str, replace: bool) -> None:
    """Put a backup into an empty platform."""
    from ops.deploy import deployed
    from ops.restore import restore as put_back

    cluster = reach(context, "helm")
    deployed(cluster)
    try:
        put_back(cluster, source, narrator(), replace)
    except (Fault, OSError) as error:
        raise click.ClickException(f"{error} Run the same command again.") from None
    click.echo("next: `slipway status`")
