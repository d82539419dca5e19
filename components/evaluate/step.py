"""Evaluate: the candidate, the champion and the baselines on the test window, once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.evaluate import baselines
from components.evaluate.curves import curves, histogram
from components.evaluate.gates import judge
from components.evaluate.ledger import Ledger
from components.evaluate.slices import known, slices, worst
from slipway.code import content_hash
from slipway.contract import Contract
from slipway.contract.checks import HIGHER_IS_BETTER, METRICS
from slipway.errors import UserError
from slipway.files import new_folder, sha256, write_json
from slipway.package import Model
from slipway.registry import Champion, Registry
from slipway.scores import Scores, interval, resampled, scores
from slipway.step import Step

Floats = npt.NDArray[np.float32]


def evaluate(
    step: Step, data_version: str, training_set: Path, candidate: Path, evaluation: Path
) -> None:
    """Write `evaluation/evaluation.json`, which is also the step's facts.

    A candidate that failed a gate is a result, not an error. Raises `UserError` where the test
    window holds no row.
    """
    contract = step.project.contract
    with step.importing():
        registry = Registry(step.project)
        champion = registry.champion()
        import sklearn.linear_model  # noqa: F401

    rows = pq.read_table(training_set / "training_set.parquet")
    test = rows.filter(pc.equal(rows["window"], "test"))
    if not len(test):
        raise UserError(
            "the test window holds no labelled row.",
            "Move `as_of`, or widen `split.test` in the contract.",
        )
    moments = pc.min_max(test[contract.target.event_timestamp]).as_py()
    window = {
        "data_version": data_version,
        "label": contract.target.label,
        "start": moments["min"].isoformat(),
        "end": moments["max"].isoformat(),
    }
    ledger = Ledger(step.project.home.evaluations, window)
    looked_at, against = _identity(candidate), _identity(champion.package) if champion else None
    how = _how(contract, training_set)
    found = ledger.find(looked_at, against, how)
    reused = found is not None
    if found is None:
        step.say(f"looking at {len(test):,} rows of the test window")
        found = _look(contract, rows, test, candidate, champion)
        ledger.add(looked_at, against, how, found)
    window_facts = {"start": window["start"], "end": window["end"], "rows": len(test)}
    step.facts.update(found, window=window_facts, looks=ledger.looks(), reused=reused)
    with new_folder(evaluation) as folder:
        write_json(folder / "evaluation.json", step.facts)
    step.say(_sentence(contract, found, reused))


def _look(
    contract: Contract,
    rows: pa.Table,
    test: pa.Table,
    candidate: Path,
    champion: Champion | None,
) -> dict[str, Any]:
    target = contract.target
    task, classes = target.task, len(target.classes or ())
    model = Model.load(candidate)
    train = rows.filter(pc.equal(rows["window"], "train"))
    labels = test[target.label].to_numpy()
    learnt = train[target.label].to_numpy()
    encoded = model.encoder.encode(test)
    predictions: dict[str, Floats] = {
        "candidate": model.predict_encoded(encoded),
        "prior": baselines.prior(task, classes, learnt, len(test)),
        "linear": baselines.linear(
            task, model.encoder, model.encoder.encode(train), learnt, encoded
        ),
    }
    if champion:
        predictions["champion"] = _ask(champion, test)
    drawn = resampled(
        task, labels, predictions, contract.evaluation.bootstrap, contract.training.seed
    )
    plain = {name: scores(task, labels, predicted) for name, predicted in predictions.items()}
    models = [
        {
            "name": name,
            "version": champion.version if name == "champion" and champion else None,
            "metrics": {
                metric: {"value": _known(plain[name][metric]), **_interval(drawn[name][metric])}
                for metric in METRICS[task]
            },
        }
        for name in predictions
    ]
    versus = _versus(task, plain, drawn)
    gates = judge(contract.gates, models, versus)
    shown = predictions["candidate"]
    return {
        "task": task,
        "classes": list(target.classes or ()),
        "models": models,
        "versus": versus,
        "gates": gates,
        "passed": all(gate["passed"] for gate in gates),
        "curves": curves(task, classes, labels, predictions),
        "histogram": histogram(shown.max(1) if task == "multiclass" else shown),
        "slices": slices(contract, test, shown),
        "worst": worst(contract, test, shown),
    }


def _ask(champion: Champion, test: pa.Table) -> Floats:
    """The champion's predictions, from its own encoder and signature."""
    model = Model.load(champion.package)
    lacking = [f.name for f in model.encoder.features if f.name not in test.column_names]
    if lacking:
        raise UserError(
            f"champion version {champion.version} needs {', '.join(lacking)}, which the contract "
            "no longer has, so nothing can be compared with it.",
            "Keep these features for one more model, or remove the alias `champion`.",
        )
    return model.predict(test)


def _versus(
    task: str, plain: dict[str, dict[str, float]], drawn: dict[str, Scores]
) -> list[dict[str, Any]]:
    """The candidate's scores minus each other model's, on the same resamples."""
    found = []
    for other in plain:
        if other == "candidate":
            continue
        for metric in METRICS[task]:
            low, high = interval(drawn["candidate"][metric] - drawn[other][metric])
            sign = 1 if metric in HIGHER_IS_BETTER else -1
            better = None
            if min(sign * low, sign * high) > 0:
                better = True
            elif max(sign * low, sign * high) < 0:
                better = False
            found.append(
                {
                    "other": other,
                    "metric": metric,
                    "difference": _known(plain["candidate"][metric] - plain[other][metric]),
                    "low": _known(low),
                    "high": _known(high),
                    "better": better,
                }
            )
    return found


def _interval(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    low, high = interval(values)
    return {"low": _known(low), "high": _known(high)}


def _known(value: float) -> float | None:
    return known({"": value})[""]


def _identity(folder: Path) -> str:
    """A model is its weights and its encoder, in a candidate as in a package."""
    both = sha256(folder / "model.onnx") + sha256(folder / "encoder.json")
    return hashlib.sha256(both.encode()).hexdigest()


def _how(contract: Contract, training_set: Path) -> str:
    """What else a result hangs on: rows and features, gates and resamples, and this code."""
    asked = contract.model_dump(mode="json", include={"gates", "evaluation", "training", "target"})
    parts = [
        json.dumps(asked, sort_keys=True),
        sha256(training_set / "training_set.parquet"),
        content_hash(("components/evaluate",)),
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _sentence(contract: Contract, found: dict[str, Any], reused: bool) -> str:
    first = METRICS[contract.target.task][0]
    values = {model["name"]: model["metrics"][first]["value"] for model in found["models"]}
    told = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
    passed = sum(gate["passed"] for gate in found["gates"])
    again = "seen before, not looked at again: " if reused else ""
    return f"{again}{first} {told}; {passed} of {len(found['gates'])} gates passed"
