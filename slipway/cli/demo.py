"""`slipway demo`: the whole lifecycle here, from source tables to scored requests and a report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from slipway.cli._options import as_of_option, json_option, project_option
from slipway.cli._summary import show_summary
from slipway.cli.console import Progress
from slipway.cli.run import run_pipeline
from slipway.code import content_hash
from slipway.files import read_json, write_json
from slipway.package import digest
from slipway.project import Project
from slipway.report import summary, write_report


@click.command()
@project_option
@as_of_option
@json_option
def demo(project: Path, as_of: str, as_json: bool) -> None:
    """Run the training pipeline here, score real requests, and write the report.

    What did not change since the last run is reused; a run that was killed goes on where it was.
    """
    loaded = Project.load(project)
    click.echo(f"{loaded.contract.name}: {loaded.contract.description}", err=True)
    started = time.time()
    with Progress() as progress:
        run = run_pipeline(loaded, as_of, progress)
        progress.start("score")
        score = _score(loaded, run, progress)
        progress.start("report")
        seconds = time.time() - started
        page = write_report(
            run.records, score, loaded, loaded.home.report / "index.html", seconds=seconds
        )
        found = summary(run.records, score, seconds=seconds)
        write_json(loaded.home.report / "summary.json", found)
        progress.say(str(page))
    click.echo(json.dumps(found, indent=2) if as_json else show_summary(found, page))


def _score(project: Project, run: Any, progress: Progress) -> dict[str, Any]:
    """Post real rows of the test window to a fresh endpoint, or reuse what that found before."""
    from serving.replay import replay

    facts = {record["step"]: record["facts"] for record in run.records}
    feature_version = facts["features"]["feature_version"]
    key = [
        digest(run.package),
        feature_version,
        content_hash(("serving", "feature_repo", "slipway")),
    ]
    kept = project.home.serving / "replay.json"
    if kept.exists() and (before := read_json(kept))["key"] == key:
        progress.say("reused: the model, its features and the server are unchanged")
        return dict(before["score"])
    score: dict[str, Any] = replay(project, run.package, run.training_set, feature_version)
    write_json(kept, {"key": key, "score": score})
    progress.say(
        f"{score['requests']} requests, p50 {score['p50_ms']:.1f} ms; {score['metric']} online "
        f"{score['online']:.6f}, offline {score['offline']:.6f}"
    )
    return score
