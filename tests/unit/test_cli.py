"""The command line: help everywhere, one sentence for a mistake, exit codes to trust."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slipway.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = commands(command, (*path, name)) if isinstance(command, click.Group) else []
        found += inner or [(*path, name)]
    return found


def run(*arguments: str, project: Path | None = None):
    given = ["--project", str(project)] if project else []
    return CliRunner().invoke(cli, [*arguments, *given])


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_command_explains_itself(path):
    done = run(*path, "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.output
    assert len(done.output.split("\n\n")[1].strip()) > 20, "it has no description"


def test_the_makefile_calls_commands_that_exist():
    lines = (ROOT / "Makefile").read_text().splitlines()
    called = {line.split()[1] for line in lines if line.startswith("\t$(slipway) ")}
    assert called
    assert called <= set(COMMANDS)


def test_a_valid_contract_is_summed_up():
    done = run("contract", "check", project=ROOT / "project.yaml")
    assert done.exit_code == 0
    assert "flight-delay" in done.output
    assert "35 features" in done.output


def test_a_wrong_contract_is_exit_code_2_without_a_traceback():
    done = run("contract", "check", project=ROOT / "tests" / "contract" / "bad" / "bad_span.yaml")
    assert done.exit_code == 2
    assert "split.train: '9 moons' is not a span" in done.output
    assert "Traceback" not in done.output


def test_the_schema_for_editors_is_json():
    schema = json.loads(run("contract", "schema").output)
    assert {"sources", "views", "target"} <= set(schema["properties"])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("report", "--path"), "Run `make demo` first"),
        (("score",), "Run `make serve` in another terminal"),
        (("serve",), "Run `make demo` first"),
    ],
)
def test_what_needs_a_run_says_so_before_there_is_one(command, says, tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    done = run(*command, project=ROOT / "project.yaml")
    assert done.exit_code == 2, done.output
    assert says in done.output


def test_a_mistyped_as_of_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    done = run("demo", "--as-of", "yesterday", project=ROOT / "project.yaml")
    assert done.exit_code == 2
    assert "'yesterday' is not a date or time" in done.output
    assert not list(tmp_path.iterdir())
