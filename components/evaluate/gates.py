"""The contract's gates: what decides whether a candidate becomes champion."""

from __future__ import annotations

from typing import Any

from slipway.contract.checks import HIGHER_IS_BETTER
from slipway.contract.model import Gate

ABSENT = "this test window does not allow the metric"


def judge(
    gates: tuple[Gate, ...],
    metrics: dict[str, Any],
    versus: list[dict[str, Any]],
    no_champion: str,
) -> list[dict[str, Any]]:
    """`text`, `passed` and `detail` of each gate.

    `metrics` are the candidate's scores, `versus` its paired differences to the other models;
    `no_champion` says why none of them is to the champion, if so.
    """
    return [
        _versus(gate, versus, no_champion) if gate.versus else _bound(gate, metrics)
        for gate in gates
    ]


def _bound(gate: Gate, metrics: dict[str, Any]) -> dict[str, Any]:
    value = metrics.get(gate.metric, {}).get("value")
    if gate.min is not None:
        text = f"{gate.metric} at least {gate.min:g}"
        passed = value is not None and value >= gate.min
    else:
        text = f"{gate.metric} at most {gate.max:g}"
        passed = value is not None and value <= gate.max
    return {"text": text, "passed": passed, "detail": ABSENT if value is None else f"{value:.4f}"}


def _versus(gate: Gate, versus: list[dict[str, Any]], no_champion: str) -> dict[str, Any]:
    """The interval of candidate minus other must not pass the tolerance on the worse side."""
    text = f"{gate.metric} not worse than the {gate.versus} model's"
    if gate.tolerance:
        text += f" by more than {gate.tolerance:g}"
    if gate.versus == "champion" and no_champion:
        return {"text": text, "passed": True, "detail": no_champion}
    found = [v for v in versus if (v["other"], v["metric"]) == (gate.versus, gate.metric)]
    if not found:
        return {"text": text, "passed": False, "detail": ABSENT}
    low, high = found[0]["low"], found[0]["high"]
    worst = -low if gate.metric in HIGHER_IS_BETTER else high
    return {
        "text": text,
        "passed": worst <= gate.tolerance,
        "detail": f"{found[0]['difference']:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}]",
    }
