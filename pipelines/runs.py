"""What a run's details say of its steps, in the words of this repository. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.compile import STEPS

ON_CLUSTER = (*STEPS, "release")
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
ATTEMPT = re.compile(r"\(\d+\)$")
NODE = "workflows.argoproj.io/node-name"


@dataclass(frozen=True)
class StepState:
    """One step of a run: `waiting`, `running`, `done`, `reused`, `failed`."""

    name: str
    state: str
    started: datetime | None = None
    seconds: float | None = None


def steps(run: dict[str, Any]) -> list[StepState]:
    """All steps of the training pipeline, in their order.

    KFP lists the nodes of Argo: for a step `s` a pod `s-driver`, then a group `s` with the pod
    `executor`, which is skipped where the step is reused. Attempts have names of their own.
    """
    nodes = run.get("run_details", {}).get("task_details", [])
    return [_step(name, nodes) for name in ON_CLUSTER]


def _step(name: str, nodes: list[dict[str, Any]]) -> StepState:
    driver, group = (_node(nodes, wanted) for wanted in (f"{name}-driver", name))
    first = _moment(driver, "start_time") if driver else None
    if driver is None or not driver.get("state"):  # no state: left out because a step failed
        return StepState(name, "waiting")
    if driver.get("state") in ("FAILED", "ERROR"):
        return StepState(name, "failed", first, _seconds(first, driver))
    if group is None or group.get("state") not in ENDED:
        return StepState(name, "running", first, _seconds(first, None))
    if group["state"] == "SUCCEEDED":
        state = "reused" if _skipped(group, nodes) else "done"
        return StepState(name, state, first, _seconds(first, group))
    return StepState(name, "failed", first, _seconds(first, group))


def step_of(pod: dict[str, Any]) -> str:
    """The step whose own pod this is, by Argo's path of it: `RUN.root.STEP.executor(0)`; empty for
    a driver's."""
    path = pod["metadata"].get("annotations", {}).get(NODE, "").split(".")
    *_, step, last = ("", *(ATTEMPT.sub("", part) for part in path))
    return step if last == "executor" else ""


def _node(nodes: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((node for node in nodes if node.get("display_name") == name), None)


def _skipped(group: dict[str, Any], nodes: list[dict[str, Any]]) -> bool:
    """Whether the pod of this group never was. KFP does not say which node lies in which group, but
    a group and the first attempt of what lies in it begin together, and no two groups do."""
    inside = [
        node
        for node in nodes
        if ATTEMPT.sub("", node.get("display_name", "")) == "executor"
        and node.get("start_time") == group.get("start_time")
    ]
    return bool(inside) and all(node.get("state") == "SKIPPED" for node in inside)


def _seconds(first: datetime | None, last: dict[str, Any] | None) -> float | None:
    end = _moment(last, "end_time") if last else datetime.now(UTC)
    return round((end - first).total_seconds(), 1) if first and end else None


def _moment(node: dict[str, Any], key: str) -> datetime | None:
    text = node.get(key)
    if not text or text.startswith(("0001-", "1970-")):
        return None
    return datetime.fromisoformat(text)


def seconds_of(run: dict[str, Any]) -> float | None:
    """How long a run took, or has taken so far."""
    first = _moment(run, "created_at")
    return _seconds(
        first, {"end_time": run["finished_at"]} if _moment(run, "finished_at") else None
    )


def parameters_of(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run.get("runtime_config", {}).get("parameters", {})
    return {key: value for key, value in found.items() if value not in ("", None)}


def version_of(run: dict[str, Any]) -> str:
    return str(run.get("pipeline_version_reference", {}).get("pipeline_version_id", ""))
