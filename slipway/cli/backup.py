"""`slipway backup`."""

from __future__ import annotations

import click

from slipway.cli._platform import context_option, narrator


@click.command()
@context_option
@click.option("--to", required=True, envvar="TO", help="A new folder, or s3://bucket/prefix.")
def backup(context: str, to: str) -> None:
    """Back up databases, objects, models and their aliases of a platform into one place."""
    from ops.backup import backup as back_up
    from ops.cluster import ClusterError, connect
    from ops.deploy import deployed
    from ops.helm import HelmError
    from ops.tools import prepare

    prepare("kubectl", "helm")
    cluster = connect(context)
    try:
        back_up(cluster, deployed(cluster), to, narrator())
    except (ClusterError, HelmError, OSError) as error:
        raise click.ClickException(
            f"{error} There is no backup in {to} yet; run it again."
        ) from None
    click.echo(f"next: `slipway restore --from {to}` on an empty platform proves it")
