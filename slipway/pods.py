"""Why a pod does not run, in a sentence. A pod here is what Kubernetes says of it, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What a container says while it waits, and does not overcome by itself.
STUCK = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


@dataclass(frozen=True)
class Wait:
    """What a pod waits for; `hopeless` where time alone does not help."""

    pod: str
    why: str
    hopeless: bool = False

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.why}"


def why_waiting(pod: dict[str, Any]) -> Wait | None:
    """None for a pod that runs, has ended, or is on its way without trouble."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") not in (None, "Pending", "Running"):
        return None
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Wait(name, _short(condition.get("message") or condition.get("reason", "")))
    for container in _containers(status):
        state = container.get("state", {}).get("waiting", {})
        reason = state.get("reason", "")
        if reason == "CrashLoopBackOff":
            ended = container.get("lastState", {}).get("terminated", {})
            return Wait(name, f"{container['name']} ends again and again ({_ended(ended)})", True)
        if reason in STUCK:
            image = f" {container['image']}" if "Image" in reason or "Pull" in reason else ""
            return Wait(name, f"{reason}{image}: {_short(state.get('message', ''))}", True)
    return None


def killed_for_memory(pod: dict[str, Any]) -> int:
    """How often containers of this pod were killed because they used more than their limit."""
    return sum(
        container.get("restartCount", 0) or 1
        for container in _containers(pod.get("status", {}))
        for state in (container.get("state", {}), container.get("lastState", {}))
        if state.get("terminated", {}).get("reason") == "OOMKilled"
    )


def restarts(pod: dict[str, Any]) -> int:
    """How often containers of this pod were started again."""
    return sum(item.get("restartCount", 0) for item in _containers(pod.get("status", {})))


def end_of(pod: dict[str, Any], container: str = "main") -> str:
    """What the container left as the reason of its end; empty where it left none."""
    for status in _containers(pod.get("status", {})):
        if status["name"] == container:
            return str(status.get("state", {}).get("terminated", {}).get("message", ""))
    return ""


def _containers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _ended(terminated: dict[str, Any]) -> str:
    told = _short(terminated.get("message", ""))
    return f"{terminated.get('reason', 'Error')}, code {terminated.get('exitCode', '?')}" + (
        f": {told}" if told else ""
    )


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
