"""The contract's gates: what decides whether a candidate becomes champion."""

from __future__ import annotations

from typing import Any

from slipway.contract.checks import HIGHER_IS_BETTER
from slipway.contract.model import Gate


def judge(
    gates: tuple[Gate, ...], models: list[dict[str, Any]], versus: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`text`, `passed` and `detail` of each gate, from the scores and the paired differences."""
    candidate = next(model for model in models if model["name"] == "candidate")
    return [
        _versus(gate, versus) if gate.versus else _bound(gate, candidate["metrics"])
        for gate in gates
    ]


def _bound(gate: Gate, metrics: dict[str, Any]) -> dict[str, Any]:
    value = metrics[gate.metric]["value"]
    low, high = gate.min, gate.max
    text = (
        f"{gate.metric} at least {low:g}" if low is not None else f"{gate.metric} at most {high:g}"
    )
    if value is None:
        return {"text": text, "passed": False, "detail": "it does not exist on this test window"}
    passed = value >= low if low is not None else value <= high  # type: ignore[operator]
    return {"text": text, "passed": bool(passed), "detail": f"{value:.4f}"}


def _versus(gate: Gate, versus: list[dict[str, Any]]) -> dict[str, Any]:
    text = f"{gate.metric} not worse than the {gate.versus} model's"
    if gate.tolerance:
        text += f" by more than {gate.tolerance:g}"
    found = [v for v in versus if v["other"] == gate.versus and v["metric"] == gate.metric]
    if not found:
        return {"text": text, "passed": True, "detail": f"there is no {gate.versus} yet"}
    low, high = found[0]["low"], found[0]["high"]
    if low is None:
        return {"text": text, "passed": False, "detail": "it does not exist on this test window"}
    worst = -low if gate.metric in HIGHER_IS_BETTER else high
    return {
        "text": text,
        "passed": bool(worst <= gate.tolerance),
        "detail": f"{found[0]['difference']:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}]",
    }
