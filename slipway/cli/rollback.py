"""`slipway rollback`: the version before answers again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._cluster import faults
from slipway.cli._options import project_option
from slipway.cli.models import deployed, place_of, registry_of, registry_option
from slipway.errors import UserError
from slipway.project import Project

if TYPE_CHECKING:
    from components.release.deployed import Deployed
    from slipway.registry import Registry


@click.command()
@project_option
@registry_option
@click.option("--to", "version", metavar="VERSION", help="[default: the version before]")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the version.")
def rollback(project: Path, context: str, version: str | None, reason: str) -> None:
    """Bring the version before back: first the traffic, then the alias `champion`.

    Without a context it is this machine's champion, for `slipway serve`, and no cluster is touched.
    On a cluster, a release that is under way is stopped. No request is lost: the version is started
    again where it is gone, and the other one goes only afterwards.
    """
    loaded = Project.load(project)
    place = place_of(loaded, context)
    with faults(), registry_of(loaded, context) as registry:
        if not context:
            to = _known(registry, version) if version else _earlier_champion(registry)
            _in_registry(registry, to, reason)
        else:
            to = _on_cluster(deployed(loaded, context), registry, version, reason)
    answers = f"answers on the cluster {context} and " if context else ""
    click.echo(f"{loaded.contract.name} version {to} {answers}is champion in {place}")
    if not context:
        click.echo("`slipway serve` takes it when it starts; no cluster was touched")


def _known(registry: Registry, version: str) -> str:
    if version not in {item.version for item in registry.versions()}:
        raise UserError(
            f"{registry.name} has no version {version}.", "`slipway models` lists them."
        )
    return version


def _earlier_champion(registry: Registry) -> str:
    from slipway.registry import CHAMPION

    earlier = registry.before(CHAMPION)
    if earlier is None:
        raise UserError(
            f"{registry.name} had no champion before this one.", "Name a version with --to."
        )
    return earlier


def _on_cluster(model: Deployed, registry: Registry, version: str | None, reason: str) -> str:
    from components.release.lease import Lease
    from components.release.rollout import roll_out

    def say(text: str) -> None:
        click.echo(text, err=True)

    values = model.values()
    if not values or not values["versions"]:
        raise UserError(f"{model.name} does not serve here.", "Run the training pipeline first.")
    entry = _entry(model.name, values, registry, version)
    to = str(entry["version"])
    with Lease(model, f"rollback to version {to}", say, force=True) as lease:
        # No proof: its pods are ready only once they have reproduced the reference predictions.
        roll_out(model, lease, {}, entry, steps=(), hold=0, prove=lambda: None, say=say)
        # Before the lease goes: a release that waits for it asks the registry who is champion.
        try:
            _in_registry(registry, to, reason)
        except Exception as error:
            raise click.ClickException(
                f"version {to} serves, but the registry could not be told ({error}); the next "
                "release would undo this. Run "
                f"`slipway rollback --context {model.context} --to {to}`."
            ) from error
    return to


def _entry(
    name: str, values: dict[str, Any], registry: Registry, version: str | None
) -> dict[str, Any]:
    """The version to go back to, with the settings that it served with."""
    from components.release.values import find, incumbent

    previous = values["previous"]
    newest = values["versions"][-1]
    if version is None:
        # In the middle of a canary, it is the one that still gets the rest.
        if 0 < newest["weight"] < 100 and (other := incumbent(values, newest["version"])):
            return dict(other)
        if not previous:
            raise UserError(
                f"{name} remembers no version before this one.",
                "Name one with --to; `slipway models`, with the same context, lists them.",
            )
        return dict(previous)
    if found := find(values, version):
        return dict(found)
    if previous.get("version") == version:
        return dict(previous)
    return {
        "version": _known(registry, version),
        "storageUri": registry.source(version),
        "weight": 0,
        "server": newest.get("server", {}),
    }


def _in_registry(registry: Registry, version: str, reason: str) -> None:
    from slipway.registry import CHAMPION

    before = registry.version_of(CHAMPION)
    if before is not None and before != version:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        why = f": {reason}" if reason else ""
        registry.tag(before, "rolled_back", f"{at} to version {version}{why}")
    registry.set_alias(CHAMPION, version)
