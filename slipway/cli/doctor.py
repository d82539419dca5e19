"""`slipway doctor`."""

from __future__ import annotations

import json

import click

from slipway.cli._options import json_option


@click.command()
@click.option(
    "--kind/--no-kind", default=True, help="Also what a kind cluster on this machine needs."
)
@json_option
def doctor(kind: bool, as_json: bool) -> None:
    """Check whether this machine is fit for `make deploy-kind`; exit code 2 if it is not."""
    from ops.doctor import examine

    checks = examine(for_kind=kind)
    if as_json:
        click.echo(json.dumps([check.as_json() for check in checks], indent=2))
    else:
        for check in checks:
            mark = "✓" if check.ok else "!" if check.warning else "✗"
            color = "green" if check.ok else "yellow" if check.warning else "red"
            click.echo(f"{click.style(mark, fg=color)} {check.name:<17} {check.found}")
            if not check.ok and check.mend:
                click.echo(f"  {'':<17} {check.mend}")
    if any(not check.ok and not check.warning for check in checks):
        raise SystemExit(2)
