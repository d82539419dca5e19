"""Charts as Helm renders them, without a cluster.

    template("storage", {"mariadb": {"enabled": False}})   one chart with values: its objects
    fails("storage", {"mariadb": {"enable": False}})       the sentence that refuses them
    render("storage", "laptop")                            a release, as a profile installs it

Values given here come last, as a user's own do. What Helm answers is kept for the process.
"""

import copy
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
KUBE_VERSION = "1.34.0"
# What a cluster offers once the releases before ours are in it; templates ask through Capabilities.
API_VERSIONS = (
    "gateway.networking.k8s.io/v1",
    "monitoring.coreos.com/v1",
    "policy/v1/PodDisruptionBudget",
    "ray.io/v1",
    "serving.kserve.io/v1alpha1",
    "serving.kserve.io/v1beta1",
    "traefik.io/v1alpha1",
)
REGISTRY, TAG = "ghcr.io/slipway", "0123456789ab"
"""What our own images are called here; `make deploy` says it to Helm in the same way."""


# As Kubernetes reads YAML: a lone `=` is a text.
yaml.CSafeLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def template(
    chart: str | Path,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "",
    namespace: str = "default",
    files: Sequence[Path] = (),
    kube_version: str = KUBE_VERSION,
    api_versions: Sequence[str] = API_VERSIONS,
    post_renderer: str = "",
) -> list[dict[str, Any]]:
    """The objects of a chart, a folder of charts/ or a path; `files` are values files, in order."""
    done = _helm(
        str(chart),
        json.dumps(values or {}),
        release or Path(chart).name,
        namespace,
        tuple(map(str, files)),
        kube_version,
        tuple(api_versions),
        post_renderer,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return copy.deepcopy(_objects(done.stdout))


def fails(chart: str | Path, values: Mapping[str, Any] | None = None, **how: Any) -> str:
    """What Helm says when it refuses these values."""
    try:
        template(chart, values, **how)
    except AssertionError as refused:
        return str(refused)
    raise AssertionError(f"{chart} renders with {json.dumps(values or {})}")


def render(
    release: str, profile: str, values: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The objects of a release of charts/releases.yaml, as a profile installs it."""
    wanted = releases()[release]
    ours = {}
    for path, role in wanted.get("images", {}).items():
        ours = merged(ours, nested(path, {"repository": f"{REGISTRY}/{role}", "tag": TAG}))
    return template(
        package(wanted["vendor"]) if "vendor" in wanted else wanted["chart"],
        merged(ours, values or {}),
        release=release,
        namespace=wanted["namespace"],
        files=values_files(release, profile),
        post_renderer=profile_of(profile).get("postRenderers", {}).get(release, ""),
    )


def releases() -> dict[str, dict[str, Any]]:
    """What charts/releases.yaml lists, by name."""
    return {release["name"]: release for release in load(CHARTS / "releases.yaml")["releases"]}


def managed(profile: str) -> list[str]:
    """The releases that a profile installs."""
    components = profile_of(profile)["components"]
    return [
        name
        for name, release in releases().items()
        if components[release["component"]].get("managed")
    ]


def fetched(profile: str) -> list[str]:
    """Those of them whose charts are here: ours, and of others what `make charts` has brought."""
    known = releases()
    return [
        name
        for name in managed(profile)
        if "vendor" not in known[name] or _package(known[name]["vendor"]).exists()
    ]


def profiles() -> list[str]:
    return sorted(path.parent.name for path in CHARTS.glob("profiles/*/profile.yaml"))


def profile_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load(CHARTS / "profiles" / name / "profile.yaml")
    return found


def package(vendor: str) -> Path:
    """The chart of a third party, as `make charts` fetched it; without it the test is skipped."""
    found = _package(vendor)
    if not found.exists():
        pytest.skip(f"{found.name} was not fetched: run `make charts`")
    return found


def _package(vendor: str) -> Path:
    chart = load(CHARTS / "third-party.yaml")["charts"][vendor]
    folder = Path(os.environ.get("SLIPWAY_CHARTS") or ROOT / ".slipway" / "charts")
    return folder / f"{chart['name']}-{chart['version']}.tgz"


def values_files(release: str, profile: str) -> list[Path]:
    """The values files of a release that there are, in the order in which they count."""
    both = [CHARTS / "profiles" / folder / f"{release}.yaml" for folder in ("common", profile)]
    return [path for path in both if path.exists()]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Helm lays them over each other."""
    both = dict(below)
    for name, value in above.items():
        old = both.get(name)
        deeper = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[name] = merged(old, value) if deeper else value
    return both


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value, as {a: {b: value}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), yaml.CSafeLoader)


def command(name: str, main: Callable[..., int]) -> NoReturn:
    """Run the writer of a file as a program; what skips a test, such as no helm, ends it."""
    try:
        sys.exit(main(*sys.argv[1:]))
    except pytest.skip.Exception as lacking:
        print(f"{name}: {lacking}", file=sys.stderr)
        sys.exit(2)


@functools.cache
def helm() -> str:
    """Helm, from the variable HELM or the PATH; without it the test is skipped, and says so."""
    found = os.environ.get("HELM") or shutil.which("helm")
    if not found:
        pytest.skip("no helm: put it on the PATH, or name it in HELM")
    return found


@functools.cache
def _objects(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]


@functools.cache
def _helm(
    chart: str,
    values: str,
    release: str,
    namespace: str,
    files: tuple[str, ...],
    kube_version: str,
    api_versions: tuple[str, ...],
    post_renderer: str,
) -> subprocess.CompletedProcess[str]:
    folder = CHARTS / chart
    command = [helm(), "template", release, str(folder), "--namespace", namespace, "--include-crds"]
    command += ["--kube-version", kube_version]
    command += [word for version in api_versions for word in ("--api-versions", version)]
    command += [word for file in files for word in ("--values", file)]
    if post_renderer:
        if not shutil.which("kubectl"):
            pytest.skip("no kubectl: the post-renderer of KServe's chart uses its kustomize")
        command += ["--post-renderer", str(CHARTS / "post-renderers" / post_renderer)]
    with _dependencies(folder):
        return subprocess.run(
            [*command, "--values", "-"], input=values, capture_output=True, text=True, timeout=120
        )


@contextmanager
def _dependencies(chart: Path) -> Iterator[None]:
    """While held, the dependencies are there, as new as their sources; others may work beside."""
    if not (chart / "Chart.lock").exists():
        yield
        return
    state = ROOT / ".slipway"
    state.mkdir(exist_ok=True)
    with (state / "charts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _stale(chart):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _stale(chart):  # another process may have been faster
                command = [helm(), "dependency", "build", "--skip-refresh", str(chart)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, done.stderr
        yield


def _stale(chart: Path) -> bool:
    """Is one of the chart's dependencies not there, or older than the files that it is made of?"""
    for needed in load(chart / "Chart.yaml").get("dependencies", []):
        built = chart / "charts" / f"{needed['name']}-{needed['version']}.tgz"
        if not built.exists():
            return True
        source = chart / needed["repository"].removeprefix("file://")
        newest = max(path.stat().st_mtime for path in (chart / "Chart.lock", *source.rglob("*")))
        if built.stat().st_mtime < newest:
            return True
    return False
