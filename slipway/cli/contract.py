"""`slipway contract`: check a contract, and teach editors its shape."""

from __future__ import annotations

import json
from pathlib import Path

import click

from slipway.cli._options import Group, project_option
from slipway.contract import Contract
from slipway.encoder import input_features
from slipway.project import Project


@click.group(cls=Group)
def contract() -> None:
    """Check project.yaml, or print its JSON schema for an editor."""


@contract.command()
@project_option
def check(project: Path) -> None:
    """Say what the contract declares, or every line that is wrong with it."""
    loaded = Project.load(project)
    document = loaded.contract
    click.echo(
        f"{project}: {document.name} (project version {loaded.version}) is valid: "
        f"{len(document.sources)} sources, {len(document.views)} feature views, "
        f"{len(input_features(document))} features, a {document.target.task} target"
    )


@contract.command()
def schema() -> None:
    """Print the JSON schema of project.yaml."""
    click.echo(json.dumps(Contract.model_json_schema(), indent=2))
