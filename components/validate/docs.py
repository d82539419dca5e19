"""Great Expectations' data docs as one page that needs no network.

The sections are Great Expectations' own. Its page around them loads Bootstrap, jQuery and fonts
from six hosts, so the page is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaSectionView
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult


def render_docs(
    title: str, data_version: str, results: Mapping[str, ExpectationSuiteValidationResult]
) -> str:
    """HTML with every rule of every source, those that do not hold marked."""
    renderer, view = ValidationResultsPageRenderer(), DefaultJinjaSectionView()
    sources = []
    for name, result in results.items():
        # The first section is about the run: suite, statistics, links to pages that are not here.
        document = renderer.render(_escaped(result)).to_json_dict()["sections"][1:]
        sections = [
            Markup(  # noqa: S704 (the data in it are escaped)
                view.render({"section": section, "section_loop": {"index": f"{name}-{at}"}})
            )
            for at, section in enumerate(document)
        ]
        sources.append({"name": name, "result": result, "sections": sections})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("docs.html.j2").render(
        title=title, data_version=data_version, sources=sources
    )


def _escaped(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """Great Expectations puts the values that it did not expect into its tables as they are."""
    copy = deepcopy(result)
    for item in copy.results:
        item.result = _escape(item.result)
    return copy


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {_escape(name): _escape(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_escape, value))
    return value
