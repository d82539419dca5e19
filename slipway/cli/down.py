"""`slipway down`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._options import context_option
from slipway.cli._platform import narrator, profile_option, reach, values_option


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
    """Take the platform off a cluster; a kind cluster of ours is deleted.

    What the last deploy recorded goes, and what a first one, that never ended, can have begun with
    this profile and these values.
    """
    from ops import kind
    from ops.cluster import OURS
    from ops.deploy import recorded
    from ops.down import down as take_down
    from ops.platform import Platform
    from ops.tools import prepare

    say = narrator()
    if (context or OURS) == OURS and not keep:
        if not context:
            say(f"no CONTEXT is named: {OURS} is meant")
        prepare("kind")
        kind.delete(say)  # also one that does not answer any more
        return
    wanted = Platform.load(profile, values)
    cluster = reach(context, "helm")
    installed = recorded(cluster)
    names = [one["name"] for one in installed["releases"]] if installed else []
    kept = take_down(cluster, wanted.releases_with(names), say, keep_data=keep == "data")
    for one in kept:
        click.echo(f"kept: {one}")
    click.echo("the platform is gone" if not kept else "the rest of the platform is gone")
