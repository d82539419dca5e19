"""Sections on what went in: the data version and its validation."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from slipway.contract.model import Target
from slipway.report.blocks import Block, Cell, Figure, Figures, Key, Note, Section, Table, table
from slipway.report.figures import (
    WINDOW_COLORS,
    Json,
    axis,
    dumbbells,
    frame,
    line,
    plain,
)
from slipway.report.run import Facts, Run
from slipway.report.text import (
    anything,
    count,
    instant,
    listed,
    moment,
    number,
    percent,
    short,
    size,
)

MISSING = "This run has no record of the step “{}”."


def absent(name: str, title: str, step: str) -> Section:
    return Section(name, title, "", [Note(MISSING.format(step), "muted")])


def data_section(run: Run, target: Target) -> Section:
    facts, features = run.facts("ingest"), run.facts("features")
    blocks: list[Block] = []
    lead = ""
    if facts:
        rows = sum(source["rows"] for source in facts["sources"])
        lead = (
            f"{count(rows, 'row')} from {count(len(facts['sources']), 'source')}, kept as data "
            f"version {facts['data_version']} since {moment(facts['created'], run.zone)}."
        )
        blocks.append(_sources(facts))
    else:
        blocks.append(Note(MISSING.format("ingest"), "muted"))
    if features:
        blocks.append(Figures(_label_figures(features, target, run.zone)))
    return Section("data", "Data", lead, blocks, run.reused("ingest"))


def _sources(facts: Facts) -> Table:
    rows = [
        [
            Cell(source["name"], mono=True),
            Cell(short(source["uri"], 60), mono=True, title=source["uri"]),
            number(source["rows"]),
            number(source["columns"]),
            size(source["bytes"]),
            Cell(source["sha256"][:12], mono=True, title=source["sha256"]),
        ]
        for source in facts["sources"]
    ]
    columns = [
        ("Source", False),
        ("Read from", False),
        ("Rows", True),
        ("Columns", True),
        ("Size", True),
        ("SHA-256", False),
    ]
    return table(columns, rows)


def _label_figures(features: Facts, target: Target, zone: tzinfo) -> list[Figure]:
    found = []
    if features["months"]:
        found.append(_months(features, target, zone))
    shares = {
        window: facts["class_shares"]
        for window, facts in features["windows"].items()
        if facts.get("class_shares")
    }
    if shares:
        classes = list(dict.fromkeys(name for window in shares.values() for name in window))
        found.append(
            dumbbells(
                "classes",
                "Classes in each window",
                classes,
                {w: [known.get(c, 0.0) for c in classes] for w, known in shares.items()},
                "share of rows",
            )
        )
    return found


def _months(features: Facts, target: Target, zone: tzinfo) -> Figure:
    """Rows of each month, and above them the label's mean where it has one."""
    months, windows = features["months"], features["windows"]
    firsts = [datetime.fromisoformat(f"{month['month']}-01") for month in months]
    middles = [first + timedelta(days=14) for first in firsts]
    x = [f"{day:%Y-%m-%d}" for day in middles]
    means = [month["label_mean"] for month in months]
    has_mean = any(mean is not None for mean in means)
    is_rate = target.task == "binary"
    show = percent if is_rate else number
    names = [f"{first:%b %Y}" for first in firsts]
    data: list[Json] = [
        {
            "type": "bar",
            "x": x,
            "y": [month["rows"] for month in months],
            "width": 22 * 86_400_000,
            "marker": {"color": "@grey/0.55"},
            "hovertext": [
                f"{name}<br>{count(month['rows'], 'row')}"
                for name, month in zip(names, months, strict=True)
            ],
            "hoverinfo": "text",
            "textposition": "none",
            "yaxis": "y",
        }
    ]
    spans = {
        name: (
            f"{instant(window['start'], zone):%Y-%m-%dT%H:%M}",
            f"{instant(window['end'], zone):%Y-%m-%dT%H:%M}",
        )
        for name, window in windows.items()
    }
    if has_mean:
        for name, span in spans.items():
            mean = windows[name]["label_mean"]
            if mean is not None:
                data.append(
                    line(span, [mean, mean], WINDOW_COLORS[name], yaxis="y2", hoverinfo="skip")
                )
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": x,
                "y": means,
                "line": {"color": "@ink", "width": 1.5},
                "marker": {"color": "@ink", "size": 6},
                "hovertext": [
                    f"{name}<br>{plain(target.label)} {show(mean)}"
                    for name, mean in zip(names, means, strict=True)
                ],
                "hoverinfo": "text",
                "yaxis": "y2",
            }
        )
    layout = frame(
        340 if has_mean else 230,
        xaxis=axis(type="date", showgrid=False, anchor="y"),
        yaxis=axis("rows", domain=[0, 0.3 if has_mean else 1], nticks=4, rangemode="tozero"),
        shapes=[
            {
                "type": "rect",
                "x0": start,
                "x1": end,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "fillcolor": f"{WINDOW_COLORS[name]}/0.13",
                "line": {"width": 0},
                "layer": "below",
            }
            for name, (start, end) in spans.items()
        ],
    )
    if has_mean:
        layout["yaxis2"] = axis(
            "share of rows" if is_rate else "mean",
            domain=[0.4, 1],
            rangemode="tozero" if is_rate else "normal",
            **({"tickformat": ",.0%"} if is_rate else {}),
        )
    what = f"{'Share' if is_rate else 'Mean'} of “{target.label}”" if has_mean else "Rows"
    return Figure(
        "months",
        f"{what} by month",
        data,
        layout,
        note="Coloured lines are the means of the windows." if has_mean else "",
        legend=tuple(
            Key(f"{name}, {count(window['rows'], 'row')}", WINDOW_COLORS[name], "box")
            for name, window in windows.items()
        ),
    )


def validation_section(run: Run) -> Section:
    facts = run.facts("validate")
    if not facts:
        return absent("validation", "Validation", "validate")
    failures = facts["failures"]
    serious = [failure for failure in failures if failure["severity"] == "critical"]
    warnings = len(failures) - len(serious)
    lead = f"{count(facts['checks'], 'check')} out of the contract: "
    if not failures:
        lead += "all of them hold."
    else:
        told = [
            count(amount, what)
            for amount, what in ((len(serious), "failure"), (warnings, "warning"))
            if amount
        ]
        lead += f"{listed(told)}."
    blocks: list[Block] = []
    if failures:
        blocks.append(_failures(failures, run.zone))
    blocks.append(_profile(facts, run.zone))
    return Section("validation", "Validation", lead, blocks, run.reused("validate"))


def _failures(failures: list[Facts], zone: tzinfo) -> Table:
    ordered = sorted(failures, key=lambda failure: failure["severity"] != "critical")
    rows = []
    for failure in ordered:
        critical = failure["severity"] == "critical"
        examples = ", ".join(anything(example, zone) for example in failure["examples"])
        rows.append(
            [
                Cell("✗ critical" if critical else "! warning", tone="bad" if critical else "hold"),
                Cell(".".join(filter(None, (failure["source"], failure["column"]))), mono=True),
                Cell(failure["rule"], note=failure["message"]),
                Cell(number(failure["failed"]), note=f"of {number(failure['rows'])}"),
                Cell(percent(failure["share"])),
                Cell(short(examples, 60), mono=True, title=examples),
            ]
        )
    columns = [
        ("Severity", False),
        ("Column", False),
        ("Rule", False),
        ("Rows", True),
        ("Share", True),
        ("Examples", False),
    ]
    return table(columns, rows)


def _profile(facts: Facts, zone: tzinfo) -> Table:
    rows = [
        [
            Cell(column["source"], mono=True),
            Cell(short(column["column"], 40), mono=True, title=column["column"]),
            column["type"],
            Cell(percent(column["nulls"]), bar=column["nulls"]),
            short(anything(column["min"], zone), 30),
            short(anything(column["mean"], zone), 30),
            short(anything(column["max"], zone), 30),
            number(column["distinct"]),
        ]
        for column in facts["profile"]
    ]
    columns = [
        ("Source", False),
        ("Column", False),
        ("Type", False),
        ("Nulls", True),
        ("Smallest", True),
        ("Mean", True),
        ("Largest", True),
        ("Distinct", True),
    ]
    return table(columns, rows, title=f"Profile of {count(len(rows), 'column')}", folded=True)
