"""What commands share: options, tables, and how mistakes end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click

from slipway.errors import Fault, UserError

project_option = click.option(
    "--project",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PROJECT",
    default="project.yaml",
    show_default=True,
    show_envvar=True,
    help="The contract to work on.",
)
"""Passes `project: Path`."""

as_of_option = click.option(
    "--as-of",
    default="",
    metavar="TIME",
    help="Everything later is invisible (ISO 8601).  [default: the contract's, else now]",
)
"""Passes `as_of: str`."""

context_option = click.option(
    "--context",
    envvar="CONTEXT",
    default="",
    show_envvar=True,
    metavar="NAME",
    help="The cluster, as the kubeconfig names its context.  [default: kind-slipway]",
)
"""Passes `context: str`; what it means is `ops.cluster.connect`'s to say."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
"""Passes `as_json: bool`."""


class _Mistake(click.ClickException):
    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho(self.format_message(), fg="red", err=True, file=file)


class Group(click.Group):
    """A group of commands in which a `UserError` ends in its own words and exit code 2, a `Fault`
    in its own and 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Mistake(str(error)) from None
        except Fault as error:
            raise click.ClickException(str(error)) from None


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; numbers stand to the right."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *texts, strict=True)]
    lines = [
        [
            click.style(name.ljust(width), bold=True)
            for name, width in zip(header, widths, strict=True)
        ]
    ]
    for row, shown in zip(rows, texts, strict=True):
        lines.append(
            [
                text.rjust(width) if isinstance(value, int | float) else text.ljust(width)
                for value, text, width in zip(row, shown, widths, strict=True)
            ]
        )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
