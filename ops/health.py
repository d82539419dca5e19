"""What is not as it should be on a cluster, and why, as a person would read the API server's facts.

Nothing here asks the cluster; `status` and the progress of `deploy` bring the objects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Object = dict[str, Any]
Logs = Callable[[str, str, str, bool], str]
"""Namespace, pod, container, previous -> the last line that the container wrote."""

KINDS = (
    "pods,deployments,replicasets,statefulsets,daemonsets,jobs,persistentvolumeclaims,events,nodes"
)
"""What every cluster has."""
POD_MUTATOR = "pod-mutator"
RECENT = {
    "FailedCreate": 1,
    "FailedScheduling": 1,
    "FailedMount": 2,
    "FailedAttachVolume": 2,
    "Unhealthy": 5,
}
"""Events that tell why a pod is not ready, and from how many on: the first ones are its start."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not well, in a sentence, and what mends it where that is known."""

    kind: str
    namespace: str
    name: str
    why: str
    mend: str = ""
    warning: bool = False
    """Worth a look; the platform works."""

    @property
    def where(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: {self.why}" + (f" {self.mend}" if self.mend else "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def no_logs(namespace: str, pod: str, container: str, previous: bool) -> str:
    return ""


def problems(objects: Sequence[Object], logs: Logs = no_logs) -> list[Problem]:
    """Everything unhealthy among `objects`, the most telling object first."""
    known = _Known(objects, logs)
    found = [
        *known.nodes(),
        *known.claims(),
        *known.workloads(),
        *known.jobs(),
        *known.stray_pods(),
        *known.inference_services(),
    ]
    return sorted(found, key=lambda one: (one.warning, one.namespace, one.name))


class _Known:
    def __init__(self, objects: Sequence[Object], logs: Logs) -> None:
        self.logs = logs
        self.by_kind: dict[str, list[Object]] = defaultdict(list)
        for one in objects:
            self.by_kind[one["kind"]].append(one)
        self.owned: dict[str, list[Object]] = defaultdict(list)
        for kind in ("Pod", "ReplicaSet"):
            for one in self.by_kind[kind]:
                for owner in one["metadata"].get("ownerReferences", []):
                    self.owned[owner["uid"]].append(one)
        self.events: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
        for event in sorted(self.by_kind["Event"], key=_moment):
            about = event["involvedObject"]
            key = (about.get("kind", ""), about.get("namespace", ""), about.get("name", ""))
            self.events[key].append(event)

    def event(self, one: Object, **reasons: int) -> str:
        """The newest warning about `one`; with `reasons`, of those that came so often."""
        key = (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        texts = [
            event["message"]
            for event in self.events[key]
            if event.get("type") != "Normal"
            and (not reasons or event.get("count", 1) >= reasons.get(event["reason"], 1 << 30))
        ]
        return one_line(texts[-1]) if texts else ""

    def nodes(self) -> Iterator[Problem]:
        for node in self.by_kind["Node"]:
            for condition in node["status"].get("conditions", []):
                ready = condition["type"] == "Ready"
                if condition["status"] != ("True" if ready else "False"):
                    text = "is not ready" if ready else f"has {condition['type']}"
                    why = f"{text} ({one_line(condition.get('message', ''))})."
                    mend = "Free disk space on it." if condition["type"] == "DiskPressure" else ""
                    yield Problem("node", "", node["metadata"]["name"], why, mend)

    def claims(self) -> Iterator[Problem]:
        for claim in self.by_kind["PersistentVolumeClaim"]:
            phase = claim["status"].get("phase")
            if phase in ("Bound", None):
                continue
            if not (reason := self.event(claim)):
                continue  # it is being made, or waits for a pod, which tells more
            wanted = claim["spec"].get("storageClassName") or "the default storage class"
            yield _problem(claim, f"has no volume from {wanted}: {reason}")

    def workloads(self) -> Iterator[Problem]:
        for kind in ("Deployment", "StatefulSet", "DaemonSet"):
            for one in self.by_kind[kind]:
                wanted, ready = _replicas(one)
                rolling = kind == "Deployment" and _is_rolling(one)
                if ready >= wanted and not rolling:
                    continue
                why, mend = self._cause(one)
                text = f"{ready} of {wanted} ready" if ready < wanted else "is rolling"
                yield _problem(one, f"{text}: {why}" if why else text, mend)

    def _cause(self, one: Object) -> tuple[str, str]:
        """Why a workload lacks pods: its pods tell, else whoever should have made them."""
        makers = [one, *(o for o in self.owned[one["metadata"]["uid"]] if o["kind"] != "Pod")]
        pods = [
            pod
            for maker in makers
            for pod in self.owned[maker["metadata"]["uid"]]
            if pod["kind"] == "Pod" and not pod["metadata"].get("deletionTimestamp")
        ]
        for pod in sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True):
            if why := self.pod(pod):
                return why
        for maker in reversed(makers):
            if text := self.event(maker, FailedCreate=1):
                if POD_MUTATOR in text:
                    space, name = maker["metadata"]["namespace"], maker["metadata"]["name"]
                    return (
                        "KServe's pod webhook did not answer when the pod was made "
                        f"(FailedCreate: {text}).",
                        f"Once KServe is up: `kubectl -n {space} annotate {maker['kind'].lower()} "
                        f"{name} slipway/retry=1 --overwrite`.",
                    )
                return f"pods cannot be made: {text}", ""
        return "", ""

    def pod(self, pod: Object) -> tuple[str, str] | None:
        """Why a pod is not ready; None if it is, or if it just needs its time."""
        status = pod["status"]
        if status.get("phase") == "Succeeded":
            return None
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"cannot be scheduled: {one_line(condition.get('message', ''))}", ""
        init = [(c, True) for c in status.get("initContainerStatuses", [])]
        for container, is_init in [
            *init,
            *((c, False) for c in status.get("containerStatuses", [])),
        ]:
            if found := self._container(pod, container, is_init):
                return found
        if status.get("phase") == "Failed":
            return f"failed: {status.get('reason', '')} {status.get('message', '')}".strip(), ""
        if text := self.event(pod, **RECENT):
            ready = any(
                c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])
            )
            return None if ready else (text, "")
        return None

    def _container(self, pod: Object, status: Object, is_init: bool) -> tuple[str, str] | None:
        name, space, of = status["name"], pod["metadata"]["namespace"], pod["metadata"]["name"]
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            reason, text = waiting.get("reason", ""), one_line(waiting.get("message", ""))
            if reason in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName"):
                detail = self.event(pod, Failed=1) or text
                return (
                    f"the image {status['image']} cannot be pulled ({reason}: {detail}).",
                    "Push or load it, or correct the image in your values.",
                )
            if reason in ("CreateContainerConfigError", "CreateContainerError"):
                mend = (
                    "Make it, then wait, or run `make deploy` again." if "not found" in text else ""
                )
                return f"container {name} cannot start: {text}.", mend
            if reason == "CrashLoopBackOff":
                said = self._said(space, of, name)
                return f"container {name} keeps ending ({_ended(status)}){said}", ""
            return None  # PodInitializing, ContainerCreating: a matter of time, or of an event
        ended = status.get("state", {}).get("terminated")
        if ended and ended.get("exitCode"):
            said = self._said(space, of, name, previous=False)
            return f"container {name} ended ({_reason(ended)}){said}", ""
        running = "running" in status.get("state", {})
        if is_init and running:
            line = self.logs(space, of, name, False)
            return (f"{name}: {line}" if line else f"init container {name} is at work"), ""
        return None

    def _said(self, namespace: str, pod: str, container: str, previous: bool = True) -> str:
        line = self.logs(namespace, pod, container, previous)
        return f', its last line: "{line}".' if line else "."

    def jobs(self) -> Iterator[Problem]:
        for job in self.by_kind["Job"]:
            true = {
                condition["type"]: one_line(condition.get("message", ""))
                for condition in job["status"].get("conditions", [])
                if condition["status"] == "True"
            }
            if {"Complete", "SuccessCriteriaMet", "Suspended"} & true.keys():
                continue
            why, mend = self._cause(job)
            if "Failed" in true:
                # A CronJob's next turn may be better; nothing waits for this one.
                owned = bool(job["metadata"].get("ownerReferences"))
                yield _problem(job, f"failed: {why or true['Failed']}", mend, warning=owned)
            elif why:  # also between two tries
                yield _problem(job, why, mend)
            elif line := self._at_work(job):
                yield _problem(job, f"is at work: {line}", warning=True)

    def _at_work(self, job: Object) -> str:
        """The last line of a job's pod that runs."""
        for pod in self.owned[job["metadata"]["uid"]]:
            for status in pod["status"].get("containerStatuses", []):
                if "running" in status.get("state", {}):
                    meta = pod["metadata"]
                    return self.logs(meta["namespace"], meta["name"], status["name"], False)
        return ""

    def stray_pods(self) -> Iterator[Problem]:
        """Pods of no workload that is looked at above: steps of a run, Ray pods."""
        for pod in self.by_kind["Pod"]:
            owners = [o["kind"] for o in pod["metadata"].get("ownerReferences", [])]
            if {"ReplicaSet", "StatefulSet", "DaemonSet", "Job", "Node"} & set(owners):
                continue
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                continue  # its run tells
            if found := self.pod(pod):
                yield _problem(pod, *found)

    def inference_services(self) -> Iterator[Problem]:
        for one in self.by_kind["InferenceService"]:
            status = one.get("status", {})
            conditions = status.get("conditions", [])
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            model = status.get("modelStatus", {})
            failure = model.get("lastFailureInfo", {}).get("message", "")
            invalid = model.get("transitionStatus") == "InvalidSpec"
            if ready and not invalid:
                continue
            reasons = [
                f"{c['type']}: {one_line(c.get('message') or c.get('reason') or 'not yet')}"
                for c in conditions
                if c["status"] != "True" and c["type"] not in ("Ready", "Stopped")
            ]
            text = one_line(failure) or "; ".join(reasons) or "KServe has not looked at it yet"
            yield _problem(one, f"not ready ({text})." if not ready else f"invalid ({text}).")


def _problem(one: Object, why: str, mend: str = "", warning: bool = False) -> Problem:
    meta = one["metadata"]
    return Problem(one["kind"], meta.get("namespace", ""), meta["name"], why, mend, warning)


def _replicas(one: Object) -> tuple[int, int]:
    """Wanted and ready."""
    status = one.get("status", {})
    if one["kind"] == "DaemonSet":
        return status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    return one["spec"].get("replicas", 1), status.get("readyReplicas", 0)


def _is_rolling(one: Object) -> bool:
    status = one.get("status", {})
    return bool(
        status.get("observedGeneration", 0) < one["metadata"].get("generation", 0)
        or status.get("updatedReplicas", 0) < one["spec"].get("replicas", 1)
    )


def _ended(status: Object) -> str:
    last = status.get("lastState", {}).get("terminated")
    return _reason(last) if last else f"{status.get('restartCount', 0)} restarts"


def _reason(ended: Object) -> str:
    reason = ended.get("reason", "")
    if reason == "OOMKilled":
        return "out of memory: it reached its limit"
    return f"exit code {ended.get('exitCode')}"


def _moment(event: Object) -> str:
    return str(
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def one_line(text: str) -> str:
    """One line, short enough to read."""
    flat = " ".join(text.split()).rstrip(".")
    return flat if len(flat) <= 300 else f"{flat[:297]}..."
