"""What the commands share that install a platform and look after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.cluster import Cluster

profile_option = click.option(
    "--profile",
    envvar="PROFILE",
    default="laptop",
    show_default=True,
    show_envvar=True,
    help="laptop, team or production.",
)
"""Passes `profile: str`."""

values_option = click.option(
    "--values",
    envvar="VALUES",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    show_envvar=True,
    help="Folder of your own values, laid over the profile's: profile.yaml, RELEASE.yaml.",
)
"""Passes `values: Path | None`."""

gateway_option = click.option(
    "--gateway",
    envvar="GATEWAY",
    default="",
    show_envvar=True,
    help="http://HOST:PORT of the gateway.  [default: found out]",
)
"""Passes `gateway: str`."""

mirror_option = click.option(
    "--mirror",
    envvar="MIRROR",
    default="",
    show_envvar=True,
    help="Registry that holds images under their full names, like HOST:PORT/ghcr.io/acme/app.",
)
"""Passes `mirror: str`."""


def reach(context: str, *programs: str) -> Cluster:
    """The cluster of `--context`, with kubectl and these programs at hand."""
    from ops.cluster import connect
    from ops.tools import prepare

    prepare("kubectl", *programs)
    return connect(context)


def narrator() -> Callable[[str], None]:
    """Says a line with the seconds since the start, on standard error."""
    started = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - started:6.1f} s  {text}", err=True)

    return say
