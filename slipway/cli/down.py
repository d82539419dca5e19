"""`slipway down`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._platform import context_option, narrator, profile_option, values_option


@click.command()
@context_option
@profile_option
@values_option
@click.option(
    "--keep",
    type=click.Choice(["", "data"]),
    envvar="KEEP",
    default="",
    show_envvar=True,
    help="`data` keeps the volumes, and says which.",
)
def down(context: str, profile: str, values: Path | None, keep: str) -> None:
    """Take the platform off a cluster; a kind cluster of ours is deleted."""
    from ops import kind
    from ops.cluster import OURS, connect
    from ops.down import down as take_down
    from ops.platform import Platform
    from ops.tools import prepare

    say = narrator()
    prepare("kubectl", "helm")
    cluster = connect(context)
    if cluster.context == OURS and not keep:
        prepare("kind")
        kind.delete(say)
        return
    kept = take_down(cluster, Platform.load(profile, values), say, keep_data=keep == "data")
    for one in kept:
        click.echo(f"kept: {one}")
    click.echo("the platform is gone" if not kept else "the rest of the platform is gone")
