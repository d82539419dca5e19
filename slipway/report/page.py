"""The page: one file that loads nothing, whatever its sections hold."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from slipway.report.blocks import Figures, Page

HERE = Path(__file__).parent


def render(page: Page) -> str:
    """HTML with its style, its scripts and its figures inside.

    All text is escaped. The page's own policy allows just these scripts, by hash, and no request
    to anywhere: what escaping would miss could neither run nor load.
    """
    figures = {
        figure.name: {"data": figure.data, "layout": figure.layout}
        for section in page.sections
        for block in section.blocks
        if isinstance(block, Figures)
        for figure in block.figures
    }
    scripts = [_plotly(), (HERE / "page.js").read_text(encoding="utf-8")] if figures else []
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src"
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        page=page,
        policy=f"{policy} {allowed}",
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704  ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704  ours and Plotly's
        figures=_json(figures),
    )


@cache
def _plotly() -> str:
    """Plotly's script as the installed package carries it; found, for an import takes 0.3 s."""
    found = find_spec("plotly")
    if not found or not found.submodule_search_locations:
        raise ModuleNotFoundError("plotly is not installed; run `make setup`")
    file = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return file.read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: object) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  escaped just above
