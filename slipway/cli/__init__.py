"""The `slipway` command. Each subcommand lives in a module of its own, imported when it is used."""

from __future__ import annotations

from importlib import import_module

import click

from slipway import __version__
from slipway.cli._options import Group

COMMANDS = (
    "demo",
    "run",
    "serve",
    "score",
    "report",
    "compile",
    "submit",
    "runs",
    "contract",
    "data",
    "models",
    "rollback",
    "charts",
    "doctor",
    "deploy",
    "status",
    "backup",
    "restore",
    "bundle",
    "down",
)


class _Lazy(Group):
    """Finds `slipway demo` in `slipway.cli.demo`, so that `--help` starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"slipway.cli.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slipway")
def cli() -> None:
    """From a table of events to a model that answers requests.

    Exit codes: 0 done, 1 a fault of ours or of a dependency (run the same command again), 2 a
    mistake that one sentence explains.
    """


def main() -> None:
    cli.main(prog_name="slipway")
