"""What runs, in which version, and what is unhealthy and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ops import helm
from ops.cluster import Cluster, ClusterError, Object
from ops.health import KINDS, Problem, one_line, problems
from ops.platform import Values

FULL = 0.85
"""Share of a volume from which on it is told."""
SINCE = timedelta(hours=24)
"""Failed runs that are older are history."""


@dataclass(frozen=True)
class Status:
    """One look at a deployment."""

    releases: list[dict[str, Any]]
    problems: list[Problem]

    @property
    def healthy(self) -> bool:
        return all(problem.warning for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "releases": self.releases,
            "problems": [problem.as_json() for problem in self.problems],
        }


def look(cluster: Cluster, platform: Values) -> Status:
    """`platform` is what the last deploy recorded."""
    namespaces = {one["namespace"] for one in platform["releases"]} | {"models", "slipway-system"}
    with ThreadPoolExecutor() as pool:
        releases = pool.submit(helm.releases, cluster)
        objects = pool.submit(cluster.get, KINDS)
        services = pool.submit(_known, cluster, "inferenceservices.serving.kserve.io")
        workflows = pool.submit(_known, cluster, "workflows.argoproj.io")
        usage = pool.submit(lambda: list(full_volumes(cluster)))
    ours = [
        one
        for one in [*objects.result(), *services.result()]
        if one["kind"] == "Node" or one["metadata"].get("namespace") in namespaces
    ]
    installed = [one for one in releases.result() if one["namespace"] in namespaces]
    found = [
        *missing(platform, releases.result()),
        *problems(ours, cluster.last_line),
        *(one for one in usage.result() if one.namespace in namespaces),
        *failed_runs(workflows.result(), datetime.now(UTC)),
    ]
    kept = ("name", "namespace", "chart", "app_version", "status", "revision", "updated")
    return Status([{key: one[key] for key in kept} for one in installed], found)


def _known(cluster: Cluster, crd: str) -> list[Object]:
    return cluster.get(crd) if cluster.knows(crd) else []


def missing(platform: Values, installed: list[dict[str, Any]]) -> Iterator[Problem]:
    """Releases that were deployed and are not whole."""
    by_name = {(one["name"], one["namespace"]): one for one in installed}
    for one in platform["releases"]:
        release = by_name.get((one["name"], one["namespace"]))
        status = release["status"] if release else "not installed"
        if status != "deployed":
            yield Problem(
                "release",
                one["namespace"],
                one["name"],
                f"is {status}.",
                "Run `make deploy` again.",
            )


def full_volumes(cluster: Cluster) -> Iterator[Problem]:
    """Volumes that fill up, as the nodes see them."""
    for node in cluster.get("nodes"):
        name = node["metadata"]["name"]
        try:
            summary = json.loads(
                cluster.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/stats/summary")
            )
        except ClusterError:
            continue  # no right to ask nodes, or the node is away: which is a problem of its own
        for pod in summary.get("pods", []):
            for volume in pod.get("volume", []):
                claim, capacity = volume.get("pvcRef"), volume.get("capacityBytes")
                if not claim or not capacity:
                    continue
                share = 1 - volume.get("availableBytes", 0) / capacity
                if share >= FULL:
                    yield Problem(
                        "volume",
                        claim["namespace"],
                        claim["name"],
                        f"is {share:.0%} full of {capacity / 2**30:.1f} GiB.",
                        "Enlarge its claim, or free space: docs/operations.md#a-volume-fills-up.",
                        warning=share < 0.95,
                    )


def failed_runs(workflows: list[Object], now: datetime) -> Iterator[Problem]:
    """Runs of the last day that failed; a warning, because the platform did its part."""
    for one in workflows:
        status = one.get("status", {})
        ended = status.get("finishedAt")
        if status.get("phase") not in ("Failed", "Error") or not ended:
            continue
        if now - datetime.fromisoformat(ended) > SINCE:
            continue
        meta = one["metadata"]
        name = meta.get("annotations", {}).get("pipelines.kubeflow.org/run_name") or meta["name"]
        yield Problem(
            "run",
            meta["namespace"],
            name,
            f"failed: {_reason(status)}",
            f"`slipway runs show {meta.get('labels', {}).get('pipeline/runid', meta['name'])}`",
            warning=True,
        )


def _reason(status: Object) -> str:
    """The first step that failed, rather than "child failed"."""
    nodes = sorted(
        (
            node
            for node in status.get("nodes", {}).values()
            if node.get("phase") in ("Failed", "Error") and node.get("type") == "Pod"
        ),
        key=lambda node: node.get("finishedAt") or "",
    )
    text = str(nodes[0].get("message", "") if nodes else status.get("message", "no reason given"))
    if said := re.search(r'"step": "([^"]+)", "message": ("(?:[^"\\]|\\.)*")', text):
        return f"{said[1]}: {one_line(json.loads(said[2]))}"
    return one_line(text)
