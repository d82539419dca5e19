"""`slipway models`: the versions of a model, and which of them answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._cluster import faults
from slipway.cli._options import json_option, project_option, table
from slipway.cli._platform import reach
from slipway.project import Project

if TYPE_CHECKING:
    from components.release.deployed import Deployed
    from slipway.registry import Registry

NAMESPACE = "models"
NEWEST = 10
"""Versions that are shown beside those that have an alias or requests."""

registry_option = click.option(
    "--context",
    envvar="CONTEXT",
    default="",
    show_envvar=True,
    metavar="NAME",
    help="The cluster, as the kubeconfig names its context.  [default: none, this machine]",
)
"""Passes `context: str`, empty for what `slipway demo` and `slipway run` registered here."""


@dataclass(frozen=True)
class Serving:
    """How much of the traffic a version on the cluster gets, and whether its pods are ready."""

    weight: int
    ready: bool
    why: str


@click.command()
@project_option
@registry_option
@click.option("--all", "everything", is_flag=True, help="Older versions as well.")
@json_option
def models(project: Path, context: str, everything: bool, as_json: bool) -> None:
    """List the versions of the model: aliases, gates, and what serves how much.

    They are those of this machine's registry, or, with a context, of that cluster's; the first line
    says which.
    """
    loaded = Project.load(project)
    place = place_of(loaded, context)
    with registry_of(loaded, context) as registry:
        versions = registry.versions()
    model = deployed(loaded, context) if context else None
    with faults():
        values = model.values() if model else None
        serving = {} if model is None or values is None else _serving(model, values)
    listed = [
        {
            "version": item.version,
            "aliases": list(item.aliases),
            "gates": item.tags.get("gates"),
            "engine": item.tags.get("engine"),
            "registered": item.at.isoformat(timespec="seconds"),
            "rolled_back": item.tags.get("rolled_back"),
            **_shown(serving.get(item.version)),
        }
        for number, item in enumerate(versions)
        if everything or number < NEWEST or item.aliases or item.version in serving
    ]
    name = loaded.contract.name
    if as_json:
        click.echo(json.dumps({"model": name, "registry": place, "versions": listed}, indent=2))
        return
    if not listed:
        click.echo(f"{name} has no version yet in {place}: run the training pipeline")
        return
    click.echo(f"{name} in {place}\n")
    header = ["version", "aliases", "gates", "engine", "registered"]
    header += ["requests", "state"] if context else []
    click.echo(
        table(
            header,
            [
                [
                    item["version"],
                    ", ".join(item["aliases"]) or None,
                    item["gates"],
                    item["engine"],
                    item["registered"],
                    *([_percent(item["weight"]), item["state"]] if context else []),
                ]
                for item in listed
            ],
        )
    )
    if hidden := len(versions) - len(listed):
        click.echo(f"{hidden} older versions: --all")
    if values:
        click.echo(f"\nhost {host(name, values)}")
    for item in listed:
        if item["rolled_back"]:
            click.echo(f"version {item['version']} was rolled back {item['rolled_back']}")


def place_of(project: Project, context: str) -> str:
    """Which registry is meant, in words."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return f"the registry {given} (MLFLOW_TRACKING_URI)"
    if context:
        return f"the registry of the cluster {context}"
    return f"the registry of this machine ({project.home.path})"


@contextmanager
def registry_of(project: Project, context: str) -> Iterator[Registry]:
    """The registry of this machine, or the cluster's, through a forwarded port."""
    from slipway.registry import Registry

    with _tracking(context):
        yield Registry(project)


def deployed(project: Project, context: str) -> Deployed:
    """The project's model on the cluster of `context`."""
    from components.release.deployed import Deployed

    namespace = os.environ.get("SLIPWAY_MODELS_NAMESPACE", NAMESPACE)
    return Deployed(project.contract.name, namespace, reach(context, "helm").context)


def host(name: str, values: dict[str, Any]) -> str:
    """Where clients ask, as the chart makes it."""
    route = values.get("route", {})
    return str(route.get("host") or f"{name}.{route.get('domain', 'slipway.localhost')}")


@contextmanager
def _tracking(context: str) -> Iterator[None]:
    if not context or os.environ.get("MLFLOW_TRACKING_URI"):
        yield
        return
    with reach(context).forward("mlflow", "mlflow", 5000) as address:
        os.environ["MLFLOW_TRACKING_URI"] = f"http://{address}"
        try:
            yield
        finally:
            del os.environ["MLFLOW_TRACKING_URI"]


def _serving(model: Deployed, values: dict[str, Any]) -> dict[str, Serving]:
    found = {}
    for entry in values["versions"]:
        health = model.health(entry["version"])
        why = "; ".join(health.stuck or health.waits)
        found[entry["version"]] = Serving(int(entry["weight"]), health.ready, why)
    return found


def _shown(serving: Serving | None) -> dict[str, Any]:
    if serving is None:
        return {"weight": None, "state": None}
    return {"weight": serving.weight, "state": "ready" if serving.ready else serving.why}


def _percent(weight: int | None) -> str | None:
    return None if weight is None else f"{weight} %"
