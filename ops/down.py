"""Take the platform off a cluster, in the order in which nothing gets stuck."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from ops import helm
from ops.cluster import Cluster, ClusterError, Object, wait
from ops.lease import NAME as LEASE
from ops.lease import wait_until_free
from ops.platform import Release
from slipway.helm import MODELS_DRIVER
from slipway.helm import helm as run_helm

SECONDS = 180
FOUNDATION = "foundation"
STORAGE = "storage"
"""Release and namespace: Helm would delete its volumes with it."""
FIRST = (
    # What a controller cleans up after: gone while the controller still runs.
    "rayjobs.ray.io",
    "rayclusters.ray.io",
    "inferenceservices.serving.kserve.io",
    "workflows.argoproj.io",
    "scheduledworkflows.kubeflow.org",
)
GROUPS = {
    "gateway": ("gateway.networking.k8s.io", "traefik.io", "hub.traefik.io"),
    "kuberay": ("ray.io",),
    "prometheus-operator": ("monitoring.coreos.com",),
}
"""API groups of the kinds that a component's charts have in `crds/`, where Helm notes nothing."""
CARRIERS = {
    "gateway-api-crds": {"gateway.networking.k8s.io"},
    "kserve-crd": {"serving.kserve.io"},
}
"""Releases of kinds alone: Helm would delete the kinds with everybody's objects."""
HELM_NAME, HELM_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
Say = Callable[[str], None]


def down(
    cluster: Cluster, releases: Sequence[Release], say: Say, keep_data: bool = False
) -> list[str]:
    """Remove these releases and all that came of them; returns what was kept. Can be repeated at
    any point. Raises `UserError` while a deploy is at work.

    With `keep_data` the volumes stay, with their stores, which are stopped, and the namespaces and
    passwords that they need: the next deploy goes on with all of it.
    """
    wait_until_free(cluster, say)
    helm.mend_pending(cluster, releases)
    installed = helm.releases(cluster)
    namespaces = {one.namespace for one in releases} - {"kube-system"}
    namespaces |= {
        one["metadata"]["name"]
        for one in cluster.get("namespaces", selector="app.kubernetes.io/part-of=slipway")
    }
    for kind in FIRST:
        _delete_all(cluster, kind, namespaces, say)
    for one in helm.models(cluster):
        _uninstall(cluster, one["name"], helm.MODELS, say, MODELS_DRIVER)
    _delete_all(cluster, "inferenceservices.serving.kserve.io", namespaces, say)
    kinds = _kinds(cluster, releases)
    foreign = _used_elsewhere(cluster, kinds, namespaces)
    kept = [
        f"the kinds of {group}: used in {', '.join(sorted(by))}"
        for group, by in sorted(foreign.items())
    ]
    names = {(one["name"], one["namespace"]) for one in installed}
    kept_releases = {FOUNDATION, STORAGE} if keep_data else {FOUNDATION}
    kept_releases |= {name for name, groups in CARRIERS.items() if foreign.keys() & groups}
    for release in reversed(releases):
        if release.name not in kept_releases and (release.name, release.namespace) in names:
            _uninstall(cluster, release.name, release.namespace, say)
    _delete_kinds(cluster, [one for one in kinds if one["spec"]["group"] not in foreign], say)
    cluster.kubectl("delete", "lease", LEASE, "--namespace", "kube-system", "--ignore-not-found")
    if keep_data:
        _stop(cluster, STORAGE, say)
        return [*_claims(cluster, namespaces), *kept, "the namespaces, and the passwords in them"]
    volumes = _volumes(cluster, namespaces)
    if (FOUNDATION, "kube-system") in names:
        _uninstall(cluster, FOUNDATION, "kube-system", say)
    _delete_namespaces(cluster, namespaces, say)
    return [*_left(cluster, volumes), *kept]


def _uninstall(
    cluster: Cluster, name: str, namespace: str, say: Say, driver: str = "secret"
) -> None:
    say(f"uninstalling {namespace}/{name}")
    run_helm(
        *("uninstall", name, "--kube-context", cluster.context, "--namespace", namespace),
        *("--ignore-not-found", "--wait", "--timeout", f"{SECONDS}s"),
        timeout=SECONDS + 30,
        driver=driver,
    )


def _stop(cluster: Cluster, namespace: str, say: Say) -> None:
    for one in cluster.get("statefulsets", namespace=namespace):
        say(f"stopping {namespace}/{one['metadata']['name']}")
        name = one["metadata"]["name"]
        cluster.kubectl(
            *("scale", "statefulset", name, "--namespace", namespace, "--replicas=0"),
        )


def _delete_all(cluster: Cluster, kind: str, namespaces: Iterable[str], say: Say) -> None:
    """Objects of a kind in our namespaces; where their controller is gone, without its blessing."""
    if not cluster.knows(kind):
        return
    for namespace in sorted(namespaces):
        found = cluster.get(kind, namespace=namespace)
        if not found:
            continue
        say(f"deleting {len(found)} {kind} in {namespace}")
        try:
            cluster.kubectl(
                *("delete", kind, "--all", "--namespace", namespace, "--timeout=60s"), timeout=90
            )
        except ClusterError:
            for one in cluster.get(kind, namespace=namespace):
                name = one["metadata"]["name"]
                say(f"{kind} {namespace}/{name} waits for a controller that is gone: finalizers go")
                _drop_finalizers(cluster, kind, namespace, name)


def _drop_finalizers(cluster: Cluster, kind: str, namespace: str, name: str) -> None:
    patch = json.dumps({"metadata": {"finalizers": None}})
    try:
        cluster.kubectl(
            *("patch", kind, name, "--namespace", namespace, "--type=merge", f"--patch={patch}")
        )
    except ClusterError as error:
        if "NotFound" not in str(error):
            raise


def _kinds(cluster: Cluster, releases: Iterable[Release]) -> list[Object]:
    """CRDs that these releases brought: as Helm noted, or, where a chart has them beside its
    templates and Helm notes nothing, by their API group."""
    releases = list(releases)
    places = {(one.name, one.namespace) for one in releases}
    groups = {group for one in releases for group in GROUPS.get(one.component, ())}

    def is_ours(crd: Object) -> bool:
        notes = crd["metadata"].get("annotations", {})
        if HELM_NAME in notes:
            return (notes[HELM_NAME], notes.get(HELM_NAMESPACE)) in places
        return crd["spec"]["group"] in groups

    return [crd for crd in cluster.get("crds") if is_ours(crd)]


def _used_elsewhere(
    cluster: Cluster, kinds: Iterable[Object], namespaces: set[str]
) -> dict[str, set[str]]:
    """API groups of which there are objects in namespaces that are not ours, and those."""
    names = [crd["metadata"]["name"] for crd in kinds]
    found: dict[str, set[str]] = {}
    for one in cluster.get(",".join(names)) if names else ():
        namespace = one["metadata"].get("namespace")
        if namespace and namespace not in namespaces:
            found.setdefault(one["apiVersion"].partition("/")[0], set()).add(namespace)
    return found


def _delete_kinds(cluster: Cluster, kinds: Iterable[Object], say: Say) -> None:
    gone = [crd["metadata"]["name"] for crd in kinds]
    if gone:
        say(f"deleting {len(gone)} kinds")
        cluster.kubectl("delete", "crd", *gone, "--ignore-not-found", "--timeout=120s", timeout=150)


def _claims(cluster: Cluster, namespaces: set[str]) -> list[str]:
    return [
        f"volume {one['metadata']['namespace']}/{one['metadata']['name']} "
        f"({one['spec']['resources']['requests']['storage']})"
        for one in cluster.get("persistentvolumeclaims")
        if one["metadata"]["namespace"] in namespaces
    ]


def _volumes(cluster: Cluster, namespaces: set[str]) -> set[str]:
    return {
        one["metadata"]["name"]
        for one in cluster.get("persistentvolumes")
        if one["spec"].get("claimRef", {}).get("namespace") in namespaces
    }


def _delete_namespaces(cluster: Cluster, namespaces: set[str], say: Say) -> None:
    there = {one["metadata"]["name"] for one in cluster.get("namespaces")} & namespaces
    if not there:
        return
    say(f"deleting the namespaces {', '.join(sorted(there))}")
    cluster.kubectl("delete", "namespace", *sorted(there), "--wait=false", "--ignore-not-found")
    left = there
    for _ in wait(SECONDS, pause=2):
        left = {one["metadata"]["name"] for one in cluster.get("namespaces")} & there
        if not left:
            return
    why = []
    for one in cluster.get("namespaces"):
        if one["metadata"]["name"] in left:
            texts = [
                c["message"] for c in one["status"].get("conditions", []) if c["status"] == "True"
            ]
            why.append(f"{one['metadata']['name']} ({' '.join(texts)})")
    raise ClusterError(f"still there after {SECONDS} s: {'; '.join(why)}")


def _left(cluster: Cluster, volumes: set[str]) -> list[str]:
    """Volumes of ours whose class keeps them; the others go a little after their claims."""
    left: set[str] = set()
    for _ in wait(60, pause=2):
        found = cluster.get("persistentvolumes")
        left = {one["metadata"]["name"] for one in found} & volumes
        retained = {
            one["metadata"]["name"]
            for one in found
            if one["spec"].get("persistentVolumeReclaimPolicy") == "Retain"
        }
        if left <= retained:
            break
    return [f"volume {name}: its storage class retains it" for name in sorted(left)]
