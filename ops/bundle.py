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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops import helm, kind
from ops.cluster import Cluster, Object
from ops.deploy import images_file, write_image_values
from ops.lock import locked
from ops.platform import Platform, Values, packages, vendors
from ops.render import images_of, render_all
from slipway.errors import Fault, UserError
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
    _need_crane()
    wanted = {release.vendor for release in platform.releases if release.vendor}
    helm.fetch_vendors(wanted)
    helm.build_dependencies({release.chart for release in platform.releases if release.chart})
    images = images_file(None)
    with tempfile.TemporaryDirectory() as scratch:
        ours = write_image_values(platform, Path(scratch), images)
        objects = render_all(platform, Path(scratch))
    if unpushed := sorted(role for role, image in ours.items() if not image.get("digest")):
        raise UserError(
            f"the images {', '.join(unpushed)} were built and not pushed: no registry has them.",
            "Run `make images PUSH=1`, or PUSH=HOST/PATH for a registry of yours.",
        )
    names = image_names(platform.profile, ours, objects)
    (folder / "charts").mkdir(parents=True, exist_ok=True)
    for chart in (vendors()[key] for key in sorted(wanted)):
        shutil.copy(packages() / f"{chart['name']}-{chart['version']}.tgz", folder / "charts")
    for number, name in enumerate(names, 1):
        target = folder / "images" / _slug(name)
        if not target.exists():
            say(f"image {number} of {len(names)}: {name}")
            with new_folder(target) as new:
                _pull(name, new / "layout", mirror)
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


def image_names(profile: str, ours: Values, objects: dict[str, list[Object]]) -> list[str]:
    """What images.lock names, controllers' images among it; ours; and what else `objects`, with
    the user's values in them, start."""
    names = {*locked(profile), *map(_name, ours.values())}
    known = {_full(name).partition("@")[0] for name in names}
    started = images_of([one for release in objects.values() for one in release])
    return sorted(names | {one for one in started if _full(one).partition("@")[0] not in known})


def use(folder: Path, cluster: Cluster, say: Say, mirror: str = "") -> None:
    """Bring the images of a checked bundle to the cluster: into kind's nodes, or to `mirror`. From
    here on, charts come from it."""
    facts = read_json(folder / MANIFEST)
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
        _need_crane()
        for name, layout in images.items():
            say(f"pushing {name} to {mirror}")
            _push(folder / layout, f"{mirror}/{_full(name)}")
    else:
        say("no MIRROR is named: the nodes must find the bundle's images by themselves")


def check(folder: Path, profile: str) -> None:
    """Raises `UserError` for a bundle that is unfinished, was changed, or is of another profile."""
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            "Make one with `make bundle BUNDLE=FOLDER`, to its end.",
        )
    facts: dict[str, Any] = read_json(folder / MANIFEST)
    if facts["profile"] != profile:
        raise UserError(
            f"{folder} was made for the profile {facts['profile']}, and this is {profile}.",
            f"Deploy with PROFILE={facts['profile']}, or make another bundle.",
        )
    for name, wanted in facts["sha256"].items():
        if not (folder / name).exists() or sha256(folder / name) != wanted:
            raise UserError(f"{folder / name} is missing or damaged.", "Copy the bundle anew.")


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


def _need_crane() -> None:
    if not shutil.which("crane"):
        raise UserError(
            "crane is not on PATH: it copies images without changing their digests.",
            "Install it: https://github.com/google/go-containerregistry",
        )


def _pull(name: str, to: Path, mirror: str) -> None:
    source = f"{mirror}/{_full(name)}" if mirror else name
    source = re.sub(r":[\w.-]+@", "@", source)  # a digest says it all, and crane refuses the two
    _crane("pull", "--format=oci", source, str(to))


def _push(layout: Path, target: str) -> None:
    _crane("push", str(layout), target.partition("@")[0])


def _crane(*args: str) -> None:
    try:
        done = subprocess.run(["crane", *args], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Fault(f"no end after {SECONDS} s: crane {' '.join(args)}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise Fault(
            f"`crane {' '.join(args)}` failed: {said[-1]}. Check the network and the name; the "
            "same command goes on from here."
        )
