"""The head of the page: what was run, what came of it, and the numbers that matter."""

from __future__ import annotations

from slipway.project import Project
from slipway.report.blocks import Header, Tile, Verdict
from slipway.report.evaluation import primary_metric
from slipway.report.run import Facts, Run
from slipway.report.text import (
    count,
    decimals_for,
    duration,
    fixed,
    listed,
    metric_name,
    milliseconds,
    moment,
    number,
    percent,
)


def header(run: Run, project: Project) -> Header:
    contract = project.contract
    return Header(
        "Slipway · report of a run",
        contract.name,
        contract.description,
        verdict(run),
        tuple(_facts(run, project)),
        tuple(_tiles(run, contract.target.task == "binary")),
    )


def verdict(run: Run) -> Verdict:
    """What became of the candidate, and which gates held it back."""
    register, evaluate = run.facts("register"), run.facts("evaluate")
    failed = failed_gates(evaluate)
    if register:
        version, before = register["version"], register["previous_champion"]
        if register["alias"] == "champion":
            if before == version:
                return Verdict("good", f"Version {version} is the champion, as before this run")
            told = (f"It replaces version {before}.",) if before else ("It is the first.",)
            return Verdict("good", f"Version {version} is the new champion", told)
        kept = register["champion_version"]
        stays = f"version {kept} stays champion" if kept else "there is no champion yet"
        return Verdict("hold", f"Version {version} was kept back as challenger, {stays}", failed)
    if evaluate:
        if evaluate["passed"]:
            return Verdict("hold", "Passed every gate, not registered yet")
        return Verdict("bad", "Kept back by the gates", failed)
    return Verdict("hold", "Unfinished: nothing was evaluated")


def failed_gates(evaluate: Facts | None) -> tuple[str, ...]:
    gates = evaluate["gates"] if evaluate else []
    return tuple(f"{gate['text']}: {gate['detail']}" for gate in gates if not gate["passed"])


def _facts(run: Run, project: Project) -> list[tuple[str, str]]:
    ingest, features = run.facts("ingest"), run.facts("features")
    register = run.facts("register")
    found = []
    if run.records:
        ended = max(record["ended"] for record in run.records.values())
        found.append(("Finished", f"{moment(ended, run.zone)} ({project.contract.timezone})"))
    if features:
        found.append(("As of", moment(features["as_of"], run.zone)))
    if ingest:
        found.append(("Data version", ingest["data_version"]))
    if register:
        found.append(("Code version", register["lineage"]["code_version"]))
    found.append(("Project version", project.version))
    reused = [step for step in run.records if run.reused(step)]
    if reused:
        found.append(("Reused", listed(reused)))
    return found


def _tiles(run: Run, binary: bool) -> list[Tile]:
    tiles = []
    if evaluate := run.facts("evaluate"):
        candidate = next(m for m in evaluate["models"] if m["name"] == "candidate")
        first = primary_metric(evaluate)
        second = "mae" if evaluate["task"] == "regression" else "log_loss"
        for name in dict.fromkeys((first, second)):
            if score := candidate["metrics"].get(name):
                places = decimals_for([score["value"]])
                tiles.append(
                    Tile(
                        metric_name(name),
                        fixed(score["value"], places),
                        f"{fixed(score['low'], places)} to {fixed(score['high'], places)}",
                    )
                )
    if features := run.facts("features"):
        train = features["windows"]["train"]
        mean = train["label_mean"]
        if shares := train.get("class_shares"):
            note = f"{len(shares)} classes"
        else:
            note = f"{percent(mean)} positive" if binary else f"mean label {number(mean)}"
        tiles.append(Tile("Rows to learn from", number(train["rows"]), note))
        tiles.append(
            Tile("Features", number(features["features"]), count(len(features["views"]), "view"))
        )
    if run.score:
        p99 = f"p99 {milliseconds(run.score['p99_ms'])}"
        tiles.append(Tile("Request, p50", milliseconds(run.score["p50_ms"]), p99))
    if run.records:
        tiles.append(Tile("Wall time", duration(run.wall_seconds), _ran(run)))
    return tiles


def _ran(run: Run) -> str:
    ran = sum(run.ran(step) for step in run.records)
    reused = len(run.records) - ran
    return count(ran, "step") + (f", {reused} reused" if reused else "")
