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

from components.evaluate.curves import curves
from components.evaluate.gates import judge
from components.evaluate.ledger import Ledger
from components.evaluate.models import predict
from components.evaluate.slices import known, slices, worst
from slipway.code import content_hash
from slipway.contract import Contract
from slipway.contract.checks import HIGHER_IS_BETTER, METRICS
from slipway.errors import UserError
from slipway.files import sha256, write_json
from slipway.registry import Champion, Registry
from slipway.scores import interval, resampled, scores
from slipway.step import Step

Scores = dict[str, float]
Drawn = dict[str, npt.NDArray[np.floating[Any]]]
CODE = ("slipway", "components/evaluate")


def evaluate(
    step: Step, data_version: str, training_set: Path, candidate: Path, evaluation: Path
) -> None:
    """Write `evaluation/evaluation.json`, which is also the step's facts.

    A candidate that failed a gate is a result, not an error. Raises `UserError` where the test
    window holds no row, and for a candidate that does not predict numbers.
    """
    contract = step.project.contract
    rows = training_set / "training_set.parquet"
    test = pq.read_table(rows, filters=[("window", "=", "test")])
    if not len(test):
        raise UserError(
            "The test window holds no labelled row.",
            "Move `as_of`, or widen `split.test` in the contract.",
        )
    with step.importing():
        champion = Registry(step.project).champion()
    asked = pc.min_max(test[contract.target.event_timestamp]).as_py()
    window = {"start": asked["min"].isoformat(), "end": asked["max"].isoformat()}
    ledger = Ledger(
        step.project.home.evaluations_uri,
        {"data_version": data_version, "label": contract.target.label, **window},
    )
    looked_at, against = _identity(candidate), _identity(champion.package) if champion else None
    how = _how(contract, rows)
    found = ledger.find(looked_at, against, how)
    reused = found is not None
    if found is None:
        with step.importing():
            import sklearn.linear_model  # noqa: F401 (the slowest import of what follows)
        step.say(f"looking at {len(test):,} rows of the test window")
        found = _look(step, rows, test, candidate, champion)
        ledger.add(looked_at, against, how, found)
    step.facts.update(
        found, window={**window, "rows": len(test)}, looks=ledger.looks(), reused=reused
    )
    write_json(evaluation / "evaluation.json", step.facts)
    step.say(_sentence(contract, found, reused))


def _look(
    step: Step, training_set: Path, test: pa.Table, candidate: Path, champion: Champion | None
) -> dict[str, Any]:
    contract = step.project.contract
    target = contract.target
    predictions, no_champion = predict(contract, training_set, test, candidate, champion)
    if champion and no_champion:
        step.say(no_champion)
    labels = test[target.label].to_numpy()
    plain = {name: scores(target.task, labels, found) for name, found in predictions.items()}
    drawn = resampled(
        target.task, labels, predictions, contract.evaluation.bootstrap, contract.training.seed
    )
    models = [
        {
            "name": name,
            "version": champion.version if name == "champion" and champion else None,
            "metrics": {
                metric: {"value": value, **_interval(drawn[name][metric])}
                for metric, value in plain[name].items()
                if known(value) is not None
            },
        }
        for name in predictions
    ]
    versus = [
        _difference(other, metric, plain, drawn)
        for other in predictions
        for metric in plain[other]
        if other != "candidate" and known(plain[other][metric]) is not None
    ]
    gates = judge(contract.gates, models[0]["metrics"], versus, no_champion)
    return {
        "task": target.task,
        "classes": list(target.classes or ()),
        "models": models,
        "versus": versus,
        "gates": gates,
        "passed": all(gate["passed"] for gate in gates),
        "curves": curves(target.task, len(target.classes or ()), labels, predictions),
        "slices": slices(contract, test, predictions["candidate"]),
        "worst": worst(contract, test, predictions["candidate"]),
    }


def _difference(
    other: str, metric: str, plain: dict[str, Scores], drawn: dict[str, Drawn]
) -> dict[str, Any]:
    """Candidate minus `other`, on the same resamples."""
    span = _interval(drawn["candidate"][metric] - drawn[other][metric])
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    ends = sorted(sign * end for end in span.values())
    return {
        "other": other,
        "metric": metric,
        "difference": plain["candidate"][metric] - plain[other][metric],
        **span,
        "better": True if ends[0] > 0 else False if ends[1] < 0 else None,
    }


def _interval(values: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    low, high = interval(values)
    return {"low": low, "high": high}


def _identity(folder: Path) -> str:
    """A model is its weights and its encoder, in a candidate as in a package."""
    both = sha256(folder / "model.onnx") + sha256(folder / "encoder.json")
    return hashlib.sha256(both.encode()).hexdigest()


def _how(contract: Contract, training_set: Path) -> str:
    """What else a result hangs on: rows and features, gates and resamples, and this code."""
    asked = contract.model_dump(
        mode="json", include={"gates", "evaluation", "training", "target", "timezone"}
    )
    parts = [json.dumps(asked, sort_keys=True), sha256(training_set), content_hash(CODE)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _sentence(contract: Contract, found: dict[str, Any], reused: bool) -> str:
    measured = {model["name"]: model["metrics"] for model in found["models"]}
    first = next(name for name in METRICS[contract.target.task] if name in measured["candidate"])
    told = ", ".join(f"{name} {metrics[first]['value']:.4f}" for name, metrics in measured.items())
    passed = sum(gate["passed"] for gate in found["gates"])
    again = "seen before, not looked at again: " if reused else ""
    return f"{again}{first} {told}; {passed} of {len(found['gates'])} gates passed"
