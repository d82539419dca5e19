"""The model card: what a person should know before they use the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slipway.attribution import TREES, WALKS, Attribution
from slipway.contract import Contract
from slipway.contract.checks import HIGHER_IS_BETTER, METRICS

WORST_SLICES = 8
TOP_FEATURES = 10


def model_card(
    contract: Contract,
    lineage: Mapping[str, str],
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any],
    attribution: Attribution,
) -> str:
    """Markdown, made of the contract and of what training and evaluation found."""
    parts = [
        f"# {contract.name}",
        contract.description.strip(),
        _prediction(contract),
        _data(contract, lineage, training),
        _scores(contract, evaluation),
        _slices(contract, evaluation),
        _gates(evaluation),
        _importance(training),
        _explanations(attribution),
        _limits(contract),
        "## Lineage",
        _table(("what", "version"), lineage.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _prediction(contract: Contract) -> str:
    target = contract.target
    answer = {
        "binary": f"The probability that `{target.label}` is true",
        "multiclass": f"A probability for each value of `{target.label}`: "
        + ", ".join(target.classes or ()),
        "regression": f"The value of `{target.label}`",
    }[target.task]
    sent = ", ".join(f"`{name}`" for name in contract.request) or "none"
    used = dict.fromkeys(entity for view in contract.views.values() for entity in view.entities)
    return (
        f"## Prediction\n\n{answer}, as of `{target.event_timestamp}`. A request brings its "
        f"features ({sent}) and entity keys ({', '.join(f'`{name}`' for name in used) or 'none'})."
    )


def _data(contract: Contract, lineage: Mapping[str, str], training: Mapping[str, Any]) -> str:
    spans = contract.windows(contract.resolve_as_of(lineage["as_of"]))
    rows = [
        (name, _day(contract, start), _day(contract, end)) for name, (start, end) in spans.items()
    ]
    learnt = training["rows"]
    return (
        f"## Data\n\nSources: {', '.join(contract.sources)}. Features: {len(contract.request)} of "
        f"the request, {sum(len(view.features) for view in contract.views.values())} of "
        f"{len(contract.views)} views. The model learnt from {learnt['train']:,} rows and was "
        f"chosen on {learnt['validate']:,}; the test window was only looked at to score it.\n\n"
        + _table(("window", "from", "to (excluded)"), rows)
    )


def _day(contract: Contract, moment: Any) -> str:
    return str(moment.astimezone(contract.zone).strftime("%Y-%m-%d %H:%M"))


def _scores(contract: Contract, evaluation: Mapping[str, Any]) -> str:
    metrics = METRICS[contract.target.task]
    names = {"candidate": "this model", "linear": "linear baseline", "prior": "no features"}
    rows = [
        (names[model["name"]], *(_interval(model["metrics"].get(metric)) for metric in metrics))
        for model in evaluation["models"]
        if model["name"] in names
    ]
    return (
        f"## Scores\n\nOn the {evaluation['window']['rows']:,} rows of the test window, with 95 % "
        "intervals.\n\n" + _table(("model", *metrics), rows)
    )


def _interval(score: Mapping[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return "–"  # noqa: RUF001 (a dash for what does not exist)
    text = f"{score['value']:.4f}"
    if score["low"] is None or score["high"] is None:
        return text
    return f"{text} ({score['low']:.4f} to {score['high']:.4f})"


def _slices(contract: Contract, evaluation: Mapping[str, Any]) -> str:
    # By loss: a ranking metric does not exist where a slice holds one class.
    metric = "rmse" if contract.target.task == "regression" else "log_loss"
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    scored = [item for item in evaluation["slices"] if item["metrics"].get(metric) is not None]
    worst = sorted(scored, key=lambda item: (-sign * item["metrics"][metric], str(item["value"])))
    if not worst:
        return ""
    rows = [
        (f"{item['by']} = {item['value']}", f"{item['rows']:,}", f"{item['metrics'][metric]:.4f}")
        for item in worst[:WORST_SLICES]
    ]
    return f"## Where it is weakest\n\n{_table(('slice', 'rows', metric), rows)}"


def _gates(evaluation: Mapping[str, Any]) -> str:
    # How it did against the champion of the day is the registry's to tell.
    gates = [gate for gate in evaluation["gates"] if "champion" not in gate["text"]]
    rows = [
        (gate["text"], "passed" if gate["passed"] else "failed", gate["detail"]) for gate in gates
    ]
    return f"## Gates\n\n{_table(('gate', 'result', 'detail'), rows)}" if rows else ""


def _importance(training: Mapping[str, Any]) -> str:
    top = sorted(training["importance"], key=lambda item: -item["value"])[:TOP_FEATURES]
    rows = [(f"`{item['feature']}`", f"{item['value']:.4f}") for item in top]
    head = ("feature", "loss added by shuffling it")
    return f"## What it looks at\n\n{_table(head, rows)}" if rows else ""


def _explanations(attribution: Attribution) -> str:
    how = {
        TREES: "exact tree SHAP, compared with the train window's rows",
        WALKS: "permutation SHAP, compared with a few rows of the train window, which the package "
        "holds",
    }[attribution.method]
    return (
        "The model explains each answer: `:explain` tells what every feature added to it, in "
        f"{attribution.unit}, by {how}."
    )


def _limits(contract: Contract) -> str:
    lines = [
        "It knows the past of the train window. What changes afterwards shows first in drift, then "
        "in quality.",
        "A category that the train window does not hold counts as unknown.",
    ]
    needed = [name for name, item in contract.request.items() if item.on_null == "refuse"]
    if needed:
        lines.append(f"A request without {', '.join(f'`{n}`' for n in needed)} is refused.")
    for name, item in contract.request.items():
        if item.range:
            low, high = ("open" if bound is None else f"{bound:g}" for bound in item.range)
            lines.append(f"`{name}` outside {low} to {high} is refused.")
    for name, view in contract.views.items():
        if view.ttl:
            hours = view.ttl.total_seconds() / 3600
            lines.append(f"Features of `{name}` older than {hours:g} h count as missing.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
