"""`slipway bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli._platform import mirror_option, narrator, profile_option, values_option


@click.command()
@profile_option
@values_option
@mirror_option
@click.argument("folder", envvar="BUNDLE", type=click.Path(path_type=Path, file_okay=False))
def bundle(profile: str, values: Path | None, mirror: str, folder: Path) -> None:
    """Put every chart and image of a profile into FOLDER, for a cluster without internet."""
    from ops.bundle import make
    from ops.platform import Platform
    from ops.tools import prepare

    prepare("kubectl", "helm")
    make(Platform.load(profile, values), folder, narrator(), mirror)
    click.echo(f"next: BUNDLE={folder} make deploy CONTEXT=… MIRROR=…")
