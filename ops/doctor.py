"""Is this machine fit for a kind cluster, or for a deploy? Every failure comes with its mend."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ops import kind, tools
from ops.platform import ROOT
from slipway.errors import Fault, UserError

CORES = 2
MEMORY_GIB = 8
DISK_GIB = 25
"""Images and the node's copy of them, once each."""
DISK_AGAIN_GIB = 5
"""Where the cluster is there already: the images of another commit."""
PORT = 8080
INOTIFY = {"max_user_watches": 65536, "max_user_instances": 256}
"""What Kubernetes, its log readers and the operators on one node use up."""
SKEW_SECONDS = 60
"""Signed requests to an object store and certificates bear a few minutes; leases less."""
CLOCK_URL = "https://registry.k8s.io/v2/"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    """What to do; empty where nothing needs doing."""
    warning: bool = False
    """Not well, and not in the way."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(for_kind: bool = True) -> list[Check]:
    """All checks: those of a kind cluster's machine, or of one that only calls a cluster."""
    names = tools.wanted(for_kind)
    tools.use(found for name in names if (found := tools.find(name)))
    checks: list[Callable[[], Check]] = [
        *([cores, memory, disk, inotify, engine, port] if for_kind else []),
        clock,
    ]
    return [*(check() for check in checks), *(tool(name) for name in names)]


def cores() -> Check:
    count = room()[0]
    return Check(
        "cores",
        count >= CORES,
        f"{count}",
        f"At least {CORES} are needed: give the machine, or the container engine's, more.",
    )


def memory() -> Check:
    total = room()[1] / 2**30
    return Check(
        "memory",
        total >= MEMORY_GIB * 0.93,  # the kernel keeps a part for itself
        f"{total:.1f} GiB",
        f"At least {MEMORY_GIB} GiB are needed: give the machine, or the container engine's, more.",
    )


@lru_cache
def room() -> tuple[int, int]:
    """Cores and bytes of the engine's machine, which on a Mac is not this one."""
    try:
        name = kind.engine()
        fields = (
            "{{.NCPU}} {{.MemTotal}}" if name == "docker" else "{{.Host.CPUs}} {{.Host.MemTotal}}"
        )
        done = subprocess.run(
            [name, "info", "--format", fields], capture_output=True, text=True, timeout=30
        )
        count, total = done.stdout.split()
        return int(count), int(total)
    except (UserError, ValueError, subprocess.TimeoutExpired):
        return os.cpu_count() or 0, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def disk() -> Check:
    free = shutil.disk_usage(_engine_folder()).free / 2**30
    least = DISK_AGAIN_GIB if _is_up() else DISK_GIB
    return Check(
        "disk",
        free >= least,
        f"{free:.0f} GiB free",
        f"At least {least} GiB are needed: `docker system prune` frees what nobody uses.",
    )


def _engine_folder() -> Path:
    """Where images go; on a Mac they are in the engine's own disk, which is not seen from here."""
    for place in ("/var/lib/docker", "/var/lib/containers"):
        if Path(place).exists():
            return Path(place)
    return ROOT


def inotify() -> Check:
    folder = Path("/proc/sys/fs/inotify")
    if not folder.exists():
        return Check("inotify", True, f"not a matter on {platform.system()}")
    found = {name: int((folder / name).read_text()) for name in INOTIFY}
    low = {name: least for name, least in INOTIFY.items() if found[name] < least}
    settings = " ".join(f"fs.inotify.{name}={least}" for name, least in (low or INOTIFY).items())
    return Check(
        "inotify",
        not low,
        ", ".join(f"{name} {value}" for name, value in found.items()),
        f"Pods would fail with 'too many open files': `sudo sysctl -w {settings}`.",
    )


def engine() -> Check:
    try:
        return Check("container engine", True, kind.engine())
    except UserError as error:
        return Check("container engine", False, "none answers", str(error))


def port() -> Check:
    """Free, or held by our own cluster."""
    name = f"port {PORT}"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", PORT))
            return Check(name, True, "free")
        except OSError as error:
            if _is_up():
                return Check(name, True, "held by the kind cluster")
            return Check(
                name,
                False,
                f"taken ({error.strerror})",
                "Stop the program that has it, or change hostPort in charts/kind.yaml and `url` "
                "in your VALUES/profile.yaml.",
            )


def _is_up() -> bool:
    """Whether our kind cluster was made before, with its images."""
    try:
        return kind.exists()
    except (UserError, Fault):
        return False


def clock() -> Check:
    """Against the date in the answer of a registry. Offline, nobody can tell: a warning."""
    try:
        with urllib.request.urlopen(CLOCK_URL, timeout=5) as answer:
            told = answer.headers["Date"]
    except OSError as error:
        told = getattr(error, "headers", {}) and error.headers.get("Date")  # type: ignore[attr-defined]
    if not told:
        return Check("clock", False, "not checked: no network", "", warning=True)
    skew = abs(time.time() - parsedate_to_datetime(told).timestamp())
    return Check(
        "clock",
        skew <= SKEW_SECONDS,
        f"{skew:.0f} s off",
        "Certificates and signed requests would be refused: `sudo timedatectl set-ntp true`.",
    )


def tool(name: str) -> Check:
    pin = tools.pins()[name]
    if found := tools.find(name):
        return Check(name, True, f"{found.version} ({found.path})")
    other = shutil.which(name)
    seen = f"{tools.version_of(name, other) or 'unknown'} ({other})" if other else "not on PATH"
    if pin["sha256"].get(tools.machine()):
        mend = f"{name} {pin['version']} will be downloaded into .slipway/tools."
        return Check(name, False, seen, mend, warning=True)
    return Check(name, False, seen, f"Install {name} {pin['accept']}: {pin['install']}")
