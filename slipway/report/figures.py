"""Parts that the figures share: frame, axes, and the marks that stand for models and windows.

Figures are plain dicts in Plotly's JSON form, so the `plotly` package, slow to import, is not
needed to make them: only its script, to draw them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from slipway.report.blocks import Figure, Key
from slipway.report.text import fixed, percent, short

Json = dict[str, Any]
ROW = 22
"""Height in pixels of one category in a list of them."""
MOST_ROWS = 30
"""A longer list is cut here; its table holds the rest."""


class Look(NamedTuple):
    """How a model is drawn, everywhere: colour, symbol and dash, so that no two differ by colour
    alone."""

    color: str
    symbol: str
    shape: Literal["dot", "diamond", "square", "triangle"]
    dash: str


LOOKS = {
    "candidate": Look("@blue", "circle", "dot", "solid"),
    "champion": Look("@orange", "diamond", "diamond", "dash"),
    "linear": Look("@green", "square", "square", "dot"),
    "prior": Look("@grey", "triangle-up", "triangle", "dashdot"),
}
WINDOW_COLORS = {"train": "@train", "validate": "@validate", "test": "@test"}


MOST_LETTERS = 48


def plain(text: object) -> str:
    """Someone's text for a drawing: Plotly reads tags and entities in it."""
    return escape(str(text), quote=False)


def frame(height: int, **more: Any) -> Json:
    """The layout that every figure starts from; `height` in pixels."""
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 14, "t": 8, "b": 8},
        "paper_bgcolor": "@none",
        "plot_bgcolor": "@none",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@ink-2"},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@line",
            "align": "left",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@ink"},
        },
        "barcornerradius": 2,
        **more,
    }


def axis(title: str = "", **more: Any) -> Json:
    return {
        **({"title": {"text": title, "standoff": 10, "font": {"size": 12}}} if title else {}),
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
        "ticklabelstandoff": 4,
        "ticks": "",
        **more,
    }


def padded(values: Iterable[float | None]) -> list[float] | None:
    """The range that holds `values` with room for the marks; None lets Plotly choose."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    room = (max(known) - min(known)) * 0.06 or abs(known[0]) * 0.06 or 1.0
    return [min(known) - room, max(known) + room]


def rows_axis(labels: Sequence[object], **more: Any) -> Json:
    """A vertical axis of names, the first on top, at 0, 1, 2, …

    Numbers with tick texts instead of a category axis: two names may be cut to the same text, and
    a name like `2013-01` would be read as a date. These texts alone are not `plain`: the page cuts
    them to the room there is, and escapes them then.
    """
    return axis(
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=[short(str(label), MOST_LETTERS) for label in labels],
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        **more,
    )


def rows_frame(labels: Sequence[object], row: int = ROW, **more: Any) -> Json:
    """The layout of a list of names, `row` pixels each, above a horizontal axis."""
    below = 48
    layout = frame(len(labels) * row + 8 + below, yaxis=rows_axis(labels), **more)
    layout["margin"] |= {"b": below}
    for name in ("xaxis", "xaxis2"):
        if name in layout:
            layout[name] |= {"automargin": False}
    return layout


def line(x: Sequence[Any], y: Sequence[Any], color: str, dash: str = "solid", **more: Any) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": 2, "dash": dash},
        **more,
    }


def rule(x: Sequence[float], y: Sequence[float]) -> Json:
    """A thin line to compare with: a diagonal, a base rate."""
    return line(x, y, "@ink-2", "dot", hoverinfo="skip") | {
        "line": {"color": "@ink-2", "width": 1, "dash": "dot"}
    }


def vertical(x: float, color: str = "@ink-2", **more: Any) -> Json:
    """A vertical line over the full height, as a shape."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": color, "width": 1.2, "dash": "dash"},
        "layer": "below",
        **more,
    }


def histogram(edges: Sequence[float], counts: Sequence[int], **more: Any) -> Json:
    """Bars over [edges[i], edges[i + 1])."""
    spans = list(pairwise(edges))
    return {
        "type": "bar",
        "x": [(low + high) / 2 for low, high in spans],
        "y": list(counts),
        "width": [(high - low) * 0.92 for low, high in spans],
        "marker": {"color": "@blue/0.55"},
        "hovertext": [
            f"{low:,.4g} to {high:,.4g}<br>{amount:,} rows"
            for (low, high), amount in zip(spans, counts, strict=True)
        ],
        "hoverinfo": "text",
        "textposition": "none",
        **more,
    }


def dumbbells(
    name: str,
    title: str,
    labels: Sequence[str],
    series: dict[str, Sequence[float | None]],
    axis_title: str,
    **options: Any,
) -> Figure:
    """Shares of each label in two or three windows, joined by a line.

    `series`: window name to one share for each label.
    """
    joins: tuple[list[float | None], list[float | None]] = ([], [])
    for at in range(len(labels)):
        known = [values[at] for values in series.values() if values[at] is not None]
        if known:
            joins[0].extend([min(known), max(known), None])  # type: ignore[type-var]
            joins[1].extend([at, at, None])
    largest = max((v for values in series.values() for v in values if v is not None), default=0)
    data: list[Json] = [
        {
            **line(*joins, "@line", hoverinfo="skip"),
            "line": {"color": "@line", "width": 3},
        }
    ]
    for window, values in series.items():
        ring = window == "train"
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(values),
                "y": list(range(len(labels))),
                "marker": {
                    "size": 9,
                    "symbol": "circle-open" if ring else "circle",
                    "color": WINDOW_COLORS[window],
                    "line": {"width": 2 if ring else 0, "color": WINDOW_COLORS[window]},
                },
                "cliponaxis": False,
                "hovertext": [
                    f"{plain(label)}<br>{window} {percent(value)}"
                    for label, value in zip(labels, values, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
    return Figure(
        name,
        title,
        data,
        rows_frame(
            labels, xaxis=axis(axis_title, tickformat=".2~%", range=[0, largest * 1.06 or 1])
        ),
        legend=tuple(
            Key(window, WINDOW_COLORS[window], "ring" if window == "train" else "dot")
            for window in series
        ),
        **options,
    )


def bars(
    labels: Sequence[str], values: Sequence[float | None], colors: Sequence[str], **more: Any
) -> Json:
    """Horizontal bars, one a row."""
    return {
        "type": "bar",
        "orientation": "h",
        "x": list(values),
        "y": list(range(len(labels))),
        "marker": {"color": list(colors)},
        "hovertext": [
            f"{plain(label)}<br>{'–' if value is None else fixed(value, 4)}"  # noqa: RUF001
            for label, value in zip(labels, values, strict=True)
        ],
        "hoverinfo": "text",
        "textposition": "none",
        **more,
    }
