"""The pods that objects make: of workloads, of custom resources, and what operators write."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class Pod:
    owner: Object
    place: str
    """Where in the owner, for example `spec.template`."""
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    replicas: int

    @property
    def name(self) -> str:
        return f"{name_of(self.owner)} {self.place}"

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec.get("containers", ())]

    @property
    def serving(self) -> bool:
        """Does it run until it is stopped?"""
        return self.owner["kind"] in LONG_RUNNING


def name_of(item: Object) -> str:
    meta = item["metadata"]
    return f"{item['kind']} {meta.get('namespace', '')}/{meta['name']}".replace(" /", " ")


def pods(objects: Sequence[Object]) -> list[Pod]:
    return [pod for item in objects for pod in _pods_of(item)]


def _pods_of(item: Object) -> Iterator[Pod]:
    kind, spec = item["kind"], item.get("spec") or {}
    if kind == "Pod":
        yield Pod(item, "spec", spec, item["metadata"].get("labels", {}), 1)
    elif kind in (*LONG_RUNNING, "ReplicaSet", "Job"):
        yield _templated(item, "spec.template", spec["template"], spec.get("replicas", 1))
    elif kind == "CronJob":
        template = spec["jobTemplate"]["spec"]["template"]
        yield _templated(item, "spec.jobTemplate.spec.template", template, 1)
    elif kind in ("RayJob", "RayCluster"):
        yield from _ray(item, spec)
    elif kind == "InferenceService":
        for part in ("predictor", "transformer", "explainer"):
            if found := spec.get(part):
                named = {"name": "kserve-container"} | found["model"] if "model" in found else None
                containers = [*([named] if named else []), *found.get("containers", ())]
                written = dict(found) | {"containers": containers}
                labels = _of_kserve(item, part) | found.get("labels", {})
                yield Pod(item, f"spec.{part}", written, labels, found.get("minReplicas", 1))
    elif kind in ("ServingRuntime", "ClusterServingRuntime"):
        yield Pod(item, "spec", spec, spec.get("labels", {}), 0)
    elif item["apiVersion"].startswith("monitoring.coreos.com/") and "image" in spec:
        yield _of_operator(item, spec)


def _of_kserve(item: Object, part: str) -> dict[str, str]:
    """The labels that KServe gives the pods of an InferenceService."""
    name = item["metadata"]["name"]
    made = {
        "app": f"isvc.{name}-{part}",
        "component": part,
        "serving.kserve.io/inferenceservice": name,
    }
    return dict(item["metadata"].get("labels", {})) | made


def _templated(item: Object, place: str, template: Object, replicas: int) -> Pod:
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(item, place, template["spec"], labels, replicas)


def _ray(item: Object, spec: Object) -> Iterator[Pod]:
    cluster = spec.get("rayClusterSpec", spec)
    groups = [("headGroupSpec", cluster.get("headGroupSpec"))]
    groups += [
        (f"workerGroupSpecs[{i}]", group)
        for i, group in enumerate(cluster.get("workerGroupSpecs", ()))
    ]
    for place, group in groups:
        if group:
            yield _templated(item, f"{place}.template", group["template"], group.get("replicas", 1))
    if template := spec.get("submitterPodTemplate"):
        yield _templated(item, "submitterPodTemplate", template, 1)


def _of_operator(item: Object, spec: Object) -> Pod:
    """Prometheus and Alertmanager: the operator writes the container, hardened, from the fields."""
    name = item["kind"].lower()
    container = {
        "name": name,
        "image": spec["image"],
        "resources": spec.get("resources", {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {},
    }
    others = [one for one in spec.get("containers", ()) if one["name"] != name]
    labels = {"app.kubernetes.io/name": name, name: item["metadata"]["name"]}
    labels |= spec.get("podMetadata", {}).get("labels", {})
    written = dict(spec) | {"containers": [container, *others]}
    return Pod(item, "spec", written, labels, spec.get("replicas", 1))
