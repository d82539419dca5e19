"""Great Expectations' data docs as one file that needs no network."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

OUTSIDE = re.compile(
    r"<script[^>]*\bsrc=.*?</script>|<link[^>]*>|<img[^>]*>|<script>.*?</script>", re.S | re.I
)
"""What Great Expectations loads from elsewhere, and the scripts that need it."""
BODY = re.compile(r"<body[^>]*>(.*)</body>", re.S | re.I)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1c2733; background: #fff }
table { border-collapse: collapse; margin: .75rem 0 1.5rem; width: 100% }
td, th { border-bottom: 1px solid #d8dee5; padding: .35rem .6rem; text-align: left;
         vertical-align: top; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { margin-top: 2.5rem } ol, ul { padding-left: 1.2rem }
.ge-breadcrumbs, .ge-navigation, .ge-left-navigation-bar, nav, .modal, button, footer
  { display: none }
.text-success, .fa-check-circle { color: #1a7f4b } .text-danger, .fa-times { color: #b3261e }
.fa-check-circle::before { content: "\\2713" } .fa-times::before { content: "\\2717" }
.fa-exclamation-triangle::before { content: "!" } .badge { font-family: ui-monospace, monospace }
@media (prefers-color-scheme: dark) { body { color: #e6ebf0; background: #12181f }
  td, th { border-color: #34404c } }
"""


def data_docs(title: str, results: Sequence[ExpectationSuiteValidationResult]) -> str:
    """The pages that Great Expectations renders of each source's result, one below the other."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    parts = []
    for result in results:
        page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
        body = BODY.search(page)
        if body is None:
            raise RuntimeError("Great Expectations rendered a page without a body")
        name = html.escape(str(result.suite_name))
        parts.append(f"<h2>{name}</h2>\n{OUTSIDE.sub('', body[1])}")
    escaped = html.escape(title)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escaped}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escaped}</h1>\n{''.join(parts)}</body></html>\n"
    )
