"""`slipway report`: where the newest report lies, and what it says in short."""

from __future__ import annotations

import json
from pathlib import Path

import click

from slipway.cli._options import json_option, project_option
from slipway.cli._summary import show_summary
from slipway.errors import UserError
from slipway.files import read_json
from slipway.project import Project


@click.command()
@project_option
@json_option
@click.option("--path", "only_path", is_flag=True, help="Print only the path of the HTML file.")
def report(project: Path, as_json: bool, only_path: bool) -> None:
    """Show the summary of the last `slipway demo`, or print the path of its report."""
    page = Project.load(project).home.report / "index.html"
    if not page.exists():
        raise UserError(f"There is no report in {page.parent} yet.", "Run `make demo` first.")
    if only_path:
        click.echo(page)
        return
    found = read_json(page.with_name("summary.json"))
    click.echo(json.dumps(found, indent=2) if as_json else show_summary(found, page))
