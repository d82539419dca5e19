"""What a page is made of. The sections fill these in; the template gives them their looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "bad", "hold", "muted"]
Span = Literal[4, 6, 12]


@dataclass(frozen=True)
class Interval:
    """A small drawing in a table cell: positions in percent of the cell's width."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend: how a series is drawn and what it is."""

    label: str
    color: str
    shape: Literal["dot", "ring", "diamond", "square", "triangle", "line", "box"] = "dot"
    dash: str = ""


@dataclass(frozen=True)
class Cell:
    text: str
    note: str = ""
    """Small print under the text."""
    tone: Tone = ""
    mono: bool = False
    bar: float | None = None
    """A share between 0 and 1, drawn under the text."""
    interval: Interval | None = None
    key: Key | None = None
    """How the row's model is drawn in the figures."""
    title: str = ""
    """All of it, where the text is cut."""


@dataclass(frozen=True)
class Column:
    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    kind: ClassVar = "table"
    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    title: str = ""
    note: str = ""
    folded: bool = False
    """Closed until the reader opens it."""


@dataclass(frozen=True)
class Figure:
    """A drawing in Plotly's JSON form.

    A colour is `@name` or `@name/opacity`: a custom property of the style sheet, which the page
    resolves when it draws, so that one figure suits light, dark and paper.
    """

    name: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    note: str = ""
    legend: tuple[Key, ...] = ()
    span: Span = 12
    """Columns of twelve."""


@dataclass(frozen=True)
class Figures:
    kind: ClassVar = "figures"
    figures: list[Figure]
    flow: bool = False
    """Figures of very different heights: two columns, filled one after the other."""


@dataclass(frozen=True)
class Note:
    kind: ClassVar = "note"
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    kind: ClassVar = "tiles"
    tiles: list[Tile]


@dataclass(frozen=True)
class Gate:
    text: str
    detail: str
    passed: bool


@dataclass(frozen=True)
class Gates:
    kind: ClassVar = "gates"
    gates: list[Gate]


@dataclass(frozen=True)
class Box:
    """One stage of the lineage."""

    label: str
    identity: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lineage:
    kind: ClassVar = "lineage"
    boxes: list[Box]


Block = Table | Figures | Note | Tiles | Gates | Lineage


@dataclass(frozen=True)
class Section:
    name: str
    """Its anchor in the page."""
    title: str
    lead: str
    blocks: list[Block]
    reused: bool = False


@dataclass(frozen=True)
class Verdict:
    tone: Tone
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    kicker: str
    title: str
    description: str
    verdict: Verdict
    facts: tuple[tuple[str, str], ...] = ()
    tiles: tuple[Tile, ...] = ()


@dataclass(frozen=True)
class Page:
    header: Header
    sections: list[Section]


def cell(value: object) -> Cell:
    return value if isinstance(value, Cell) else Cell(str(value))


def table(columns: list[tuple[str, bool]], rows: list[list[Any]], **options: Any) -> Table:
    """A table out of (label, is it a number) pairs and cells or texts."""
    return Table(
        tuple(Column(*column) for column in columns),
        [[cell(value) for value in row] for row in rows],
        **options,
    )
