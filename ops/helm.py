"""Helm and helmfile: packages of charts, and releases that an interrupted run left half-way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ops.cluster import Cluster
from ops.platform import CHARTS, Release, Values, packages, vendors
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.helm import MODELS_DRIVER, HelmError, helm

SUMS = "SHA256SUMS.json"
"""In the folder of packages: the first fetch's sums, where third-party.yaml could pin none."""
PENDING = ("pending-install", "pending-upgrade", "pending-rollback")
MODELS = "models"
"""Namespace of the models that serve."""


def fetch_vendors(wanted: set[str], offline: bool = False) -> list[str]:
    """Have the packages of these third-party charts, whole and as pinned; says what was fetched."""
    folder, fetched = packages(), []
    folder.mkdir(parents=True, exist_ok=True)
    for key in sorted(wanted):
        chart = vendors().get(key)
        if chart is None:
            raise UserError(f"charts/third-party.yaml has no chart '{key}'.", "Add it.")
        file = folder / f"{chart['name']}-{chart['version']}.tgz"
        if file.exists():
            continue
        if offline or os.environ.get("SLIPWAY_CHARTS"):
            raise UserError(
                f"{folder} lacks {file.name}.",
                "Make the bundle anew with `make bundle`, or put the package there.",
            )
        _fetch(chart, file)
        fetched.append(file.name)
    return fetched


def _fetch(chart: Values, file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        new = Path(scratch)
        if "manifest" in chart:
            got = _wrapped(chart, new)
        else:
            got = _pulled(chart, new)
            _check_sum(chart, got, file.parent)
        os.replace(got, file)


def _pulled(chart: Values, folder: Path) -> Path:
    name, repository = chart["name"], chart["repository"]
    oci = repository.startswith("oci://")
    what = [f"{repository}/{name}"] if oci else [name, "--repo", repository]
    try:
        helm("pull", *what, "--version", chart["version"], "--destination", str(folder))
    except HelmError as error:
        raise UserError(
            f"the chart {name} {chart['version']} cannot be fetched from {repository} ({error}).",
            "Check the network, or deploy from a bundle: BUNDLE=FOLDER.",
        ) from None
    return next(folder.glob("*.tgz"))


def _wrapped(chart: Values, folder: Path) -> Path:
    """A manifest that upstream releases as a file, packed into our chart for it."""
    source = folder / "chart"
    shutil.copytree(CHARTS / chart["wrap"], source)
    try:
        with urllib.request.urlopen(chart["manifest"], timeout=60) as answer:  # noqa: S310 (https)
            content = answer.read()
    except OSError as error:
        raise UserError(
            f"{chart['manifest']} cannot be fetched ({error}).",
            "Check the network, or deploy from a bundle: BUNDLE=FOLDER.",
        ) from None
    _expect(chart, hashlib.sha256(content).hexdigest(), chart["sha256"])
    (source / "standard-install.yaml").write_bytes(content)
    helm("package", str(source), "--destination", str(folder))
    return next(folder.glob("*.tgz"))


def _check_sum(chart: Values, file: Path, folder: Path) -> None:
    """As pinned; where no sum could be pinned, as at the first fetch on this machine."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if chart["sha256"]:
        _expect(chart, found, chart["sha256"])
        return
    kept: dict[str, str] = read_json(folder / SUMS) if (folder / SUMS).exists() else {}
    known = kept.setdefault(f"{chart['name']}-{chart['version']}", found)
    _expect(chart, found, known)
    write_json(folder / SUMS, kept)


def _expect(chart: Values, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(
            f"the chart {chart['name']} {chart['version']} has the SHA-256 {found}, not {wanted}.",
            "Somebody changed it: find out who, before you install it.",
        )


def build_dependencies(charts: set[str]) -> None:
    """Put the library chart into each of our charts that was changed since it was put there."""
    newest = max(file.stat().st_mtime for file in (CHARTS / "common").rglob("*") if file.is_file())
    for name in sorted(charts):
        folder = CHARTS / name
        if not (folder / "Chart.yaml").exists():
            raise UserError(f"{folder} is no chart.", "Restore it: `git checkout charts`.")
        packed = list((folder / "charts").glob("common-*.tgz"))
        if not packed or packed[0].stat().st_mtime < newest:
            helm("dependency", "build", "--skip-refresh", str(folder))


def releases(cluster: Cluster) -> list[dict[str, Any]]:
    """Every release of the cluster: name, namespace, status, chart, revision, updated."""
    found: list[dict[str, Any]] = json.loads(
        helm(
            *("list", "--kube-context", cluster.context, "--all-namespaces"),
            *("--all", "--max", "0", "--output", "json"),
        )
    )
    return found


def models(cluster: Cluster) -> list[dict[str, Any]]:
    """Releases of charts/model: pipelines install them, and keep no secrets."""
    found: list[dict[str, Any]] = json.loads(
        helm(
            *("list", "--kube-context", cluster.context, "--namespace", MODELS),
            *("--all", "--max", "0", "--output", "json"),
            driver=MODELS_DRIVER,
        )
    )
    return found


def pending(cluster: Cluster) -> set[str]:
    """Names of the releases that a Helm is at work on, or was when it was killed."""
    selector = f"owner=helm,status in ({','.join(PENDING)})"
    return {one["metadata"]["labels"]["name"] for one in cluster.get("secrets", selector=selector)}


def mend_pending(cluster: Cluster, ours: Iterable[Release]) -> list[str]:
    """Free those of our releases that a killed Helm left locked; says which.

    The record of the unfinished revision goes, what it made stays: the next upgrade adopts it.
    """
    places = {(one.name, one.namespace) for one in ours}
    mended = []
    for release in releases(cluster):
        if release["status"] not in PENDING:
            continue
        if (release["name"], release["namespace"]) not in places:
            continue  # somebody else's Helm may be at work on it
        name, revision = release["name"], release["revision"]
        record = f"sh.helm.release.v1.{name}.v{revision}"
        cluster.kubectl(
            *("delete", "secret", record, "--namespace", release["namespace"]),
            "--ignore-not-found",
        )
        mended.append(f"{release['namespace']}/{name}")
    return mended


def sync(
    cluster: Cluster,
    profile: str,
    environment: Mapping[str, str],
    log: Path,
    only: tuple[str, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start `helmfile sync`; its words go to the file `log`."""
    selectors = [part for name in only for part in ("--selector", f"name={name}")]
    command = [
        *("helmfile", "--file", str(CHARTS / "helmfile.yaml.gotmpl"), "--no-color"),
        *("--environment", profile, *selectors),
        *("sync", "--skip-deps", "--concurrency", "4"),
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        try:
            # A group of its own: Ctrl-C reaches it through us, with time to put a lock right.
            return subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **os.environ,
                    "CONTEXT": cluster.context,
                    "SLIPWAY_PYTHON": sys.executable,
                    **environment,
                },
            )
        except FileNotFoundError:
            raise UserError(
                "helmfile is not on PATH.", "Run `slipway doctor`, or install it."
            ) from None
