"""`slipway charts`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._platform import profile_option, values_option


@click.command()
@profile_option
@values_option
def charts(profile: str, values: Path | None) -> None:
    """Fetch the charts that a profile takes from others, and complete ours."""
    from ops import helm
    from ops.platform import Platform, packages
    from ops.tools import prepare

    prepare("kubectl", "helm")
    releases = Platform.load(profile, values).releases
    helm.fetch_vendors({release.vendor for release in releases if release.vendor})
    helm.build_dependencies({release.chart for release in releases if release.chart})
    click.echo(f"{packages()}: {len(list(packages().glob('*.tgz')))} packages")
