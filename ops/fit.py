"""Does it fit? What the releases request, against what the cluster has left."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ops.cluster import Cluster, Object
from slipway.errors import UserError

UNITS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}


@dataclass(frozen=True)
class Room:
    """CPU in cores, memory in bytes."""

    cpu: float = 0
    memory: float = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.cpu + other.cpu, self.memory + other.memory)

    def times(self, count: int) -> Room:
        return Room(self.cpu * count, self.memory * count)

    def __str__(self) -> str:
        return f"{self.cpu:.2f} CPU and {self.memory / 2**30:.2f} GiB"


def amount(text: str | float) -> float:
    """`250m`, `1.5`, `64Mi` as a number."""
    found = re.fullmatch(r"([0-9.]+)(m|[KMGT]i|[kMGT])?", str(text))
    if not found:
        raise ValueError(f"{text} is no quantity")
    number, unit = float(found[1]), found[2]
    return number / 1000 if unit == "m" else number * UNITS[unit] if unit else number


def of_pod(spec: Object) -> Room:
    """What the scheduler counts: the containers together, or the largest init container."""

    def room(container: Object) -> Room:
        asked = container.get("resources", {}).get("requests") or {}
        return Room(amount(asked.get("cpu", 0)), amount(asked.get("memory", 0)))

    together = sum((room(one) for one in spec.get("containers", ())), Room())
    inits = [room(one) for one in spec.get("initContainers") or ()]
    return Room(
        max([together.cpu, *(one.cpu for one in inits)]),
        max([together.memory, *(one.memory for one in inits)]),
    )


def requested(objects: Iterable[Object]) -> Room:
    """Of all workloads that stay; Jobs come and go."""
    total = Room()
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            replicas = one["spec"].get("replicas")
            total += of_pod(one["spec"]["template"]["spec"]).times(
                1 if replicas is None else replicas
            )
    return total


def check_fit(cluster: Cluster, objects: dict[str, list[Object]]) -> None:
    """Raises `UserError` where the cluster is too small even when it is empty of other work."""
    needed = requested(one for release in objects.values() for one in release)
    nodes = [node for node in cluster.get("nodes") if not node["spec"].get("unschedulable")]
    allocatable = [node["status"]["allocatable"] for node in nodes]
    there = sum((Room(amount(a["cpu"]), amount(a["memory"])) for a in allocatable), Room())
    if needed.cpu > there.cpu or needed.memory > there.memory:
        raise UserError(
            f"the platform requests {needed}, and the cluster has {there}.",
            "Add nodes, give the cluster's machine more, or choose a smaller profile.",
        )
