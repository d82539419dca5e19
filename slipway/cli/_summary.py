"""The table that a run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slipway.cli._options import table
from slipway.report.text import metric_name


def show_summary(found: dict[str, Any], page: Path) -> str:
    """`summary.json` as text for a terminal."""
    rows = found["rows"]
    parts = [
        "",
        f"data version {found['data_version']}, as of {found['as_of']}: {rows['sources']:,} source "
        f"rows, {found['features']} features; {rows['train']:,} rows to train, "
        f"{rows['validate']:,} to validate, {rows['test']:,} to test",
        "",
        _models(found["models"]),
        "",
        *_verdict(found),
        *_requests(found),
        "",
        _steps(found),
        "",
        f"{click.style('report', bold=True)}  {page}",
    ]
    return "\n".join(parts)


def _models(models: list[dict[str, Any]]) -> str:
    metrics = list(models[0]["metrics"])
    return table(
        ["on the test window", *(metric_name(metric) for metric in metrics)],
        [[_model(model), *(_score(model["metrics"].get(m)) for m in metrics)] for model in models],
    )


def _model(model: dict[str, Any]) -> str:
    return f"{model['name']} (version {model['version']})" if model["version"] else model["name"]


def _score(score: dict[str, float] | None) -> str:
    if score is None or score["value"] is None:
        return "-"
    return f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]"


def _verdict(found: dict[str, Any]) -> list[str]:
    model = f"{found['model']} version {found['version']} ({found['engine']})"
    if found["passed"]:
        return [click.style(f"✓ {model} passed every gate and is {found['alias']}", fg="green")]
    kept = [f"  {gate['text']}: {gate['detail']}" for gate in found["gates"] if not gate["passed"]]
    champion = found["champion"] or "none yet"
    text = f"✗ {model} is kept back as {found['alias']}; champion: {champion}"
    return [click.style(text, fg="yellow"), *kept]


def _requests(found: dict[str, Any]) -> list[str]:
    if found["p50_ms"] is None:
        return []
    return [
        f"one request takes {found['p50_ms']:.1f} ms (p50); online and offline scores differ by "
        f"{abs(found['online_offline_difference']):.1e}"
    ]


def _steps(found: dict[str, Any]) -> str:
    rows = [
        [
            step["step"],
            "reused" if step["reused"] else "",
            *(f"{step[part]:.1f}" if step["seconds"] else "" for part in PARTS),
        ]
        for step in found["steps"]
    ]
    total = ["whole run", "", "", "", "", f"{found['seconds']:.1f}"]
    return table(["seconds", "", "start-up", "imports", "work", "in all"], [*rows, total])


PARTS = ("startup", "imports", "work", "seconds")
