"""`slipway score`: one request to the endpoint that `slipway serve` keeps up."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO

import click

from slipway.cli._options import json_option, project_option
from slipway.cli._requests import ENDPOINT, LAST, example_request
from slipway.errors import UserError
from slipway.files import read_json
from slipway.project import Project


@click.command()
@project_option
@json_option
@click.option(
    "--instances",
    type=click.File("r"),
    default=None,
    help="JSON list of rows to score, `-` for standard input.  [default: the newest known row]",
)
def score(project: Path, as_json: bool, instances: IO[str] | None) -> None:
    """Send one request to the endpoint of `slipway serve`, and show what comes back."""
    import httpx

    loaded = Project.load(project)
    here = loaded.home.serving / ENDPOINT
    if not here.exists():
        raise UserError("No endpoint is up.", "Run `make serve` in another terminal.")
    endpoint = read_json(here)
    if instances:
        try:
            rows = json.load(instances)
        except ValueError as error:
            raise UserError(f"{instances.name}: not JSON ({error}).") from None
    else:
        last = read_json(loaded.home.pipelines / LAST)
        rows = [example_request(loaded, Path(last["package"]))]
    url = f"{endpoint['url']}/v1/models/{endpoint['name']}:predict"
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            started = time.perf_counter()
            answer = client.post(url, json={"instances": rows})
            spent = (time.perf_counter() - started) * 1000
    except httpx.TransportError as error:
        raise UserError(f"{url} does not answer ({error}).", "Run `make serve` again.") from None
    found = answer.json()
    if answer.status_code != 200:
        raise UserError(f"{url} answered {answer.status_code}: {found.get('error', found)}")
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(json.dumps(rows[0], indent=2))
    version = endpoint["version"]
    click.echo(f"{endpoint['name']} version {version}: {found['predictions'][0]}  ({spent:.1f} ms)")
