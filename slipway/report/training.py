"""Sections on the model: how it was trained, and what it looks at."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from slipway.report.blocks import Block, Cell, Figure, Figures, Key, Note, Section, Table, table
from slipway.report.data import absent
from slipway.report.figures import (
    MOST_ROWS,
    Json,
    axis,
    bars,
    frame,
    line,
    plain,
    rows_frame,
    vertical,
)
from slipway.report.run import Facts, Run
from slipway.report.text import (
    anything,
    count,
    decimals_for,
    duration,
    fixed,
    listed,
    metric_name,
    number,
    short,
)


def training_section(run: Run) -> Section:
    facts = run.facts("train")
    if not facts:
        return absent("training", "Training", "train")
    candidates, rows = facts["candidates"], facts["rows"]
    lead = (
        f"{_engines(candidates)} {count(rows['train'], 'row')} to learn from, "
        f"{count(rows['validate'], 'row')} to choose by. Seed {facts['seed']}; {facts['where']}."
    )
    blocks: list[Block] = []
    if facts["resumed_from"] is not None:
        blocks.append(
            Note(f"Training resumed from its checkpoint at step {facts['resumed_from']:,}.", "hold")
        )
    blocks.append(_candidates(candidates))
    curves = [_curve(item) for item in candidates if item["curve"]]
    if curves:
        span = 6 if len(curves) > 1 else 12
        blocks.append(Figures([Figure(**vars(figure) | {"span": span}) for figure in curves]))
    if facts["search"]:
        blocks += _search(facts["search"])
    return Section("training", "Training", lead, blocks, run.reused("train"))


def _engines(candidates: list[Facts]) -> str:
    chosen = next(item for item in candidates if item["chosen"])
    others = [item["engine"] for item in candidates if not item["chosen"]]
    if not others:
        return f"Trained with {chosen['engine']}."
    return f"{chosen['engine']} did better on the validation window than {listed(others)}."


def _candidates(candidates: list[Facts]) -> Table:
    names = list(dict.fromkeys(name for item in candidates for name in item["metrics"]))
    places = {
        name: decimals_for(item["metrics"].get(name) for item in candidates) for name in names
    }
    rows: list[list[Any]] = []
    for item in candidates:
        settings = ", ".join(f"{k} {anything(v, UTC)}" for k, v in item["settings"].items())
        rows.append(
            [
                Cell(
                    f"{item['engine']} ✓" if item["chosen"] else item["engine"],
                    tone="good" if item["chosen"] else "",
                    note="chosen" if item["chosen"] else "",
                ),
                fixed(item["loss"], 4),
                *(fixed(item["metrics"].get(name), places[name]) for name in names),
                Cell("", note=settings),
            ]
        )
    columns = [
        ("Engine", False),
        ("Validation loss", True),
        *((metric_name(name), True) for name in names),
        ("Settings", False),
    ]
    return table(columns, rows)


def _curve(candidate: Facts) -> Figure:
    curve, engine = candidate["curve"], candidate["engine"]
    steps = [point["step"] for point in curve]
    few = len(steps) <= 15
    data: list[Json] = []
    legend = []
    for name, color in (("train", "@train"), ("validate", "@blue")):
        values = [point[name] for point in curve]
        if all(value is None for value in values):
            continue
        data.append(
            line(
                steps,
                values,
                color,
                hovertemplate=f"step %{{x:,}}<br>{name} %{{y:.4f}}<extra></extra>",
            )
            | {"mode": "lines+markers" if few else "lines", "marker": {"size": 6, "color": color}}
        )
        legend.append(Key(name, color, "line"))
    known = [point for point in curve if point["validate"] is not None]
    if known:
        best = min(known, key=lambda point: float(point["validate"]))
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [best["step"]],
                "y": [best["validate"]],
                "marker": {
                    "size": 13,
                    "symbol": "circle-open",
                    "color": "@blue",
                    "line": {"width": 2},
                },
                "hoverinfo": "skip",
            }
        )
        legend.append(
            Key(f"best: {fixed(best['validate'], 4)} at {best['step']:,}", "@blue", "ring")
        )
    return Figure(
        f"curve-{engine}",
        f"Learning curve of {engine}",
        data,
        frame(
            280,
            xaxis=axis(
                "step", showgrid=False, rangemode="tozero" if not few else "normal", nticks=8
            ),
            yaxis=axis("loss", nticks=6),
        ),
        legend=tuple(legend),
    )


def _search(search: Facts) -> list[Block]:
    trials = sorted(search["trials"], key=lambda trial: (trial["loss"] is None, trial["loss"]))
    stopped = sum(bool(trial["stopped"]) for trial in trials)
    names = list(dict.fromkeys(name for trial in trials for name in trial["settings"]))
    figures = [_setting(at, name, trials) for at, name in enumerate(names[:6])]
    rows = [
        [
            Cell(fixed(trial["loss"], 4), tone="good" if at == 0 else ""),
            *(anything(trial["settings"].get(name), UTC) for name in names),
            duration(trial["seconds"]),
            "stopped early" if trial["stopped"] else "finished",
        ]
        for at, trial in enumerate(trials)
    ]
    columns = [
        ("Validation loss", True),
        *((name, True) for name in names),
        ("Time", True),
        ("", False),
    ]
    told = f"Search ({search['method']}): {count(len(trials), 'trial')}, {stopped} stopped early."
    return [
        Note(told),
        Figures(figures),
        table(columns, rows, title=f"All {count(len(trials), 'trial')}", folded=True),
    ]


def _setting(at: int, name: str, trials: list[Facts]) -> Figure:
    """The loss of each trial over one setting; numbers on a scale, anything else by name."""
    values = [trial["settings"].get(name) for trial in trials]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    known = [float(v) for v in values if numeric]
    log = numeric and min(known) > 0 and max(known) / min(known) >= 50
    scale: Json = {"type": "log", "dtick": 1} if log else {"nticks": 6}
    if not numeric:
        scale = {"type": "category"}
    return Figure(
        f"setting-{at}",
        name,
        [
            {
                "type": "scatter",
                "mode": "markers",
                "x": values if numeric else [plain(short(anything(v, UTC), 16)) for v in values],
                "y": [trial["loss"] for trial in trials],
                "marker": {
                    "opacity": 1,
                    "size": [12 if first == 0 else 8 for first in range(len(trials))],
                    "color": ["@orange" if first == 0 else "@blue" for first in range(len(trials))],
                    "symbol": ["circle-open" if t["stopped"] else "circle" for t in trials],
                },
                "hovertext": [
                    f"{plain(name)} {plain(anything(v, UTC))}<br>loss {fixed(t['loss'], 4)}"
                    for v, t in zip(values, trials, strict=True)
                ],
                "hoverinfo": "text",
            }
        ],
        frame(230, xaxis=axis(showgrid=False, **scale), yaxis=axis("loss", nticks=5)),
        legend=(
            Key("best", "@orange"),
            Key("finished", "@blue"),
            Key("stopped early", "@blue", "ring"),
        ),
        span=4,
    )


def importance_section(run: Run) -> Section:
    facts = run.facts("train")
    if not facts:
        return absent("importance", "Feature importance", "train")
    ordered = sorted(facts["importance"], key=lambda item: -item["value"])
    if not ordered:
        return Section(
            "importance", "Feature importance", "", [Note("None was measured.", "muted")]
        )
    shown = ordered[:MOST_ROWS]
    labels = [item["feature"] for item in shown]
    values = [item["value"] for item in shown]
    figure = Figure(
        "importance",
        "Rise of the validation loss when the feature is shuffled",
        [bars(labels, values, ["@blue" if value > 0 else "@grey/0.6" for value in values])],
        rows_frame(
            labels,
            xaxis=axis("rise of the loss", nticks=7),
            shapes=[vertical(0, "@line", layer="above")],
        ),
        note=f"The {len(shown)} largest of {len(ordered)}." if len(shown) < len(ordered) else "",
    )
    blocks: list[Block] = [Figures([figure])]
    if len(shown) < len(ordered):
        rows = [
            [Cell(short(item["feature"], 48), mono=True), number(item["value"], 3)]
            for item in ordered
        ]
        columns = [("Feature", False), ("Rise of the loss", True)]
        blocks.append(table(columns, rows, title=f"All {len(ordered)} features", folded=True))
    lead = "What the model would miss: each feature's values are shuffled among the rows, in turn."
    return Section("importance", "Feature importance", lead, blocks, run.reused("train"))
