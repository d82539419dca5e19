"""`make release-charts VERSION=…`: what a release's charts render, kept in previous/ for upgrades.

An upgrade that changes a field which Kubernetes lets nobody change fails half-way, so each release
keeps these fields of every profile, and tests compare the present charts with the newest of them.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.charts.pods import Object
from tests.charts.render import command, load, managed, profiles, releases, render

FOLDER = Path(__file__).parent / "previous"
# Paths that the API server refuses to change, or that move data or addresses.
FIXED = {
    "Deployment": ("spec.selector",),
    "DaemonSet": ("spec.selector",),
    "ReplicaSet": ("spec.selector",),
    "StatefulSet": (
        "spec.selector",
        "spec.serviceName",
        "spec.podManagementPolicy",
        "spec.volumeClaimTemplates",
    ),
    "Job": ("spec.template", "spec.selector", "spec.completionMode"),
    "Service": ("spec.clusterIP",),
    "PersistentVolumeClaim": (
        "spec.accessModes",
        "spec.storageClassName",
        "spec.volumeName",
        "spec.volumeMode",
    ),
    "StorageClass": ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "PriorityClass": ("value", "preemptionPolicy"),
    "CustomResourceDefinition": ("spec.group", "spec.names", "spec.scope"),
}
KEPT = ("StatefulSet", "PersistentVolumeClaim", "CustomResourceDefinition", "Namespace")
"""To lose one of these with an upgrade is to lose data."""
CLAIM = ("metadata.name", "spec.accessModes", "spec.storageClassName", "spec.resources")


def fixed(objects: Sequence[Object], namespace: str) -> dict[str, dict[str, Any]]:
    """What an upgrade must leave alone, by object; hooks are made anew each time."""
    found = {}
    for item in objects:
        meta = item["metadata"]
        if "helm.sh/hook" in (meta.get("annotations") or {}):
            continue
        fields = {path: _at(item, path) for path in FIXED.get(item["kind"], ())}
        if "spec.volumeClaimTemplates" in fields:
            fields["spec.volumeClaimTemplates"] = [
                {path: _at(claim, path) for path in CLAIM}
                for claim in fields["spec.volumeClaimTemplates"] or ()
            ]
        if fields or item["kind"] in KEPT:
            where = meta.get("namespace", namespace)
            found[f"{item['kind']} {where}/{meta['name']}"] = fields
    return found


def _at(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, Mapping) else None
    return item


def broken(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What an upgrade from one to the other would fail at, or lose."""
    for name, fields in old.items():
        if name not in new:
            if name.split()[0] in KEPT:
                yield f"{name} is gone, and what it holds with it"
            continue
        for path, value in fields.items():
            if new[name].get(path) != value:
                yield f"{name}: {path} was {value} and is {new[name].get(path)}"


def of_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Of our own charts: others keep their promises, or say so in their notes."""
    return {
        release: fixed(render(release, profile), releases()[release]["namespace"])
        for release in managed(profile)
        if "chart" in releases()[release]
    }


def newest() -> Path | None:
    """What the last release rendered."""

    def version(path: Path) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", path.stem)]

    return max(FOLDER.glob("*.yaml"), key=version, default=None)


def previous() -> dict[str, dict[str, dict[str, Any]]]:
    path = newest()
    return load(path) if path else {}


def main(version: str) -> int:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        print(f"release-charts: VERSION is '{version}', give one such as 0.1.0", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    kept = {profile: of_profile(profile) for profile in profiles()}
    head = f"# What {version} renders that an upgrade must leave alone: `make release-charts`.\n"
    (FOLDER / f"{version}.yaml").write_text(head + yaml.safe_dump(kept, width=120))
    return 0


if __name__ == "__main__":
    command("release-charts", main)
