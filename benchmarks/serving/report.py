"""The page of the results: bars, tables and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from benchmarks.serving.bars import Bar, bars
from benchmarks.serving.cases import CASES, Case, Protocol
from benchmarks.serving.peers import ECHO, PEERS, STOCK
from benchmarks.serving.results import Results

TITLES: dict[Protocol, str] = {
    "v1": "V1 (JSON)",
    "v2": "V2 (JSON)",
    "binary": "V2, binary tensors",
    "grpc": "gRPC",
    "features": "Entity keys in, Feast's features looked up",
}
FIGURES = ("rate", "p50_ms", "p99_ms", "cpu_us")
STOCK_FEAST = {"sqlite": "kserve-feast-sqlite", "redis": "kserve-feast-redis"}
ROW, LABEL, BAR, NUMBER, TOP = 22, 350, 420, 90, 34
COLOURS = {"ours": "#1d6fb8", "echo": "#9aa0a6", "other": "#d9a441"}

METHOD = """\
Written by `make bench-serving`; the figures of every round are in [serving.json](serving.json).

Each server has one core, the load generator (wrk for HTTP, h2load for gRPC, one request at a time
on each connection) the other, and so has Redis. Servers run one after another, one at a time, in
every round; every second round goes backwards. A figure is the median of the rounds, a ratio the
median of the rounds' ratios. A server is timed only in cases where its answers equal the package's
to 1e-5 before and after, and an error answer under load is a failure. The model takes 26 numbers
and a few microseconds; ours checks every value and counts every request. Ours and the others are as
they are installed, with one worker each. The echo reads the body and sends a fixed answer of the
same size.

Start is from the command to the first right answer. Memory is the resident memory of all processes
of a server after the load; what they share is counted for each. CPU is the time that all of them
spend for each answer: the figure that neighbours on the machine move least.

LitServe, BentoML, FastAPI and Ray Serve speak no inference protocol: they get V1's body and stand
in its table. The rows of the last table ask for the entities of 32 different rows in turn; the
features come from eight views as in `project.yaml`, put there by Feast's materialisation.
"""


def page(
    results: Results, asked: set[tuple[str, Case]], facts: Mapping[str, str], picture: str
) -> str:
    """Markdown; `facts` is what the figures depend on."""
    parts = [
        "# Serving, side by side",
        METHOD,
        _table(["", ""], facts.items()),
        f"![Requests per second]({picture})",
        "## Bars",
        _table(["bar", "wanted", "found", ""], bar_rows(results, asked)),
        "## Servers",
        _table(["server", "start, s", "memory, MB"], _server_rows(results, asked)),
    ]
    for protocol, title in TITLES.items():
        for rows in (1, 100):
            if any((case.protocol, case.rows) == (protocol, rows) for _, case in asked):
                parts.append(f"## {title}, {rows} row{'s' * (rows > 1)}")
                parts.append(_case_table(results, asked, protocol, rows))
    if results.failures:
        parts.append("## What failed")
        parts.append(_table(["server", "why"], results.failures.items()))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def bar_rows(results: Results, asked: set[tuple[str, Case]]) -> list[list[str]]:
    """What, wanted, found, verdict."""
    return [
        [bar.what, bar.wanted, _found(bar, results), bar.verdict(results, asked)] for bar in bars()
    ]


def _found(bar: Bar, results: Results) -> str:
    found = bar.figure(results)
    return "-" if found is None else f"{found:.3g}{bar.unit}"


def _server_rows(results: Results, asked: set[tuple[str, Case]]) -> Iterable[list[str]]:
    for peer in PEERS:
        if any(name == peer.name for name, _ in asked):
            if peer.name in results.failures and not results.starts.get(peer.name):
                yield [peer.title, f"**FAILED**: {results.failures[peer.name]}", "-"]
            else:
                start, memory = results.start(peer.name), results.megabytes(peer.name)
                yield [peer.title, _number(start, 2), _number(memory, 0)]


def _case_table(
    results: Results, asked: set[tuple[str, Case]], protocol: Protocol, rows: int
) -> str:
    heads = ["connections", "server", "req/s", "p50, ms", "p99, ms", "CPU, µs", "x stock"]
    with_echo = protocol in ("v1", "v2")
    lines = []
    for case in CASES:
        if (case.protocol, case.rows) != (protocol, rows):
            continue
        for peer in PEERS:
            if (peer.name, case) not in asked:
                continue
            found = {name: results.middle(peer.name, case, name) for name in FIGURES}
            failed = {peer.name, f"{peer.name} {case}"} & results.failures.keys()
            lines.append(
                [
                    str(case.connections),
                    peer.title,
                    "**FAILED**" if failed else _number(found["rate"], 0),
                    _number(found["p50_ms"], 2),
                    _number(found["p99_ms"], 2),
                    _number(found["cpu_us"], 0),
                    _number(results.ratio(peer.name, stock_of(peer.name), case), 2),
                    *([_share(results.ratio(peer.name, ECHO, case))] if with_echo else []),
                ]
            )
    return _table([*heads, *(["of echo"] if with_echo else [])], lines)


def stock_of(peer: str) -> str:
    """The stock server that a server is compared with: with the same store, if it has one."""
    for store, stock in STOCK_FEAST.items():
        if peer.endswith(store):
            return stock
    return STOCK_FEAST["sqlite"] if peer == "transformer" else STOCK


def picture(results: Results) -> str:
    """SVG: answers per second of one row at 16 connections, a group of bars for each protocol."""
    shapes = [
        f'<text x="12" y="{TOP}">Answers per second of one core: 1 row, 16 connections</text>'
    ]
    y = TOP + 30
    for protocol, title in TITLES.items():
        case = Case(protocol, 1, 16)
        rates = [(peer, results.middle(peer.name, case, "rate")) for peer in PEERS]
        found = [(peer, rate) for peer, rate in rates if rate is not None]
        if not found:
            continue
        shapes.append(f'<text x="12" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 12
        most = max(rate for _, rate in found)
        for peer, rate in sorted(found, key=lambda item: -item[1]):
            kind = "ours" if "Slipway" in peer.title else "echo" if peer.name == ECHO else "other"
            width = max(1.0, BAR * rate / most)
            label = escape(peer.title.replace("**", ""))
            shapes += [
                f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{label}</text>',
                f'<rect x="{LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" '
                f'fill="{COLOURS[kind]}"/>',
                f'<text x="{LABEL + width + 6:.1f}" y="{y + 15}">{rate:,.0f}</text>',
            ]
            y += ROW
        y += 30
    width = LABEL + BAR + NUMBER
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" '
            f'font-family="sans-serif" font-size="12" role="img" '
            f'aria-label="Requests per second, one row, 16 connections, by server">',
            f'<rect width="{width}" height="{y}" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _table(heads: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
