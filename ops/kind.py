"""A kind cluster on this machine: made from charts/kind.yaml, filled with images, deleted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ops.cluster import OURS, Cluster
from ops.platform import CHARTS, ROOT
from slipway.errors import Fault, UserError

PREFIX = "kind-"
NAME = OURS.removeprefix(PREFIX)
CONFIG = CHARTS / "kind.yaml"
CREATE_SECONDS = 600
UNTHROTTLED = json.dumps(
    {
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": "kindnet-cni", "resources": {"limits": {"cpu": None}}}]
                }
            }
        }
    }
)
"""kindnet holds every new connection against the policies; its limit of 100m would throttle all."""


def is_kind(context: str) -> bool:
    return context.startswith(PREFIX)


def engine() -> str:
    """docker or podman: the one that ENGINE names, else the first whose daemon answers."""
    known = ("docker", "podman")
    wanted = [name for name in known if name == os.environ.get("ENGINE")] or known
    for name in wanted:
        if shutil.which(name):
            with suppress(subprocess.TimeoutExpired):
                if not subprocess.run([name, "info"], capture_output=True, timeout=30).returncode:
                    return name
    raise UserError(
        f"{' and '.join(wanted)} {'do' if len(wanted) > 1 else 'does'} not answer.",
        f"Install {' or '.join(wanted)} and start it; `{wanted[0]} info` must succeed.",
    )


def _kind(*args: str, timeout: float = 120) -> str:
    try:
        done = subprocess.run(
            ["kind", *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "KIND_EXPERIMENTAL_PROVIDER": engine()},
        )
    except FileNotFoundError:
        raise UserError("kind is not on PATH.", "Run `slipway doctor`, or install it.") from None
    except subprocess.TimeoutExpired:
        raise Fault(f"no end after {timeout:g} s: kind {' '.join(args)}") from None
    if done.returncode:
        raise Fault(f"kind {' '.join(args)} failed: {done.stderr.strip()}")
    return done.stdout


def exists(name: str = NAME) -> bool:
    return name in _kind("get", "clusters").split()


def create(say: Callable[[str], None], name: str = NAME) -> str:
    """The cluster, made if it is not there; returns its context."""
    if exists(name):
        say(f"the kind cluster '{name}' is there")
        _kind("export", "kubeconfig", "--name", name)
    else:
        say(f"making the kind cluster '{name}' from {CONFIG.relative_to(CHARTS.parent)}")
        try:
            _kind(
                *("create", "cluster", "--name", name, "--config", str(CONFIG), "--wait", "180s"),
                timeout=CREATE_SECONDS,
            )
        except BaseException:
            _kind("delete", "cluster", "--name", name)  # half a cluster is of no use
            raise
    cluster = Cluster(PREFIX + name)
    cluster.kubectl(
        *("patch", "daemonset", "kindnet", "--namespace", "kube-system", "--patch", UNTHROTTLED)
    )
    return cluster.context


def load(context: str, images: dict[str, Any], say: Callable[[str], None]) -> None:
    """Built images into the nodes; kind skips those that are there."""
    for image in images.values():
        name = f"{image['name']}:{image['tag']}"
        say(f"loading {name}")
        if archive := image.get("archive"):
            load_archive(context, ROOT / archive)
        elif engine() == "docker":
            _kind(
                *("load", "docker-image", name, "--name", context.removeprefix(PREFIX)),
                timeout=CREATE_SECONDS,
            )
        else:  # kind finds images of podman only in an archive
            _load_from_podman(context, name)


def load_archive(context: str, archive: Path) -> None:
    _kind(
        *("load", "image-archive", str(archive), "--name", context.removeprefix(PREFIX)),
        timeout=CREATE_SECONDS,
    )


def _load_from_podman(context: str, image: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "image.tar"
        try:
            subprocess.run(
                ["podman", "save", "--output", str(archive), image],
                check=True,
                timeout=CREATE_SECONDS,
            )
        except subprocess.SubprocessError as error:
            raise Fault(f"{image} cannot be taken out of podman: {error}") from None
        load_archive(context, archive)


def delete(say: Callable[[str], None], name: str = NAME) -> None:
    if exists(name):
        _kind("delete", "cluster", "--name", name, timeout=CREATE_SECONDS)
        say(f"deleted the kind cluster '{name}'")
    else:
        say(f"there is no kind cluster '{name}'")
