"""The programs that we call: from PATH where they fit, else downloaded once, pinned and checked."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from ops.platform import CHARTS, ROOT, Values
from slipway.errors import UserError

FOLDER = ROOT / ".slipway" / "tools"
VERSION_COMMANDS = {
    "kubectl": ("version", "--client"),
    "helm": ("version", "--short"),
    "helmfile": ("--version",),
    "kind": ("version",),
}
DOWNLOAD_SECONDS = 120


@dataclass(frozen=True)
class Tool:
    """A program that was found."""

    name: str
    path: Path
    version: str


def prepare(*names: str) -> list[Tool]:
    """Have these tools, downloaded where PATH has none that fits, at hand for this process."""
    found = [find(name) or download(name) for name in names]
    use(found)
    return found


def use(found: Iterable[Tool]) -> None:
    """Have those that were downloaded first on PATH of this process."""
    path, first = os.environ.get("PATH", ""), f"{FOLDER}{os.pathsep}"
    if any(tool.path.parent == FOLDER for tool in found) and not path.startswith(first):
        os.environ["PATH"] = first + path


def wanted(kind: bool) -> list[str]:
    return [name for name, tool in pins().items() if kind or tool.get("only") != "kind"]


def pins() -> dict[str, Values]:
    tools: dict[str, Values] = yaml.safe_load((CHARTS / "tools.yaml").read_text())["tools"]
    return tools


def find(name: str) -> Tool | None:
    """The tool on PATH, or downloaded earlier, in a version that we accept."""
    accept = pins()[name]["accept"]
    for path in (shutil.which(name), shutil.which(name, path=str(FOLDER))):
        if path and (version := version_of(name, path)) and accepted(version, accept):
            return Tool(name, Path(path), version)
    return None


def version_of(name: str, path: str) -> str:
    """As `1.34.3`; empty where the program does not tell."""
    try:
        done = subprocess.run(
            [path, *VERSION_COMMANDS[name]], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = re.search(r"v?(\d+\.\d+\.\d+)", done.stdout)
    return said[1] if said else ""


def accepted(version: str, span: str) -> bool:
    """Whether `1.34.3` lies in `>=1.33,<1.38`."""
    number = _number(version)
    for bound in span.split(","):
        if bound.startswith(">="):
            if number < _number(bound[2:]):
                return False
        elif number >= _number(bound.removeprefix("<")):
            return False
    return True


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def machine() -> str:
    """For example `linux-amd64`."""
    processor = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(processor, processor)
    return f"{platform.system().lower()}-{arch}"


def download(name: str) -> Tool:
    """The pinned version, checked before it may run."""
    pin, place = pins()[name], machine()
    version, wanted_sum = pin["version"], pin["sha256"].get(place)
    if not wanted_sum:
        raise UserError(
            f"{name} {pin['accept']} is not on PATH, and no checksum of {name} {version} for "
            f"{place} is pinned in charts/tools.yaml, so it is not downloaded.",
            f"Install it: {pin['install']}",
        )
    system, arch = place.split("-")
    words = {"version": version, "os": system, "arch": arch}
    url = pin["url"].format(**words)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        got = Path(scratch) / "download"
        _fetch(f"{name} {pin['accept']}", url, got, pin["install"])
        found = hashlib.sha256(got.read_bytes()).hexdigest()
        if found != wanted_sum:
            raise UserError(
                f"{url} has the SHA-256 {found}, and charts/tools.yaml says {wanted_sum}.",
                "Somebody changed one of the two: do not use it before you know who.",
            )
        if "member" in pin:
            with tarfile.open(got) as archive:
                member = archive.extractfile(pin["member"].format(**words))
                got = Path(scratch) / name
                got.write_bytes(member.read() if member else b"")
        got.chmod(0o755)
        os.replace(got, FOLDER / name)
    return Tool(name, FOLDER / name, version)


def _fetch(name: str, url: str, to: Path, install: str) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as answer,  # noqa: S310 (https)
            to.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise UserError(
            f"{name} is not on PATH and cannot be downloaded from {url} ({error}).",
            f"Check the network, or install it: {install}",
        ) from None
