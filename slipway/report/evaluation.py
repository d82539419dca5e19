"""The section on the test window: models, gates, curves, slices, worst errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import Any

from slipway.contract.checks import HIGHER_IS_BETTER, METRICS, TIME_SLICES
from slipway.report.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    Gate,
    Gates,
    Interval,
    Key,
    Section,
    Span,
    Table,
    Tone,
    table,
)
from slipway.report.curves import curve_figures
from slipway.report.data import absent
from slipway.report.figures import (
    LOOKS,
    MOST_ROWS,
    Json,
    axis,
    line,
    padded,
    plain,
    rows_frame,
    vertical,
)
from slipway.report.run import Facts, Run
from slipway.report.text import (
    anything,
    count,
    decimals_for,
    fixed,
    metric_name,
    model_name,
    moment,
    number,
    percent,
    short,
)

VERDICTS: dict[bool | None, tuple[Tone, str]] = {
    True: ("good", "✓ better"),
    False: ("bad", "✗ worse"),
    None: ("muted", "no clear difference"),
}


def evaluation_section(run: Run) -> Section:
    facts = run.facts("evaluate")
    if not facts:
        return absent("evaluation", "Evaluation", "evaluate")
    window = facts["window"]
    lead = (
        f"{count(window['rows'], 'row')} from {moment(window['start'], run.zone)} until "
        f"{moment(window['end'], run.zone)}, which no training has seen. {_looks(facts['looks'])} "
        f"Intervals are 95 %, by bootstrap."
    )
    metrics = _metrics(facts)
    blocks: list[Block] = []
    if facts["gates"]:
        blocks.append(
            Gates([Gate(gate["text"], gate["detail"], gate["passed"]) for gate in facts["gates"]])
        )
    blocks.append(
        Figures(
            [_comparison(*pair, facts) for pair in zip(metrics, _spans(len(metrics)), strict=True)]
        )
    )
    blocks.append(_scores(metrics, facts))
    if facts["versus"]:
        blocks.append(_differences(facts))
    if curves := curve_figures(facts):
        blocks.append(Figures(curves))
    if facts["slices"]:
        slices = _slices(facts)
        blocks.append(Figures(slices, flow=len(slices) > 1))
        blocks.append(_slice_table(facts))
    if facts["worst"]:
        blocks.append(_worst(facts, run.zone))
    return Section("evaluation", "Evaluation", lead, blocks, run.reused("evaluate"))


def _looks(looks: int) -> str:
    if looks <= 1:
        return "This is the first candidate that is scored on it."
    return (
        f"{looks} candidates have been scored on it so far; each further look makes the best of "
        f"them look better than it is."
    )


def _metrics(facts: Facts) -> list[str]:
    """The task's metrics that were measured, in the order of the contract's documentation."""
    found = {name for model in facts["models"] for name in model["metrics"]}
    return [name for name in METRICS[facts["task"]] if name in found]


def primary_metric(facts: Facts) -> str:
    return _metrics(facts)[0]


def _direction(metric: str) -> str:
    return "higher is better" if metric in HIGHER_IS_BETTER else "lower is better"


def _spans(count: int) -> list[Span]:
    """Widths that fill whole rows with so many figures: threes, and pairs for the rest."""
    if count == 1:
        return [12]
    pairs = {0: 0, 1: 2, 2: 1}[count % 3]
    threes: list[Span] = [4] * (count - 2 * pairs)
    twos: list[Span] = [6] * (2 * pairs)
    return threes + twos


def _comparison(metric: str, span: Span, facts: Facts) -> Figure:
    """A dot and its interval for each model."""
    models = [model for model in facts["models"] if metric in model["metrics"]]
    labels = [model_name(m["name"], facts["task"], m["version"]) for m in models]
    places = decimals_for(model["metrics"][metric]["value"] for model in models)
    data: list[Json] = []
    ends: list[float | None] = []
    for at, (model, label) in enumerate(zip(models, labels, strict=True)):
        score, look = model["metrics"][metric], LOOKS[model["name"]]
        low, high = score["low"], score["high"]
        ends += [low, score["value"], high]
        told = f"{label}<br>{fixed(score['value'], places)}"
        if low is not None and high is not None:
            data.append(line([low, high], [at, at], look.color, hoverinfo="skip"))
            data[-1]["line"]["width"] = 3
            told += f" [{fixed(low, places)}, {fixed(high, places)}]"
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [score["value"]],
                "y": [at],
                "marker": {"size": 11, "color": look.color, "symbol": look.symbol},
                "hovertext": [told],
                "hoverinfo": "text",
            }
        )
    return Figure(
        f"metric-{metric}",
        metric_name(metric),
        data,
        rows_frame(labels, 30, xaxis=axis(_direction(metric), nticks=6, range=padded(ends))),
        span=span,
    )


def _scores(metrics: list[str], facts: Facts) -> Table:
    models = facts["models"]
    places, best = {}, {}
    for metric in metrics:
        values = [m["metrics"][metric]["value"] for m in models if metric in m["metrics"]]
        places[metric] = decimals_for(values)
        known = [value for value in values if value is not None]
        best[metric] = (max if metric in HIGHER_IS_BETTER else min)(known, default=None)
    rows = []
    for model in models:
        look = LOOKS[model["name"]]
        name = model_name(model["name"], facts["task"], model["version"])
        row = [Cell(name, key=Key("", look.color, look.shape))]
        for metric in metrics:
            score = model["metrics"].get(metric)
            if score is None:
                row.append(Cell(fixed(None, 0)))
                continue
            low, high = score["low"], score["high"]
            interval = f"{fixed(low, places[metric])} to {fixed(high, places[metric])}"
            row.append(
                Cell(
                    fixed(score["value"], places[metric]),
                    note="" if low is None or high is None else interval,
                    tone="good" if score["value"] == best[metric] else "",
                )
            )
        rows.append(row)
    columns = [("Model", False), *((metric_name(metric), True) for metric in metrics)]
    return table(columns, rows, title="Scores", note="The best of each column stands out.")


def _differences(facts: Facts) -> Table:
    """The candidate minus each other model, and where that lies from zero."""
    versions = {model["name"]: model["version"] for model in facts["models"]}
    rows: list[list[Any]] = []
    before = ""
    for item in facts["versus"]:
        low, middle, high = item["low"], item["difference"], item["high"]
        reach = max(abs(low), abs(middle), abs(high)) or 1.0
        places = decimals_for([reach])
        tone, says = VERDICTS[item["better"]]
        name = model_name(item["other"], facts["task"], versions.get(item["other"]))
        rows.append(
            [
                name if name != before else "",
                metric_name(item["metric"]),
                fixed(middle, places, signed=True),
                f"{fixed(low, places, signed=True)} to {fixed(high, places, signed=True)}",
                Cell(
                    "",
                    interval=Interval(*(50 + 48 * end / reach for end in (low, middle, high))),
                    tone=tone,
                ),
                Cell(says, tone=tone),
            ]
        )
        before = name
    columns = [
        ("Candidate minus", False),
        ("Metric", False),
        ("Difference", True),
        ("95 % interval", True),
        ("Around zero", False),
        ("", False),
    ]
    return table(
        columns,
        rows,
        title="Paired differences",
        note="Both models on the same resampled rows. Each drawing has its own scale, around zero.",
    )


def _slice_name(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _slices(facts: Facts) -> list[Figure]:
    """One figure for each `by`: the metric of each value, and how many rows are behind it."""
    metric = primary_metric(facts)
    candidate = next(model for model in facts["models"] if model["name"] == "candidate")
    overall = candidate["metrics"][metric]["value"]
    names = list(dict.fromkeys(item["by"] for item in facts["slices"]))
    figures: list[Figure] = []
    for by in names:
        items = [item for item in facts["slices"] if item["by"] == by]
        if by not in TIME_SLICES:
            items.sort(key=lambda item: -item["rows"])
        shown = items[:MOST_ROWS]
        labels = [_slice_name(item["value"]) for item in shown]
        scores = [item["metrics"].get(metric) for item in shown]
        told = [
            f"{plain(label)}<br>{count(item['rows'], 'row')}<br>"
            f"{metric_name(metric)} {number(item['metrics'].get(metric))}"
            for label, item in zip(labels, shown, strict=True)
        ]
        places = list(range(len(shown)))
        data: list[Json] = [
            {
                "type": "scatter",
                "mode": "markers",
                "x": scores,
                "y": places,
                "marker": {"size": 10, "color": LOOKS["candidate"].color},
                "hovertext": told,
                "hoverinfo": "text",
            },
            {
                "type": "bar",
                "orientation": "h",
                "x": [item["rows"] for item in shown],
                "y": places,
                "marker": {"color": "@grey/0.45"},
                "hovertext": told,
                "hoverinfo": "text",
                "textposition": "none",
                "xaxis": "x2",
            },
        ]
        figures.append(
            Figure(
                f"slice-{len(figures)}",
                f"By {by.replace('_', ' ')}",
                data,
                rows_frame(
                    labels,
                    xaxis=axis(
                        metric_name(metric),
                        domain=[0, 0.64],
                        nticks=5,
                        range=padded([overall, *scores]),
                    ),
                    xaxis2=axis("rows", domain=[0.72, 1], nticks=3, rangemode="tozero"),
                    shapes=[vertical(overall)],
                ),
                note=f"The {len(shown)} largest of {len(items)}."
                if len(shown) < len(items)
                else "",
                legend=(Key(f"all rows: {number(overall)}", "@ink-2", "line", "dash"),),
            )
        )
    return figures


def _slice_table(facts: Facts) -> Table:
    metrics = _metrics(facts)
    with_mean = any(item["label_mean"] is not None for item in facts["slices"])
    show: Callable[[float | None], str] = percent if facts["task"] == "binary" else number
    places = {
        metric: decimals_for(item["metrics"].get(metric) for item in facts["slices"])
        for metric in metrics
    }
    rows: list[list[Any]] = []
    for item in facts["slices"]:
        name = _slice_name(item["value"])
        rows.append(
            [
                item["by"],
                Cell(short(name, 40), title=name),
                number(item["rows"]),
                *([show(item["label_mean"])] if with_mean else []),
                *(fixed(item["metrics"].get(metric), places[metric]) for metric in metrics),
            ]
        )
    columns = [("By", False), ("Value", False), ("Rows", True)]
    if with_mean:
        columns.append(("Label 1" if facts["task"] == "binary" else "Mean label", True))
    columns += [(metric_name(metric), True) for metric in metrics]
    return table(columns, rows, title=f"All {count(len(rows), 'slice')}", folded=True)


def _worst(facts: Facts, zone: tzinfo) -> Table:
    keys = list(dict.fromkeys(name for item in facts["worst"] for name in item["key"]))
    rows: list[list[Any]] = []
    for item in facts["worst"]:
        texts = [anything(item["key"].get(name), zone) for name in keys]
        rows.append(
            [
                *(Cell(short(text, 40), title=text) for text in texts),
                anything(item["label"], UTC),
                percent(item["prediction"])
                if facts["task"] == "binary"
                else anything(item["prediction"], UTC),
                number(item["loss"], 3),
            ]
        )
    predicted = "Predicted probability" if facts["task"] == "binary" else "Predicted"
    columns = [
        *((name.replace("_", " "), False) for name in keys),
        ("Actual", True),
        (predicted, True),
        ("Loss", True),
    ]
    return table(columns, rows, title="Worst errors", note="The rows that cost the most.")
