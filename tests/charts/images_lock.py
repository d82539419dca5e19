"""`make images-lock` writes images.lock: every image that a cluster or a build of ours can pull.

Names come from what the charts render in every profile, also for controllers to start (KFP's driver
and launcher, argoexec, KServe's agent and storage initializer); from images/bases.env; and from
charts/kind.yaml. Digests come from the registries, for what has none yet: none is made up, and what
a registry did not tell stays empty.
"""

import sys
from typing import Any

import yaml

from ops import oci
from tests.charts import rules
from tests.charts.render import CHARTS, REGISTRY, ROOT, command, load, managed, profiles, render

LOCK = ROOT / "images.lock"
HEAD = """\
# Every image that a profile, a pipeline or a build can pull, but for ours: `make images` notes
# those in .slipway/images.json. Written by `make images-lock`, names from the rendered charts,
# digests from the registries. An empty one could not be asked for; the next call asks again.
"""
UPSTREAM_DENIED = {
    # name: since when, and why
    "docker.io/minio/": "2025-10: no images are published any more",
    "quay.io/minio/": "2025-10: no images are published any more",
    "docker.io/bitnami/": "2025-08: moved to bitnamilegacy, without updates",
    "docker.io/bitnamilegacy/": "2025-08: no updates",
    "gcr.io/ml-pipeline/": "2025-03: Container Registry was shut down; ghcr.io/kubeflow has them",
    "registry.k8s.io/ingress-nginx/": "2026-03: the project is retired",
    "gcr.io/kubebuilder/": "2025-03: Container Registry was shut down",
}


def of_release(release: str, profile: str) -> set[str]:
    return set(rules.images(render(release, profile)))


def of_builds() -> dict[str, str]:
    """Images that are in no chart, with the file that names them."""
    lines = (ROOT / "images" / "bases.env").read_text().splitlines()
    found = {line.split("=")[1]: "images/bases.env" for line in lines if not line.startswith("#")}
    for node in load(CHARTS / "kind.yaml")["nodes"]:
        found[rules.full(node["image"])] = "charts/kind.yaml"
    return found


def named() -> dict[str, set[tuple[str, str]]]:
    """Every image of others, and what names it: release and profile, or a file."""
    found: dict[str, set[tuple[str, str]]] = {}
    for profile in profiles():
        for release in managed(profile):
            for image in of_release(release, profile):
                found.setdefault(image, set()).add((release, profile))
    for image, place in of_builds().items():
        found.setdefault(image, set()).add((place, ""))
    return {image: by for image, by in found.items() if not image.startswith(f"{REGISTRY}/")}


def refused(image: str) -> str:
    """Why an image must not be used; empty for one that may."""
    name, tag, digest = rules.parts(image)
    if not tag and not digest:
        return f"{image} has neither tag nor digest"
    if tag == "latest":
        return f"{image}: what `latest` is changes"
    for start, why in UPSTREAM_DENIED.items():
        if f"{name}/".startswith(start):
            return f"{image}: {why}"
    return ""


def locked() -> dict[str, dict[str, Any]]:
    """The entries of images.lock by the name of their image."""
    return {one["name"]: one for one in load(LOCK)["images"]} if LOCK.exists() else {}


def main() -> int:
    old, silent = locked(), {}
    entries = []
    for image, by in sorted(named().items()):
        if why := refused(image):
            places = ", ".join(sorted({place for place, _ in by}))
            print(f"images-lock: {why}; named by {places}", file=sys.stderr)
            return 2
        name = image.partition("@")[0]
        digest = rules.parts(image)[2] or old.get(name, {}).get("digest", "")
        host = image.split("/")[0]
        if not digest and host not in silent:
            try:
                digest = oci.digest(image)
            except oci.RegistryError as error:
                silent[host] = str(error)
        places, used = ({one[i] for one in by if one[i]} for i in (0, 1))
        entries.append(
            {"name": name, "digest": digest, "from": sorted(places), "profiles": sorted(used)}
        )
    text = yaml.safe_dump({"images": entries}, sort_keys=False, default_flow_style=None, width=200)
    LOCK.write_text(HEAD + text)
    known = sum(bool(one["digest"]) for one in entries)
    print(f"{LOCK.name}: {len(entries)} images, {known} with a digest")
    for why in silent.values():
        print(f"  not asked: {why}")
    return 0


if __name__ == "__main__":
    command("images-lock", main)
