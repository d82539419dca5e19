"""Install or upgrade the platform on one cluster: check everything first, then let helmfile work.

Can be repeated at any point: what is there already stays as it is, what a kill left half-way is
taken up again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ops import checks, helm, kind
from ops.cluster import Cluster, ClusterError
from ops.fit import check_fit
from ops.lease import exclusive
from ops.platform import ROOT, Platform, Values, image_values, packages
from ops.progress import Watch
from ops.render import reason, render_all
from slipway.errors import Fault, UserError
from slipway.files import read_json, write_json, write_text

SYSTEM = "slipway-system"
RECORD = "slipway-platform"
"""ConfigMap in the system's namespace: what was deployed, for `status` and `down`."""
STOP_SECONDS = 20
Say = Callable[[str], None]


class DeployError(Fault):
    """Not a mistake of the user's; the sentence says what is stuck and why."""


@dataclass
class Times:
    """Seconds by phase, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 1)


def state_folder(context: str) -> Path:
    """Where a deployment's files lie on this machine."""
    return ROOT / ".slipway" / "deploy" / re.sub(r"[^A-Za-z0-9._-]+", "-", context)


def deploy(
    cluster: Cluster,
    platform: Platform,
    say: Say,
    times: Times,
    bundle: Path | None = None,
    only: tuple[str, ...] = (),
) -> None:
    """Raises `UserError` before anything is touched, `DeployError` if something stays down."""
    state = state_folder(cluster.context)
    if unknown := set(only) - {release.name for release in platform.releases}:
        raise UserError(
            f"no release is called {', '.join(sorted(unknown))}.",
            f"Known are {', '.join(release.name for release in platform.releases)}.",
        )
    with times.phase("charts"):
        vendors = {release.vendor for release in platform.releases if release.vendor}
        for name in helm.fetch_vendors(vendors, offline=bundle is not None):
            say(f"fetched {name}")
        helm.build_dependencies({r.chart for r in platform.releases if r.chart})
        images = write_image_values(platform, state / "images", images_file(bundle))
        version = checks.version(cluster)
        objects = render_all(platform, state / "images", version)
        say(f"{len(objects)} releases render, {sum(map(len, objects.values()))} objects")
    with times.phase("checks"):
        checks.outside(cluster, platform)
        checks.kinds(cluster, objects)
        checks.hosts(platform, objects)
        checks.storage_class(cluster, objects)
        check_fit(cluster, objects)
    if kind.is_kind(cluster.context) and not bundle:
        with times.phase("images"):
            kind.load(cluster.context, images, say)
    with times.phase("releases"), exclusive(cluster, say) as renew:
        for name in helm.mend_pending(cluster, platform.releases):
            say(f"{name} was left half-way by an interrupted run: it is taken up again")
        _sync(cluster, platform, say, renew, only)
        _record(cluster, platform, images)


def images_file(bundle: Path | None) -> Path:
    """Where the images of this deployment are noted."""
    return (bundle or ROOT / ".slipway") / "images.json"


def write_image_values(platform: Platform, folder: Path, file: Path) -> Values:
    """One values file for each release that has images of ours; returns the images by role."""
    if not file.exists():
        raise UserError(f"{file} does not exist.", "Run `make images`.")
    images: Values = read_json(file)
    for release in platform.releases:
        if release.images:
            values = image_values(release, images)
            write_text(folder / f"{release.name}.yaml", yaml.safe_dump(values))
    return images


def _sync(
    cluster: Cluster, platform: Platform, say: Say, renew: Callable[[], None], only: tuple[str, ...]
) -> None:
    state = state_folder(cluster.context)
    log = state / "helmfile.log"
    environment = {"SLIPWAY_IMAGES": str(state / "images")}
    environment |= {"SLIPWAY_CHARTS": str(packages())}
    if platform.folder:
        environment["VALUES"] = str(platform.folder.resolve())
    watch = Watch(cluster, {SYSTEM, *(r.namespace for r in platform.releases)}, say, renew)
    process = helm.sync(cluster, platform.profile, environment, log, only)
    try:
        watch.start()
        while process.poll() is None:
            if watch.lost:
                raise watch.lost
            if watch.stuck:
                raise DeployError(f"{watch.stuck} It will not mend itself. {_again(log)}")
            time.sleep(0.5)
        if process.returncode:
            _explain(watch, log)
    finally:
        if _stop(process) and not watch.lost:  # else another deploy is at work
            helm.mend_pending(cluster, platform.releases)
        watch.stop()
    for name, spent in _spent(log.read_text(errors="replace")):
        say(f"{name} {spent}")


def _explain(watch: Watch, log: Path) -> None:
    """Raises with what Helm said, and with what is stuck."""
    text = log.read_text(errors="replace")
    said = [reason(line) for line in re.findall(r"^\s*Error: .+$", text, re.M)]
    try:
        watch.look()
        stuck = [str(problem) for problem in watch.last]
    except ClusterError as error:
        stuck = [f"the cluster does not answer ({error})"]
    why = "; ".join(dict.fromkeys(said)) or "helmfile failed"
    raise DeployError(" ".join([f"{why}.", *stuck[:5], _again(log)]))


def _again(log: Path) -> str:
    return f"Mend that and run the same command again. Helm's words: {log}"


def _stop(process: subprocess.Popen[bytes]) -> bool:
    """End helmfile and its Helms; whether they were still at work."""
    if process.poll() is not None:
        return False
    for number in (signal.SIGINT, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    return True


def _spent(text: str) -> list[tuple[str, str]]:
    """Releases and their seconds, from helmfile's closing table."""
    _, _, table = text.partition("Updated Releases")
    rows = [line.split() for line in table.splitlines()[2:]]
    return [(row[0], row[-1]) for row in rows if len(row) >= 4 and re.match(r"\d+[ms]", row[-1])]


def _record(cluster: Cluster, platform: Platform, images: Values) -> None:
    facts: dict[str, Any] = {
        "profile": platform.profile,
        "domain": platform.facts["domain"],
        "url": platform.facts["url"],
        "components": platform.facts["components"],
        "releases": [{"name": r.name, "namespace": r.namespace} for r in platform.releases],
        "images": images,
        "deployed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": RECORD,
            "namespace": SYSTEM,
            "labels": {"app.kubernetes.io/part-of": "slipway"},
        },
        "data": {"platform.json": json.dumps(facts, indent=2)},
    }
    cluster.kubectl("apply", "-f", "-", text=json.dumps(record))
    write_json(state_folder(cluster.context) / "platform.json", facts)


def deployed(cluster: Cluster) -> Values:
    """What the last deploy recorded; raises `UserError` where there was none."""
    found = recorded(cluster)
    if found is None:
        raise UserError(
            f"the platform is not deployed on '{cluster.context}'.", "Run `make deploy` first."
        )
    return found


def recorded(cluster: Cluster) -> Values | None:
    """What the last deploy recorded, or None."""
    record = cluster.one("configmap", RECORD, SYSTEM)
    found: Values | None = record and json.loads(record["data"]["platform.json"])
    return found
