"""Sections on what came of the run: serving, lineage, and where the time went."""

from __future__ import annotations

from slipway.report.blocks import (
    Block,
    Box,
    Figure,
    Figures,
    Key,
    Lineage,
    Note,
    Section,
    Tile,
    Tiles,
)
from slipway.report.figures import Json, axis, rows_frame
from slipway.report.run import Run
from slipway.report.text import (
    count,
    duration,
    fixed,
    metric_name,
    milliseconds,
    moment,
    number,
    short,
)

SLOW_START = 5.0
"""Seconds of start-up and imports from which a step owes a reason."""
START_REASONS = {
    "validate": "Great Expectations imports pandas, scipy and its whole plug-in registry.",
    "features": "Feast imports every provider and store that it knows.",
    "train": "Torch loads its libraries (a CUDA build some gigabytes of them), and Ray starts its "
    "own processes.",
    "evaluate": "scikit-learn with scipy, and ONNX Runtime.",
    "register": "MLflow imports its server and migrates the database of a new store.",
}
PHASES = (("startup", "@phase-1"), ("imports", "@phase-2"), ("work", "@phase-3"))


def serving_section(run: Run) -> Section:
    score = run.score
    if not score:
        note = Note("No request was sent to the served model in this run.", "muted")
        return Section("serving", "Serving", "", [note])
    metric = score["metric"]
    name = metric_name(metric)
    online, offline = score["online"], score["offline"]
    lead = (
        f"{count(score['rows'], 'row')} of the test window asked of the running endpoint by their "
        f"entity keys, in {count(score['requests'], 'request')} ({score['protocol']})."
    )
    tiles = [
        Tile(f"{name} online", fixed(online, 6)),
        Tile(f"{name} offline", fixed(offline, 6), "on the same rows"),
        Tile("Largest difference", number(score["largest_difference"], 2), "of one prediction"),
        Tile("p50", milliseconds(score["p50_ms"]), "half of the requests are faster"),
        Tile("p99", milliseconds(score["p99_ms"]), "99 of 100 are faster"),
    ]
    blocks: list[Block] = [Tiles(tiles)]
    if abs(score["difference"]) <= SAME:
        text = f"✓ Training and serving agree: the {name} differs by {_tiny(score['difference'])}."
        blocks.append(Note(text, "good"))
    else:
        text = (
            f"✗ Training and serving disagree: the {name} differs by {_tiny(score['difference'])}."
        )
        blocks.append(Note(text, "bad"))
    if score["missing"]:
        blocks.append(
            Note(f"{count(score['missing'], 'look-up')} of an entity unknown to its view.", "hold")
        )
    return Section("serving", "Serving", lead, blocks)


SAME = 1e-6
"""The difference of a metric up to which online and offline count as one."""


def _tiny(value: float) -> str:
    return "nothing" if value == 0 else number(abs(value), 3)


def lineage_section(run: Run) -> Section:
    ingest, features = run.facts("ingest"), run.facts("features")
    train, register = run.facts("train"), run.facts("register")
    boxes = []
    if ingest:
        names = [source["name"] for source in ingest["sources"]]
        rest = [f"and {len(names) - 4} more"] if len(names) > 4 else []
        boxes.append(
            Box("Sources", count(len(names), "table"), (*(short(n, 24) for n in names[:4]), *rest))
        )
        rows = sum(source["rows"] for source in ingest["sources"])
        boxes.append(Box("Data version", ingest["data_version"], (count(rows, "row"),)))
    if features:
        boxes.append(
            Box(
                "Feature version",
                features["feature_version"],
                (count(features["features"], "feature"), moment(features["as_of"], run.zone)),
            )
        )
    if train:
        code = (f"code {register['lineage']['code_version']}",) if register else ()
        boxes.append(Box("Training", train["engine"], (f"seed {train['seed']}", *code)))
    if register:
        boxes.append(
            Box(
                "Model",
                f"{register['model']} v{register['version']}",
                (f"package {register['digest'][:12]}", f"alias {register['alias']}"),
            )
        )
    if not boxes:
        return Section("lineage", "Lineage", "", [Note("Nothing was recorded.", "muted")])
    lead = "Every box is named by its content: the same name is the same thing."
    return Section("lineage", "Lineage", lead, [Lineage(boxes)])


def time_section(run: Run) -> Section:
    steps = list(run.records)
    if not steps:
        return Section("time", "Time", "", [Note("No step was recorded.", "muted")])
    seconds = {step: run.records[step]["seconds"] for step in steps}
    labels = [step if run.ran(step) else f"{step} (reused)" for step in steps]
    data: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [seconds[step][phase] for step in steps],
            "y": list(range(len(steps))),
            "marker": {
                "color": color,
                "opacity": [1 if run.ran(step) else 0.25 for step in steps],
            },
            "hovertext": [
                f"{label}<br>{phase} {duration(seconds[step][phase])}<br>"
                f"together {duration(sum(seconds[step].values()))}"
                for step, label in zip(steps, labels, strict=True)
            ],
            "hoverinfo": "text",
            "textposition": "none",
        }
        for phase, color in PHASES
    ]
    totals = [sum(seconds[step].values()) for step in steps]
    data.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": totals,
            "y": list(range(len(steps))),
            "text": [f" {duration(total)}" for total in totals],
            "textposition": "middle right",
            "hoverinfo": "skip",
            "cliponaxis": False,
        }
    )
    figure = Figure(
        "time",
        "Seconds of each step",
        data,
        rows_frame(
            labels,
            30,
            barmode="stack",
            barcornerradius=0,
            xaxis=axis("seconds", nticks=8, range=[0, max(totals) * 1.12 or 1]),
        ),
        note="A reused step is faint: it took this long when it ran." if _any_reused(run) else "",
        legend=tuple(Key(phase, color, "box") for phase, color in PHASES),
    )
    return Section("time", "Time", _time_lead(run), [Figures([figure]), *_reasons(run)])


def _any_reused(run: Run) -> bool:
    return any(not run.ran(step) for step in run.records)


def _time_lead(run: Run) -> str:
    ran = [run.records[step]["seconds"] for step in run.records if run.ran(step)]
    if not ran:
        return "Every step was reused: nothing had changed."
    start = sum(item["startup"] + item["imports"] for item in ran)
    work = sum(item["work"] for item in ran)
    lead = f"{duration(work)} of work, {duration(start)} of start-up and imports"
    if run.seconds is not None:
        lead += f", {duration(max(run.seconds - work - start, 0))} of the runner itself"
    return f"{lead}."


def _reasons(run: Run) -> list[Block]:
    notes: list[Block] = []
    for step in run.records:
        seconds = run.records[step]["seconds"]
        start = seconds["startup"] + seconds["imports"]
        if run.ran(step) and start > SLOW_START:
            reason = START_REASONS.get(step)
            told = f"{step} takes {duration(start)} to start: "
            if reason:
                notes.append(Note(told + reason))
            else:
                notes.append(Note(f"{told}no reason is known, which is worth a look.", "hold"))
    return notes
