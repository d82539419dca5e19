"""Rules for rendered objects. Each gives a sentence for each thing that breaks it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.charts.pods import LONG_RUNNING, Object, name_of, pods

CAPABILITIES = {"NET_BIND_SERVICE"}
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def restricted(objects: Sequence[Object]) -> Iterator[str]:
    """The Pod Security Standard `restricted`, and a read-only root file system."""
    for pod in pods(objects):
        spec = pod.spec
        above = spec.get("securityContext") or {}
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield f"{pod.name}: {field}"
        for volume in spec.get("volumes") or ():
            if kinds := set(volume) - {"name"} - VOLUMES:
                yield f"{pod.name}: volume {volume['name']} is a {', '.join(kinds)}"
        for container in pod.containers:
            own = container.get("securityContext") or {}
            at = f"{pod.name}: container {container['name']}"
            if not (own.get("runAsNonRoot", above.get("runAsNonRoot"))):
                yield f"{at}: runAsNonRoot is not true"
            if own.get("runAsUser", above.get("runAsUser")) == 0:
                yield f"{at}: runAsUser is 0"
            profile = (own.get("seccompProfile") or above.get("seccompProfile") or {}).get("type")
            if profile not in ("RuntimeDefault", "Localhost"):
                yield f"{at}: seccompProfile is {profile}"
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{at}: allowPrivilegeEscalation is not false"
            if own.get("privileged"):
                yield f"{at}: privileged"
            caps = own.get("capabilities") or {}
            if "ALL" not in (caps.get("drop") or ()):
                yield f"{at}: capabilities are not dropped"
            if more := set(caps.get("add") or ()) - CAPABILITIES:
                yield f"{at}: capabilities {', '.join(more)} are added"
            if not own.get("readOnlyRootFilesystem"):
                yield f"{at}: readOnlyRootFilesystem is not true"
            for port in container.get("ports") or ():
                if port.get("hostPort"):
                    yield f"{at}: hostPort {port['hostPort']}"


def bounded(objects: Sequence[Object]) -> Iterator[str]:
    """Requests of CPU and memory and a limit of memory for every container."""
    for pod in pods(objects):
        for container in pod.containers:
            resources = container.get("resources") or {}
            for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
                if not (resources.get(kind) or {}).get(name):
                    yield f"{pod.name}: container {container['name']} has no {kind}.{name}"


CHANGING = ("helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by")


def selected(objects: Sequence[Object]) -> Iterator[str]:
    """Selectors find their pods, by labels that no upgrade changes."""
    found = pods(objects)
    for item in objects:
        kind, spec = item["kind"], item.get("spec") or {}
        if kind in LONG_RUNNING:
            labels = (spec.get("selector") or {}).get("matchLabels") or {}
            own = spec["template"].get("metadata", {}).get("labels") or {}
            if not labels:
                yield f"{name_of(item)}: no selector"
            if not labels.items() <= own.items():
                yield f"{name_of(item)}: its selector does not match its own pods"
            if changing := set(labels) & set(CHANGING):
                yield f"{name_of(item)}: its selector holds {', '.join(changing)}, which changes"
        elif kind == "Service" and spec.get("selector"):
            yield from _finds(item, spec["selector"], found)
            yield from _targets(item, found)
        elif kind == "PodDisruptionBudget":
            yield from _finds(item, (spec.get("selector") or {}).get("matchLabels") or {}, found)
        elif kind == "HorizontalPodAutoscaler":
            yield from _scales(item, objects)
    yield from _mounts(objects)


def _finds(item: Object, labels: Mapping[str, str], found: Sequence[Any]) -> Iterator[str]:
    if any(key.startswith("ray.io/") for key in labels):
        return  # of pods that steps make later
    if not any(_matches(item, labels, pod) for pod in found):
        yield f"{name_of(item)}: its selector {dict(labels)} finds no pod"


def _matches(item: Object, labels: Mapping[str, str], pod: Any) -> bool:
    same = item["metadata"].get("namespace") == pod.owner["metadata"].get("namespace")
    return same and labels.items() <= pod.labels.items()


def _targets(item: Object, found: Sequence[Any]) -> Iterator[str]:
    """Ports of a Service lead to ports that the pods name."""
    spec = item["spec"]
    for pod in found:
        # The operator's own containers are not rendered.
        if not _matches(item, spec["selector"], pod) or pod.owner["kind"] not in LONG_RUNNING:
            continue
        ports = [port for container in pod.containers for port in container.get("ports") or ()]
        names = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
        for port in spec["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in names:
                yield f"{name_of(item)}: port {target} is none of {pod.name}"


def _scales(item: Object, objects: Sequence[Object]) -> Iterator[str]:
    target = item["spec"]["scaleTargetRef"]
    known = {(one["kind"], one["metadata"]["name"]) for one in objects}
    if target["kind"] in LONG_RUNNING and (target["kind"], target["name"]) not in known:
        yield f"{name_of(item)}: scales {target['name']}, which is not there"


def _mounts(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        volumes = {volume["name"] for volume in pod.spec.get("volumes") or ()}
        claims = (pod.owner.get("spec") or {}).get("volumeClaimTemplates") or ()
        volumes |= {claim["metadata"]["name"] for claim in claims}
        if pod.owner["kind"] not in (*LONG_RUNNING, "Job", "CronJob", "Pod"):
            continue
        for container in pod.containers:
            for mount in container.get("volumeMounts") or ():
                if mount["name"] not in volumes:
                    at = f"{pod.name}: container {container['name']}"
                    yield f"{at} mounts {mount['name']}, which is no volume"


def probed(objects: Sequence[Object]) -> Iterator[str]:
    """Readiness for what listens; probes that reach a port; none that kills what is only slow."""
    for pod in pods(objects):
        if not pod.serving:
            continue
        for container in pod.spec["containers"]:
            at = f"{pod.name}: container {container['name']}"
            ports = container.get("ports") or ()
            names = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
            if ports and "readinessProbe" not in container:
                yield f"{at} listens and has no readinessProbe"
            for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
                probe = container.get(kind)
                if not probe:
                    continue
                for way in ("httpGet", "tcpSocket", "grpc"):
                    if way in probe and probe[way]["port"] not in names:
                        yield f"{at}: {kind} asks port {probe[way]['port']}, which it does not name"
                slow = probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10)
                if slow and kind != "startupProbe":
                    yield f"{at}: {kind} waits longer than its period"
            alive = container.get("livenessProbe")
            if alive:
                patience = alive.get("failureThreshold", 3) * alive.get("periodSeconds", 10)
                if patience < 30:
                    yield f"{at}: livenessProbe kills within {patience} s"
                start = patience + alive.get("initialDelaySeconds", 0)
                if "startupProbe" not in container and start < 60:
                    yield f"{at}: livenessProbe kills a start that takes {start} s"


SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|access_?key|api_?key|credential)s?$")
NONE = (None, "", "none")
SECRET_TEXT = (
    re.compile(r"://[^/\s:@$]+:[^/\s:@$({]+@"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
)


def secretless(objects: Sequence[Object]) -> Iterator[str]:
    """No secret in a manifest: neither in a Secret, nor in a variable, nor in a text."""
    for item in objects:
        if item["kind"] == "Secret" and (item.get("data") or item.get("stringData")):
            yield f"{name_of(item)}: a Secret with values"
        for place, text in texts(item):
            if any(pattern.search(text) for pattern in SECRET_TEXT):
                yield f"{name_of(item)}: {place} holds a secret"
    for pod in pods(objects):
        for container in pod.containers:
            for variable in container.get("env") or ():
                if SECRET_NAME.search(variable["name"]) and variable.get("value") not in NONE:
                    yield f"{pod.name}: variable {variable['name']} has its value in the manifest"


def texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of an object, with its place."""
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, Mapping):
        for name, item in node.items():
            yield from texts(item, f"{place}.{name}".lstrip("."))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from texts(item, f"{place}[{index}]")


IMAGE = re.compile(
    r"(?<![\w./:@-])"
    r"(?P<name>(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)+)"
    r"(?P<tag>:[\w][\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?(?![\w/])"
)


def images(objects: Sequence[Object]) -> dict[str, set[str]]:
    """Every image that objects name, in full, and by whom: in containers, custom resources, and in
    the arguments, variables and ConfigMaps that tell controllers what to start."""
    found: dict[str, set[str]] = {}
    for item in objects:
        if item["kind"] == "CustomResourceDefinition":
            continue
        for place, text in texts(item):
            if place.split(".")[-1] == "image":
                found.setdefault(full(text), set()).add(name_of(item))
            else:
                for match in IMAGE.finditer(text):
                    if match["tag"] or match["digest"]:
                        found.setdefault(match[0], set()).add(name_of(item))
    return found


def full(image: str) -> str:
    """An image's name in full: what a short one means to Docker."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if re.search(r"[.:]|^localhost$", first) else f"docker.io/{image}"


def parts(image: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image; what is not said is empty."""
    rest, _, digest = image.partition("@")
    name, _, tag = rest.rpartition(":")
    return (rest, "", digest) if not name or "/" in tag else (name, tag, digest)
