"""`make budget`: what each profile asks of a cluster, as a table in charts/README.md.

Counted are the pods that stay, one of each DaemonSet, and one model with the profile's values: what
the scheduler reserves when nothing runs. Jobs, steps and Ray come and go on top.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ops.fit import Room, amount, of_pod
from tests.charts import rules
from tests.charts.pods import Object, Pod, pods
from tests.charts.render import (
    CHARTS,
    REGISTRY,
    TAG,
    command,
    managed,
    merged,
    profiles,
    render,
    template,
)

PAGE = CHARTS / "README.md"
TABLE = re.compile(r"(<!-- made by `make budget` -->\n).*?(<!-- until here -->)", re.S)
OPERATED = ("Prometheus", "Alertmanager", "InferenceService")


@dataclass(frozen=True)
class Sum:
    cpu: float = 0
    memory: float = 0
    limit: float = 0
    volumes: float = 0
    pods: int = 0
    images: frozenset[str] = frozenset()
    """Names, also of those that controllers start only when they are asked to."""

    def __add__(self, other: "Sum") -> "Sum":
        counted = [field.name for field in fields(self) if field.name != "images"]
        added = {name: getattr(self, name) + getattr(other, name) for name in counted}
        return Sum(**added, images=self.images | other.images)


def of(objects: Sequence[Object], reloader: Object | None = None) -> Sum:
    """What these objects ask for; `reloader` is what the operator puts beside Prometheus."""
    total = Sum(images=frozenset(rules.parts(image)[0] for image in rules.images(objects)))
    for pod in pods(objects):
        if pod.serving or pod.owner["kind"] in OPERATED:
            total += _of_pod(pod, reloader)
    claims = (item["spec"] for item in objects if item["kind"] == "PersistentVolumeClaim")
    return total + Sum(volumes=sum(_storage(claim) for claim in claims))


def _of_pod(pod: Pod, reloader: Object | None) -> Sum:
    spec, owner = pod.spec, pod.owner["spec"]
    if reloader and pod.owner["kind"] in ("Prometheus", "Alertmanager"):
        spec = dict(spec) | {"containers": [*spec["containers"], reloader]}
    room: Room = of_pod(spec)
    limits = ((one.get("resources") or {}).get("limits") or {} for one in spec["containers"])
    claims = [claim["spec"] for claim in owner.get("volumeClaimTemplates") or ()]
    stored = (owner.get("storage") or {}) if isinstance(owner.get("storage"), dict) else {}
    if "volumeClaimTemplate" in stored:
        claims.append(stored["volumeClaimTemplate"]["spec"])
    return Sum(
        cpu=room.cpu * pod.replicas,
        memory=room.memory * pod.replicas,
        limit=sum(amount(one.get("memory", 0)) for one in limits) * pod.replicas,
        volumes=sum(_storage(claim) for claim in claims) * pod.replicas,
        pods=pod.replicas,
    )


def _storage(claim: Object) -> float:
    return float(amount(claim["resources"]["requests"]["storage"]))


def of_profile(profile: str) -> dict[str, Sum]:
    """By release; the model is called so."""
    rendered = {release: render(release, profile) for release in managed(profile)}
    reloader = _reloader(rendered.get("prometheus-operator", ()))
    sums = {release: of(objects, reloader) for release, objects in rendered.items()}
    return sums | {"one model": of(a_model(profile))}


def a_model(profile: str) -> list[dict[str, Any]]:
    """As the release step installs one."""
    [steps] = (
        item
        for item in render("kfp", profile)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"] == "slipway-steps"
    )
    values = json.loads(steps["data"]["SLIPWAY_MODEL_VALUES"])
    own = {
        "server": {"image": {"repository": f"{REGISTRY}/serve", "tag": TAG}},
        "versions": [{"version": "1", "storageUri": "s3://mlflow/artifacts/1", "weight": 100}],
    }
    return template("model", merged(values, own), namespace="models")


def _reloader(objects: Sequence[Object]) -> Object:
    """The container beside Prometheus, from the operator's arguments."""
    found = dict(_arguments(objects))

    def of_kind(kind: str) -> dict[str, str]:
        names = {"cpu": f"config-reloader-cpu-{kind}", "memory": f"config-reloader-memory-{kind}"}
        return {key: found[name] for key, name in names.items() if found.get(name, "0") != "0"}

    return {"resources": {"requests": of_kind("request"), "limits": of_kind("limit")}}


def _arguments(objects: Sequence[Object]) -> Iterator[tuple[str, str]]:
    for pod in pods(objects):
        for container in pod.containers:
            for argument in container.get("args") or ():
                name, _, value = argument.removeprefix("--").partition("=")
                yield name, value


def table() -> str:
    head = "| {} | CPU requested | memory requested | memory limit | volumes | pods | images |"
    rows = [head.format("profile"), "| --- | --- | --- | --- | --- | --- | --- |"]
    details = []
    for profile in profiles():
        parts = of_profile(profile)
        rows.append(_row(f"**{profile}**", sum(parts.values(), Sum())))
        details += ["", f"<details><summary>{profile}, by release</summary>", ""]
        details += [head.format("release"), "| --- | --- | --- | --- | --- | --- | --- |"]
        details += [_row(name, part) for name, part in parts.items() if part.pods]
        details += ["", "</details>"]
    return "\n".join([*rows, *details]) + "\n"


def _row(name: str, part: Sum) -> str:
    memory, limit = part.memory / 2**20, part.limit / 2**20
    volumes = f"{part.volumes / 2**30:.0f} Gi" if part.volumes else "none"
    return (
        f"| {name} | {part.cpu * 1000:.0f}m | {memory:.0f} Mi | {limit:.0f} Mi | {volumes} "
        f"| {part.pods} | {len(part.images)} |"
    )


def main() -> int:
    page = PAGE.read_text()
    if not TABLE.search(page):
        print(f"budget: {PAGE} has no place for the table", file=sys.stderr)
        return 2
    PAGE.write_text(TABLE.sub(lambda found: found[1] + table() + found[2], page))
    return 0


if __name__ == "__main__":
    command("budget", main)
