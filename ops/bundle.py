"""Everything that a deployment pulls, in a folder: for clusters that cannot reach the internet.

    charts/NAME-VERSION.tgz   images/NAME/ (OCI layouts)   images.json   manifest.json

The manifest, with a checksum of every file, is written last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ops import helm, kind
from ops.cluster import Cluster
from ops.lock import locked
from ops.platform import ROOT, Platform, Values, packages, vendors
from slipway.errors import UserError
from slipway.files import new_folder, read_json, sha256, write_json

MANIFEST = "manifest.json"
SECONDS = 1800
CONTAINERD_NAME = "io.containerd.image.name"
"""Annotation by which a node's containerd names what it imports."""
Say = Callable[[str], None]


def make(platform: Platform, folder: Path, say: Say, mirror: str = "") -> None:
    """Fill `folder`; what is there already stays, so an interrupted call goes on.

    `mirror` is a registry that holds every image under its full name (HOST:PORT/ghcr.io/…).
    """
    images = ROOT / ".slipway" / "images.json"
    if not images.exists():
        raise UserError(f"{images} does not exist.", "Run `make images`.")
    tool = _tool()
    (folder / "charts").mkdir(parents=True, exist_ok=True)
    wanted = {release.vendor for release in platform.releases if release.vendor}
    helm.fetch_vendors(wanted)
    for chart in (vendors()[key] for key in sorted(wanted)):
        shutil.copy(packages() / f"{chart['name']}-{chart['version']}.tgz", folder / "charts")
    ours = read_json(images)
    names = sorted({*locked(platform.profile), *map(_name, ours.values())})
    for number, name in enumerate(names, 1):
        target = folder / "images" / _slug(name)
        if not target.exists():
            say(f"image {number} of {len(names)}: {name}")
            with new_folder(target) as new:
                _pull(tool, name, new / "layout", mirror)
    shutil.copy(images, folder / "images.json")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    facts = {
        "profile": platform.profile,
        "images": {name: f"images/{_slug(name)}/layout" for name in names},
        "sha256": {str(path.relative_to(folder)): sha256(path) for path in files},
    }
    write_json(folder / MANIFEST, facts)
    size = sum(path.stat().st_size for path in files) / 2**20
    say(f"{folder}: {len(names)} images, {len(wanted)} charts, {size:,.0f} MiB")


def use(folder: Path, cluster: Cluster, say: Say, mirror: str = "") -> None:
    """Check a bundle, and bring its images to the cluster: into kind's nodes, or to `mirror`."""
    facts = check(folder)
    os.environ["SLIPWAY_CHARTS"] = str((folder / "charts").resolve())
    images: dict[str, str] = facts["images"]
    if kind.is_kind(cluster.context):
        for name, layout in images.items():
            say(f"loading {name}")
            with tempfile.TemporaryDirectory() as scratch:
                kind.load_archive(
                    cluster.context, archive(folder / layout, name, Path(scratch) / "image.tar")
                )
    elif mirror:
        tool = _tool()
        for name, layout in images.items():
            say(f"pushing {name} to {mirror}")
            _push(tool, folder / layout, f"{mirror}/{_full(name)}")
    else:
        say("no MIRROR is named: the nodes must find the bundle's images by themselves")


def check(folder: Path) -> dict[str, Any]:
    """The manifest; raises `UserError` for a bundle that is unfinished or was changed."""
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            "Make one with `make bundle BUNDLE=FOLDER`, to its end.",
        )
    facts: dict[str, Any] = read_json(folder / MANIFEST)
    for name, wanted in facts["sha256"].items():
        if not (folder / name).exists() or sha256(folder / name) != wanted:
            raise UserError(f"{folder / name} is missing or damaged.", "Copy the bundle anew.")
    return facts


def archive(layout: Path, name: str, to: Path) -> Path:
    """An OCI layout as one file that containerd imports under its tag and under its digest."""
    index = json.loads((layout / "index.json").read_text())
    [image] = index["manifests"]
    repository = re.sub(r"(:[\w.-]+)?(@.*)?$", "", name)
    names = [f"{repository}@{image['digest']}"]
    if tagged := re.search(r":[\w.-]+(?=@|$)", name.removeprefix(repository)):
        names.append(repository + tagged[0])
    index["manifests"] = [image | {"annotations": {CONTAINERD_NAME: _full(one)}} for one in names]
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(to, "w") as tar:
        for part in sorted(layout.iterdir()):
            if part.name != "index.json":
                tar.add(part, part.name)
        written = Path(scratch) / "index.json"
        written.write_text(json.dumps(index))
        tar.add(written, "index.json")
    return to


def _name(image: Values) -> str:
    name = f"{image['name']}:{image['tag']}"
    return f"{name}@{image['digest']}" if image.get("digest") else name


def _full(name: str) -> str:
    """With the registry that a short name means."""
    first, _, rest = name.partition("/")
    if not rest:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _tool() -> str:
    for name in ("crane", "skopeo"):
        if shutil.which(name):
            return name
    raise UserError(
        "neither crane nor skopeo is on PATH, and a bundle keeps the digests of its images.",
        "Install one: https://github.com/google/go-containerregistry or skopeo from your system.",
    )


def _pull(tool: str, name: str, to: Path, mirror: str) -> None:
    source = f"{mirror}/{_full(name)}" if mirror else name
    source = re.sub(r":[\w.-]+@", "@", source)  # a digest says it all, and both refuse the two
    if tool == "crane":
        _run(["crane", "pull", "--format=oci", *_insecure(mirror, "--insecure"), source, str(to)])
    else:
        plain = _insecure(mirror, "--src-tls-verify=false")
        _run(["skopeo", "copy", "--all", *plain, f"docker://{source}", f"oci:{to}"])


def _push(tool: str, layout: Path, target: str) -> None:
    target = target.partition("@")[0]
    if tool == "crane":
        _run(["crane", "push", *_insecure(target, "--insecure"), str(layout), target])
    else:
        plain = _insecure(target, "--dest-tls-verify=false")
        _run(["skopeo", "copy", "--all", *plain, f"oci:{layout}", f"docker://{target}"])


def _insecure(registry: str, option: str) -> Iterable[str]:
    return [option] if re.match(r"(127\.|localhost)", registry) else []


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise UserError(
            f"`{' '.join(command)}` failed ({done.stderr.strip().splitlines()[-1:] or 'silent'}).",
            "Check the network and the name; the same command goes on from here.",
        )
