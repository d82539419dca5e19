"""The way to a cluster's Kubeflow Pipelines from wherever the command runs."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipelines.api import Api
from slipway.errors import UserError
from slipway.kube import Kube, in_pod

DEPLOYED = "/api/v1/namespaces/slipway-system/configmaps/slipway-platform"


@dataclass(frozen=True)
class Cluster:
    """KFP's API, and Kubernetes' where it can be asked: it knows why a pod waits."""

    api: Api
    kube: Kube | None
    namespace: str
    context: str = ""

    def page(self, run: str) -> str:
        """Address of the run in KFP's UI, as `make deploy` noted it; empty where it did not, or
        where the note cannot be read."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        found = None
        with suppress(UserError, ApiException, HTTPError):
            found = self.kube and self.kube.find(DEPLOYED)
        if not found:
            return ""
        scheme, _, place = json.loads(found["data"]["platform.json"])["url"].partition("://")
        return f"{scheme}://kfp.{place}/#/runs/details/{run}"

    def pods(self, run: str) -> list[dict[str, Any]]:
        """The run's pods; none where Kubernetes cannot be asked, or is away for a moment."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        if self.kube is None:
            return []
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        try:
            found = self.kube.call("GET", path, labelSelector=f"pipeline/runid={run}")
        except (ApiException, HTTPError) as error:
            if not self.kube.passing(error):
                raise
            return []
        return list(found["items"])

    def log(self, pod: str, container: str = "main", lines: int = 0) -> str:
        """What a container wrote, or its last lines; empty where it cannot be asked."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        if self.kube is None:
            return ""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        more = {"tailLines": lines} if lines else {}
        try:
            return self.kube.text(path, container=container, **more)
        except (ApiException, HTTPError):
            return ""


@contextmanager
def connected(endpoint: str, context: str, namespace: str) -> Iterator[Cluster]:
    """By `endpoint` if it is given; else inside a pod by KFP's name, else through the cluster of
    `context`."""
    with ExitStack() as stack:
        kube = None if endpoint and not context else Kube(context)
        if not endpoint and in_pod() and not context:
            endpoint = f"http://ml-pipeline.{namespace}:8888"
        elif not endpoint:
            endpoint = stack.enter_context(forwarded(context, namespace, "ml-pipeline", 8888))
        api = Api(endpoint)
        api.ready()
        yield Cluster(api, kube, namespace, context)


@contextmanager
def forwarded(context: str, namespace: str, service: str, port: int) -> Iterator[str]:
    """An address on loopback that reaches the service while the block runs, also after its pod was
    replaced: kubectl's own forwarding ends with the pod."""
    if not shutil.which("kubectl"):
        raise UserError("kubectl is not on PATH.", "Install it, or give --endpoint.")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        local = unused.getsockname()[1]
    forward = _Forward(context, namespace, f"service/{service}", f"{local}:{port}")
    forward.start()
    try:
        forward.wait()
        yield f"http://127.0.0.1:{local}"
    finally:
        forward.stop()


class _Forward(threading.Thread):
    """Keeps `kubectl port-forward` running."""

    def __init__(self, context: str, namespace: str, target: str, ports: str) -> None:
        super().__init__(daemon=True)
        chosen = ["--context", context] if context else []
        self._command = ["kubectl", *chosen, "--namespace", namespace, "port-forward"]
        self._command += ["--address", "127.0.0.1", target, ports]
        self._target, self._context = target, context
        self._up, self._end = threading.Event(), threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._said = ""

    def run(self) -> None:
        while not self._end.is_set():
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert self._process.stdout is not None  # noqa: S101 (for mypy)
            for line in self._process.stdout:
                self._said = line.strip()
                if re.match(r"Forwarding from", line):
                    self._up.set()
                elif "lost connection" in line or line.startswith("error"):
                    self._process.terminate()
            self._process.wait()
            self._end.wait(1)

    def wait(self, seconds: float = 20) -> None:
        if not self._up.wait(seconds):
            self.stop()
            raise UserError(
                f"{self._target} of context '{self._context or 'current'}' cannot be reached: "
                f"{self._said or 'no answer'}.",
                "Is Kubeflow Pipelines installed there? `slipway status` tells.",
            )

    def stop(self) -> None:
        self._end.set()
        if self._process is not None:
            self._process.terminate()
        self.join(5)
