"""A cluster as its user sees it: kubectl, bound to one context of the kubeconfig."""

from __future__ import annotations

import json
import re
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slipway.errors import Fault, UserError

Object = dict[str, Any]
FORWARD_SECONDS = 15
OURS = "kind-slipway"
"""The context of the kind cluster that `make deploy-kind` makes."""


class ClusterError(Fault):
    """kubectl failed; the text is what it said."""


@dataclass(frozen=True)
class Cluster:
    """Every call names its context, so another shell's `kubectl config use-context` is harmless."""

    context: str

    def kubectl(self, *args: str, text: str | None = None, timeout: float = 60) -> str:
        """What the command prints; `text` is its standard input. Raises `ClusterError`."""
        command = ["kubectl", "--context", self.context, *args]
        try:
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"no answer in {timeout:g} s: kubectl {' '.join(args)}") from None
        if done.returncode:
            raise ClusterError(done.stderr.strip() or f"kubectl {' '.join(args)} failed")
        return done.stdout

    def get(
        self, kinds: str, *names: str, namespace: str | None = None, selector: str = ""
    ) -> list[Object]:
        """Objects of `kinds` (`pods,deployments`), of all namespaces where none is named."""
        scope = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        labels = ["--selector", selector] if selector else []
        found = json.loads(
            self.kubectl(
                *("get", kinds, *names, *scope, *labels),
                *("--output", "json", "--ignore-not-found", "--request-timeout=30s"),
            )
            or '{"items": []}'
        )
        items: list[Object] = found.get("items", [found])
        return items

    def one(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """One object, or None where there is none."""
        found = self.get(kind, name, namespace=namespace)
        return found[0] if found else None

    def knows(self, crd: str) -> bool:
        """Whether the cluster has this kind, for example `rayjobs.ray.io`."""
        return bool(self.kubectl("get", "crd", crd, "--output", "name", "--ignore-not-found"))

    def last_line(self, namespace: str, pod: str, container: str, previous: bool = False) -> str:
        """The last line that a container wrote; empty where it wrote none, or cannot be asked."""
        try:
            text = self.kubectl(
                *("logs", pod, "--namespace", namespace, "--container", container, "--tail", "5"),
                *(["--previous"] if previous else []),
            )
        except ClusterError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    @contextmanager
    def forward(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """`127.0.0.1:PORT`, which reaches a service of the cluster while the block runs."""
        process = subprocess.Popen(
            [
                *("kubectl", "--context", self.context, "--namespace", namespace),
                *("port-forward", "--address", "127.0.0.1", f"service/{service}", f":{port}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield f"127.0.0.1:{_port(process, f'{service}.{namespace}:{port}')}"
        finally:
            process.terminate()
            process.communicate()


def _port(process: subprocess.Popen[bytes], name: str) -> int:
    """The local port that kubectl chose."""
    assert process.stdout  # noqa: S101 (for mypy)
    assert process.stderr  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(FORWARD_SECONDS)
    line = process.stdout.readline().decode() if ready else ""
    if found := re.search(r"127\.0\.0\.1:(\d+)", line):
        return int(found[1])
    process.kill()
    raise ClusterError(f"cannot reach {name}: {process.stderr.read().decode().strip() or line}")


def connect(context: str) -> Cluster:
    """The cluster behind `context`; raises `UserError` where none answers.

    Without a name it is our kind cluster's and no other: kubectl's current context, or the only one
    there is, may be somebody's production.
    """
    known = _contexts()
    if not context and OURS not in known:
        raise UserError(
            f"no cluster was named, and the kubeconfig has no '{OURS}'.",
            f"Name its context with CONTEXT=NAME; the kubeconfig has: {_list(known)}.",
        )
    context = context or OURS
    if context not in known:
        raise UserError(
            f"the kubeconfig has no context '{context}'.",
            f"It has: {_list(known)}. Name one of them with CONTEXT=NAME, or set KUBECONFIG.",
        )
    cluster = Cluster(context)
    try:
        cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=10s", timeout=20)
    except ClusterError as error:
        raise UserError(
            f"the cluster of context '{context}' does not answer ({str(error).splitlines()[-1]}).",
            "Start it, or name another context with CONTEXT=NAME.",
        ) from None
    return cluster


def _contexts() -> list[str]:
    try:
        return subprocess.run(
            ["kubectl", "config", "get-contexts", "--output", "name"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.split()
    except FileNotFoundError:
        raise UserError("kubectl is not on PATH.", "Run `slipway doctor`, or install it.") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"the kubeconfig cannot be read: {error.stderr.strip()}") from None


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def wait(seconds: float, pause: float = 1) -> Iterator[float]:
    """Seconds left, again and again with a pause between, until there are none."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        yield left
        time.sleep(min(pause, left))
