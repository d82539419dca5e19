"""`slipway restore`."""

from __future__ import annotations

import click

from slipway.cli._platform import context_option, narrator


@click.command()
@context_option
@click.option("--from", "source", required=True, envvar="FROM", help="What `slipway backup` wrote.")
@click.option("--replace", is_flag=True, help="Lose what the platform holds.")
def restore(context: str, source: str, replace: bool) -> None:
    """Put a backup into an empty platform."""
    from ops.cluster import ClusterError, connect
    from ops.deploy import deployed
    from ops.helm import HelmError
    from ops.restore import restore as put_back
    from ops.tools import prepare

    prepare("kubectl", "helm")
    cluster = connect(context)
    deployed(cluster)
    try:
        put_back(cluster, source, narrator(), replace)
    except (ClusterError, HelmError, OSError, RuntimeError) as error:
        raise click.ClickException(f"{error} Run the same command again.") from None
    click.echo("next: `slipway status`")
