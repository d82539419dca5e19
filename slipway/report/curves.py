"""Plots of the test window's predictions, by task."""

from __future__ import annotations

from typing import Any

from slipway.report.blocks import Figure, Key
from slipway.report.figures import (
    LOOKS,
    Json,
    axis,
    frame,
    histogram,
    line,
    plain,
    rows_axis,
    rule,
    vertical,
)
from slipway.report.run import Facts
from slipway.report.text import count, model_name, percent, short

MOST_CLASSES_WITH_COUNTS = 12


def curve_figures(facts: Facts) -> list[Figure]:
    """The plots that the task has: of ranking, of confusion, or of errors."""
    if facts["task"] == "binary":
        return _binary(facts)
    if facts["task"] == "multiclass":
        return _multiclass(facts)
    return _regression(facts)


def _model_lines(facts: Facts, kind: str, told: str) -> tuple[list[Json], tuple[Key, ...]]:
    data, legend = [], []
    versions = {model["name"]: model["version"] for model in facts["models"]}
    for name, points in facts["curves"][kind].items():
        look = LOOKS[name]
        label = model_name(name, facts["task"], versions.get(name))
        data.append(
            line(
                [point[0] for point in points],
                [point[1] for point in points],
                look.color,
                look.dash,
                hovertemplate=f"{label}<br>{told}<extra></extra>",
            )
        )
        legend.append(Key(label, look.color, "line", look.dash))
    return data, tuple(legend)


def _share_axis(title: str, **more: Any) -> Json:
    return axis(title, **({"range": [-0.01, 1.01], "tickformat": ",.0%", "nticks": 6} | more))


def _binary(facts: Facts) -> list[Figure]:
    figures: list[Figure] = []
    curves = facts["curves"]
    if curves.get("roc"):
        data, legend = _model_lines(facts, "roc", "false alarms %{x:.1%}<br>found %{y:.1%}")
        figures.append(
            Figure(
                "roc",
                "ROC",
                [rule([0, 1], [0, 1]), *data],
                frame(
                    340,
                    xaxis=_share_axis("false positive rate"),
                    yaxis=_share_axis("true positive rate"),
                ),
                legend=legend,
                span=4,
            )
        )
    if curves.get("pr"):
        data, legend = _model_lines(facts, "pr", "recall %{x:.1%}<br>precision %{y:.1%}")
        figures.append(
            Figure(
                "pr",
                "Precision and recall",
                data,
                frame(340, xaxis=_share_axis("recall"), yaxis=_share_axis("precision")),
                legend=legend,
                span=4,
            )
        )
    if curves.get("calibration"):
        figures.append(_calibration(facts))
    return figures


def _calibration(facts: Facts) -> Figure:
    """Observed rate over predicted probability, above the candidate's predictions."""
    data: list[Json] = [rule([0, 1], [0, 1])]
    legend = []
    versions = {model["name"]: model["version"] for model in facts["models"]}
    for name, points in facts["curves"]["calibration"].items():
        look = LOOKS[name]
        label = model_name(name, facts["task"], versions.get(name))
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [point[0] for point in points],
                "y": [point[1] for point in points],
                "line": {"color": look.color, "width": 1.5, "dash": look.dash},
                "marker": {"color": look.color, "symbol": look.symbol, "size": 7},
                "hovertext": [
                    f"{label}<br>predicted {percent(point[0])}<br>observed {percent(point[1])}"
                    f"<br>{count(point[2], 'row')}"
                    for point in points
                ],
                "hoverinfo": "text",
                "yaxis": "y",
            }
        )
        legend.append(Key(label, look.color, look.shape))
    bins = facts["curves"].get("histogram")
    layout = frame(
        340,
        xaxis=_share_axis("predicted probability", anchor="y2" if bins else "y"),
        yaxis=_share_axis("observed share", domain=[0.3 if bins else 0, 1]),
    )
    if bins:
        data.append(histogram(bins["edges"], bins["counts"], yaxis="y2"))
        layout["yaxis2"] = axis("rows", domain=[0, 0.2], nticks=3)
    return Figure("calibration", "Calibration", data, layout, legend=tuple(legend), span=4)


def _multiclass(facts: Facts) -> list[Figure]:
    confusion = facts["curves"].get("confusion")
    if not confusion:
        return []
    classes = [plain(short(str(name), 20)) for name in facts["classes"]]
    shares = [[amount / max(sum(row), 1) for amount in row] for row in confusion]
    places = list(range(len(classes)))
    heatmap: Json = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "@surface"], [1, "@blue"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertext": [
            [
                f"{classes[row]} called {classes[at]}<br>{count(amount, 'row')}, "
                f"{percent(shares[row][at])} of {classes[row]}"
                for at, amount in enumerate(amounts)
            ]
            for row, amounts in enumerate(confusion)
        ],
        "hoverinfo": "text",
    }
    if len(classes) <= MOST_CLASSES_WITH_COUNTS:
        heatmap |= {
            "text": [[f"{amount:,}" for amount in row] for row in confusion],
            "texttemplate": "%{text}",
        }
    x_axis = axis(
        "predicted",
        tickmode="array",
        tickvals=places,
        ticktext=classes,
        showgrid=False,
        range=[-0.5, len(classes) - 0.5],
    )
    figures = [
        Figure(
            "confusion",
            "Confusion matrix",
            [heatmap],
            frame(
                max(260, 90 + 38 * len(classes)),
                xaxis=x_axis,
                yaxis=rows_axis(facts["classes"]) | {"title": axis("actual")["title"]},
            ),
            note="Rows of the test window; shaded by the share of each actual class.",
            span=6,
        )
    ]
    if bins := facts["curves"].get("histogram"):
        figures.append(
            Figure(
                "confidence",
                "Probability of the predicted class",
                [histogram(bins["edges"], bins["counts"])],
                frame(
                    max(260, 90 + 38 * len(classes)),
                    xaxis=axis("probability", tickformat=",.0%"),
                    yaxis=axis("rows"),
                ),
                span=6,
            )
        )
    return figures


def _regression(facts: Facts) -> list[Figure]:
    figures: list[Figure] = []
    curves = facts["curves"]
    if points := curves.get("scatter"):
        values = [value for point in points for value in point]
        ends = [min(values), max(values)]
        figures.append(
            Figure(
                "scatter",
                "Predicted and actual",
                [
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "x": [point[0] for point in points],
                        "y": [point[1] for point in points],
                        "marker": {"size": 5, "color": "@blue/0.45"},
                        "hovertemplate": "actual %{x:,.4g}<br>predicted %{y:,.4g}<extra></extra>",
                    },
                    rule(ends, ends),
                ],
                frame(340, xaxis=axis("actual"), yaxis=axis("predicted")),
                note=f"{count(len(points), 'row')}; on the dotted line a prediction is exact.",
                span=6,
            )
        )
    if bins := curves.get("residuals"):
        figures.append(
            Figure(
                "residuals",
                "Residuals",
                [histogram(bins["edges"], bins["counts"])],
                frame(
                    340,
                    xaxis=axis("actual minus predicted"),
                    yaxis=axis("rows"),
                    shapes=[vertical(0, layer="above")],
                ),
                note="Centred on zero when the model leans to neither side.",
                span=6,
            )
        )
    return figures
