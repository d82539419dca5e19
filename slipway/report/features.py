"""The section on the features: windows, views, nulls and drift."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from slipway.contract.model import Contract, Target
from slipway.report.blocks import Cell, Figure, Figures, Key, Section, Table, table
from slipway.report.data import absent
from slipway.report.figures import (
    MOST_ROWS,
    axis,
    bars,
    dumbbells,
    plain,
    rows_frame,
    vertical,
)
from slipway.report.run import Facts, Run
from slipway.report.text import (
    NOTHING,
    count,
    fixed,
    instant,
    moment,
    number,
    percent,
    short,
)


def features_section(run: Run, contract: Contract) -> Section:
    facts = run.facts("features")
    if not facts:
        return absent("features", "Features", "features")
    views, psi_warning = facts["views"], contract.monitoring.psi_warning
    lead = (
        f"{count(facts['features'], 'feature')} as of {moment(facts['as_of'], run.zone)}: "
        f"{count(len(views), 'view')} joined at the moment of each prediction, and what the "
        f"request brings. {count(facts['online_rows'], 'row')} in the online store."
    )
    figures = []
    nulls = _nulls(facts["null_share"])
    if nulls:
        figures.append(nulls)
    if facts["drift"]:
        figures.append(_drift(facts["drift"], psi_warning))
    return Section(
        "features",
        "Features",
        lead,
        [
            _windows(facts, contract.target, run.zone),
            _views(facts, run.zone),
            Figures(figures),
            _per_feature(facts, psi_warning),
        ],
        run.reused("features"),
    )


def _windows(facts: Facts, target: Target, zone: tzinfo) -> Table:
    means = [window["label_mean"] for window in facts["windows"].values()]
    is_rate = target.task == "binary"
    with_mean = any(mean is not None for mean in means)
    rows = [
        [
            Cell(name),
            moment(window["start"], zone),
            moment(window["end"], zone),
            number(window["rows"]),
            *([(percent if is_rate else number)(window["label_mean"])] if with_mean else []),
        ]
        for name, window in facts["windows"].items()
    ]
    columns = [("Window", False), ("From", False), ("Until", False), ("Rows", True)]
    if with_mean:
        columns.append((f"{'Share' if is_rate else 'Mean'} of “{target.label}”", True))
    return table(columns, rows)


def _views(facts: Facts, zone: tzinfo) -> Table:
    rows = [
        [
            Cell(view["name"], mono=True),
            ", ".join(view["entities"]),
            number(view["rows"]),
            moment(view["first"], zone),
            moment(view["last"], zone),
            _age(view["last"], facts["as_of"], zone),
        ]
        for view in facts["views"]
    ]
    columns = [
        ("View", False),
        ("Looked up by", False),
        ("Rows", True),
        ("First fact", False),
        ("Last fact", False),
        ("Age at as-of", True),
    ]
    return table(columns, rows)


def _age(last: str | None, as_of: str, zone: tzinfo) -> str:
    """How old the view's newest fact was at `as_of`."""
    if last is None or instant(last, zone).timestamp() <= 0:
        return NOTHING
    seconds = (instant(as_of, zone) - instant(last, zone)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 0) / 60:.0f} min"


def _nulls(shares: list[Facts]) -> Figure | None:
    with_nulls = [item for item in shares if (item["train"] or 0) + (item["test"] or 0) > 0]
    if not with_nulls:
        return None
    ordered = sorted(with_nulls, key=lambda item: -max(item["train"] or 0, item["test"] or 0))
    shown = ordered[:MOST_ROWS]
    whole = len(shares) - len(with_nulls)
    note = f"{count(whole, 'feature')} without a null." if whole else ""
    if len(shown) < len(ordered):
        note = f"The {len(shown)} largest of {len(ordered)}. {note}".strip()
    return dumbbells(
        "nulls",
        "Nulls by feature",
        [item["feature"] for item in shown],
        {window: [item[window] for item in shown] for window in ("train", "test")},
        "share of rows without a value",
        note=note,
        span=6,
    )


def _drift(drift: list[Facts], warning: float) -> Figure:
    ordered = sorted(drift, key=lambda item: -(item["psi"] or 0))
    shown = ordered[:MOST_ROWS]
    labels = [item["feature"] for item in shown]
    over = sum((item["psi"] or 0) >= warning for item in drift)
    note = f"{count(over, 'feature')} at or above the contract's warning of {warning:g}."
    if len(shown) < len(ordered):
        note += f" The {len(shown)} largest of {len(ordered)} are shown."
    data = [
        bars(
            labels,
            [item["psi"] for item in shown],
            ["@orange" if (item["psi"] or 0) >= warning else "@grey/0.6" for item in shown],
        ),
        {
            "type": "scatter",
            "mode": "markers",
            "x": [item["ks"] for item in shown],
            "y": list(range(len(shown))),
            "marker": {"size": 7, "color": "@blue"},
            "cliponaxis": False,
            "hovertext": [
                f"{plain(item['feature'])}<br>KS {fixed(item['ks'], 3)}" for item in shown
            ],
            "hoverinfo": "text",
            "xaxis": "x2",
        },
    ]
    largest = max([warning, *(item["psi"] or 0 for item in shown)])
    return Figure(
        "drift",
        "Drift from train to test",
        data,
        rows_frame(
            labels,
            xaxis=axis("PSI", domain=[0, 0.62], range=[0, largest * 1.08], nticks=5),
            xaxis2=axis("KS", domain=[0.7, 1], rangemode="tozero", nticks=3),
            shapes=[vertical(warning, "@orange")],
        ),
        note=note,
        legend=(
            Key("PSI below the warning", "@grey", "box"),
            Key("PSI above", "@orange", "box"),
            Key("KS", "@blue"),
        ),
        span=6,
    )


def _per_feature(facts: Facts, warning: float) -> Table:
    nulls = {item["feature"]: item for item in facts["null_share"]}
    drift = {item["feature"]: item for item in facts["drift"]}
    rows: list[list[Any]] = []
    # A part of a timestamp drifts under a name of its own, `scheduled_at.minute_of_day`.
    for name in sorted(dict.fromkeys([*nulls, *drift])):
        share, moved = nulls.get(name, {}), drift.get(name, {})
        above = (moved.get("psi") or 0) >= warning
        rows.append(
            [
                Cell(short(name, 48), mono=True, title=name),
                Cell(percent(share.get("train")), bar=share.get("train")),
                Cell(percent(share.get("test")), bar=share.get("test")),
                Cell(fixed(moved.get("psi"), 3), tone="hold" if above else ""),
                fixed(moved.get("ks"), 3),
            ]
        )
    columns = [
        ("Feature", False),
        ("Nulls in train", True),
        ("Nulls in test", True),
        ("PSI", True),
        ("KS", True),
    ]
    return table(columns, rows, title="Nulls and drift of every feature", folded=True)
