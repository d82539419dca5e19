"""What would be installed, without a cluster: every release rendered, before anything is touched.

A wrong value is found here, so that no install stops half-way for it.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from ops.platform import CHARTS, Platform, Release, packages, vendors
from slipway.errors import UserError
from slipway.helm import HelmError, helm

KUBERNETES = "1.34.0"
"""What charts are rendered for where no cluster tells its own version."""


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a bare `=` (a matcher of Alertmanager's) is a string."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def chart_of(release: Release) -> Path:
    """Folder or package of a release's chart."""
    if release.chart:
        return CHARTS / release.chart
    chart = vendors()[release.vendor]
    return packages() / f"{chart['name']}-{chart['version']}.tgz"


def render_all(
    platform: Platform, images: Path | None = None, version: str = KUBERNETES
) -> dict[str, list[dict[str, Any]]]:
    """Objects of every release. Raises `UserError` for the first that cannot be rendered.

    `images` is the folder of generated values files.
    """
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda one: render(platform, one, images, version), platform.releases)
        return dict(zip((release.name for release in platform.releases), found, strict=True))


def render(
    platform: Platform, release: Release, images: Path | None = None, version: str = KUBERNETES
) -> list[dict[str, Any]]:
    files = platform.value_files(release.name, images)
    command = [
        *("template", release.name, str(chart_of(release))),
        *("--namespace", release.namespace, "--include-crds", "--kube-version", version),
        *(part for file in files for part in ("--values", str(file))),
    ]
    if renderer := platform.facts.get("postRenderers", {}).get(release.name):
        command += ["--post-renderer", str(CHARTS / "post-renderers" / renderer)]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            text = helm(*command, cwd=Path(scratch))
        except HelmError as error:
            raise UserError(
                f"{release.name} cannot be rendered: {reason(str(error))}.",
                f"Correct {_places(platform, release)}.",
            ) from None
    return [one for one in yaml.load_all(text, _Loader) if one]


def reason(text: str) -> str:
    """Helm's many lines as one sentence: what the schema or the chart says, without the stack."""
    text = text.replace("Use --debug flag to render out invalid YAML", "").strip()
    _, schema, wrong = text.partition("schema(s)")
    if schema and (found := re.findall(r"^- (.+)$", wrong, re.M)):
        return "; ".join(_value(line) for line in found)
    if said := re.search(r"(?:error calling fail|execution error at \([^)]*\)): (.+)", text, re.S):
        return " ".join(said[1].split()).rstrip(".")
    lines = [line for line in text.splitlines() if line and not line.startswith("WARNING")]
    last = next((line for line in lines if line.startswith("Error:")), lines[-1] if lines else "")
    return " ".join(last.removeprefix("Error:").split()).rstrip(".")


def _value(line: str) -> str:
    """`at '/a/b': got string, want object` and `a.b: Invalid type` in the words of values files."""
    if found := re.match(r"at '(.*?)': (.+)", line):
        place = found[1].strip("/").replace("/", ".")
        return f"{place}: {found[2]}" if place else found[2]
    return line.removeprefix("(root): ")


def _places(platform: Platform, release: Release) -> str:
    files = platform.value_files(release.name)
    mine = [file for file in files if platform.folder and file.parent == platform.folder]
    named = [str(file) if file in mine else str(file.relative_to(CHARTS.parent)) for file in files]
    return " or ".join(reversed(named)) or f"the values of {release.name}"


def images_of(objects: list[dict[str, Any]]) -> set[str]:
    """Names of all images that these objects start by themselves."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key in ("containers", "initContainers"):
                for container in value.get(key) or ():
                    if isinstance(container, dict) and isinstance(container.get("image"), str):
                        found.add(container["image"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for one in objects:
        if one.get("kind") != "CustomResourceDefinition":
            walk(one)
    return found
