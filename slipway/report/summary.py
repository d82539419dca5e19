"""`summary.json`: what a script wants to know of a run."""

from __future__ import annotations

from typing import Any

from slipway.report.run import Run


def summarise(run: Run) -> dict[str, Any]:
    """The final table of a run. What a missing step would have said is null or empty.

    Seconds throughout, except `p50_ms` and `p99_ms`; each score is {value, low, high}, the
    95 % interval.
    """
    ingest, features = run.facts("ingest") or {}, run.facts("features") or {}
    train, evaluate = run.facts("train") or {}, run.facts("evaluate") or {}
    register, score = run.facts("register") or {}, run.score or {}
    windows = features.get("windows", {})
    return {
        "data_version": ingest.get("data_version"),
        "feature_version": features.get("feature_version"),
        "code_version": register.get("lineage", {}).get("code_version"),
        "project_version": register.get("lineage", {}).get("project_version"),
        "as_of": features.get("as_of"),
        "rows": {
            "sources": sum(source["rows"] for source in ingest["sources"]) if ingest else None,
            **{name: windows.get(name, {}).get("rows") for name in ("train", "validate", "test")},
        },
        "features": features.get("features"),
        "engine": train.get("engine"),
        "models": [
            {"name": model["name"], "version": model["version"], "metrics": model["metrics"]}
            for model in evaluate.get("models", [])
        ],
        "gates": evaluate.get("gates", []),
        "passed": evaluate.get("passed"),
        "looks": evaluate.get("looks"),
        "model": register.get("model"),
        "version": register.get("version"),
        "alias": register.get("alias"),
        "champion": register.get("champion_version"),
        "previous_champion": register.get("previous_champion"),
        "p50_ms": score.get("p50_ms"),
        "p99_ms": score.get("p99_ms"),
        "online_offline_difference": score.get("difference"),
        "seconds": run.wall_seconds,
        "steps": [
            {
                "step": step,
                "reused": run.reused(step),
                "seconds": round(sum(record["seconds"].values()), 3) if run.ran(step) else 0.0,
                **record["seconds"],
            }
            for step, record in run.records.items()
        ],
        "reused": [step for step in run.records if run.reused(step)],
    }
