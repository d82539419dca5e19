"""A model on a cluster: the Helm release that records it, and the pods that serve it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slipway.code import ROOT
from slipway.errors import UserError
from slipway.helm import MODELS_DRIVER as DRIVER
from slipway.helm import HelmError, helm
from slipway.pods import restarts, why_waiting

if TYPE_CHECKING:
    from slipway.kube import Kube

CHART = ROOT / "charts" / "model"
TRIES = 6
CONFLICT = "the object has been modified"
HICCUPS = (
    "failed calling webhook",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "etcdserver",
    "context deadline exceeded",
    CONFLICT,
    "EOF",
)
"""What Helm says while an API server or KServe's webhook restarts: worth another try."""
EVENTS = 5
"""Warnings that are shown of a version that does not come up."""


@dataclass(frozen=True)
class Deployed:
    """The model `name` in `namespace`, whether it is there yet or not.

    `context` is one of the kubeconfig; empty inside a pod.
    """

    name: str
    namespace: str
    context: str = ""

    def values(self) -> dict[str, Any] | None:
        """The values it was last given; None where there is no such release."""
        try:
            text = self._helm("get", "values", self.name, "--output", "json")
        except HelmError as error:
            if "release: not found" in str(error):
                return None
            raise
        found: dict[str, Any] = json.loads(text) or {}
        return {"versions": [], "previous": {}, **found}

    def apply(self, values: Mapping[str, Any]) -> None:
        """Make the cluster as these values say, whatever a killed Helm left half-way."""
        _chart_is_whole()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            command = ["upgrade", "--install", self.name, str(CHART), "--values", file.name]
            for tried in range(1, TRIES + 1):
                try:
                    self._helm(*command, "--history-max", "10")
                    return
                except HelmError as error:
                    if "no matches for kind" in str(error):
                        raise UserError(
                            f"The cluster lacks a kind that {self.name} needs: {error}.",
                            "Install what brings it, or switch it off in SLIPWAY_MODEL_VALUES.",
                        ) from None
                    if "another operation" in str(error):
                        # One that lives needs seconds; it may be that of a release just stopped.
                        if tried >= TRIES // 2:
                            self._forget_pending()
                    elif tried == TRIES or not any(hint in str(error) for hint in HICCUPS):
                        raise
                time.sleep(2 * tried)
        raise HelmError(f"Helm does not get {self.name} out of an unfinished upgrade.")

    def isvc(self, version: str) -> str:
        return f"{self.name}-v{version}"

    def predictor(self, version: str) -> str:
        """The service that answers full rows."""
        return f"{self.isvc(version)}-predictor"

    def health(self, version: str) -> Health:
        """How far the pods of a version are."""
        isvc = self.find(
            self.of_group("serving.kserve.io/v1beta1", "inferenceservices", self.isvc(version))
        )
        if isvc is None:
            return Health(False, ["KServe does not know it yet"])
        wanted = _settings(isvc)
        health = Health(True)
        for component in ("predictor", "transformer"):
            if component in isvc["spec"]:
                self._component(f"{self.isvc(version)}-{component}", wanted, health)
        # `observedGeneration` of KServe 0.20 stands still after a while; its conditions do not.
        ready = _condition(isvc, "Ready")
        if ready.get("status") != "True":
            health.ready = False
            if not health.waits:
                health.waits.append(ready.get("message") or "KServe has not looked at it yet")
        return health

    def events(self, version: str) -> list[str]:
        """The newest warnings about a version, without those that pass by themselves."""
        found = self.ask("GET", self.core("events"), fieldSelector="type=Warning")["items"]
        own = f"{self.isvc(version)}-"  # v1 is the beginning of v10, too
        mine = [
            event
            for event in found
            if f"{event['involvedObject'].get('name', '')}-".startswith(own)
            and CONFLICT not in event.get("message", "")
        ]
        mine.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        lines = [
            "{kind} {name}: ".format_map(event["involvedObject"])
            + f"{event.get('reason')}: {event.get('message', '').strip()}"
            for event in mine
        ]
        return list(dict.fromkeys(reversed(lines)))[:EVENTS]

    @cached_property
    def _kube(self) -> Kube:
        from slipway.kube import Kube

        return Kube(self.context)

    def ask(self, method: str, path: str, body: Any = None, **query: object) -> Any:
        """The Kubernetes API's answer; one that restarts is asked again. Raises `ApiException`."""
        return self._kube.patiently(lambda: self._kube.call(method, path, body, **query))

    def find(self, path: str) -> dict[str, Any] | None:
        """None where there is no such object."""
        from kubernetes.client import ApiException

        try:
            found: dict[str, Any] = self.ask("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def core(self, kind: str) -> str:
        """The path of Kubernetes' own objects beside the model."""
        return f"/api/v1/namespaces/{self.namespace}/{kind}"

    def of_group(self, group: str, kind: str, name: str = "") -> str:
        """The path of an API group's objects, or of one."""
        return f"/apis/{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def _component(self, name: str, wanted: str | None, health: Health) -> None:
        deployment = self.find(self.of_group("apps/v1", "deployments", name))
        if deployment is None:
            health.wait(f"{name}: KServe has made no pods yet")
            return
        spec, status = deployment["spec"], deployment.get("status", {})
        if _settings(spec["template"]) != wanted:
            health.wait(f"{name}: KServe has not taken up the change yet")
            return
        count = spec["replicas"]
        seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        counts = [
            status.get(kind, 0) for kind in ("replicas", "updatedReplicas", "availableReplicas")
        ]
        if not seen or counts != [count] * 3:
            health.wait(f"{name}: {counts[-1]} of {count} pods are available")
        pods = self.ask("GET", self.core("pods"), labelSelector=f"app=isvc.{name}")["items"]
        for pod in pods:
            if _settings(pod) == wanted:
                health.restarts += restarts(pod)
                if (wait := why_waiting(pod)) and wait.hopeless:
                    health.stuck.append(str(wait))

    def _forget_pending(self) -> None:
        """Drop the record of a revision that a killed Helm did not finish; the next one adopts what
        it made. Nobody else is at work here: whoever applies holds the lease."""
        mine = f"owner=helm,name={self.name}"
        for record in self.ask("GET", self.core("configmaps"), labelSelector=mine)["items"]:
            if record["metadata"]["labels"]["status"].startswith("pending"):
                self.ask("DELETE", self.core(f"configmaps/{record['metadata']['name']}"))

    def _helm(self, *args: str) -> str:
        where = ["--namespace", self.namespace]
        if self.context:
            where += ["--kube-context", self.context]
        return helm(*args, *where, driver=DRIVER)


@dataclass
class Health:
    """Of the pods of one version, in the settings that it was last given."""

    ready: bool
    waits: list[str] = field(default_factory=list)
    """What is not there yet."""
    stuck: list[str] = field(default_factory=list)
    """What does not get there by itself."""
    restarts: int = 0

    def wait(self, why: str) -> None:
        self.ready = False
        self.waits.append(why)


def _settings(item: Mapping[str, Any]) -> str | None:
    """Of which settings a version, its Deployment or its pods are: the chart's annotation."""
    found: str | None = item["metadata"].get("annotations", {}).get("slipway/settings")
    return found


def _condition(isvc: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    conditions = isvc.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == name), {})


def _chart_is_whole() -> None:
    """In a checkout, the library chart is put into the chart; an image has it there."""
    if not (CHART / "Chart.yaml").exists():
        raise UserError(f"{CHART} is no chart.", "Run this in a checkout, or in the tools image.")
    if not list((CHART / "charts").glob("common-*.tgz")):
        helm("dependency", "build", "--skip-refresh", str(CHART))
