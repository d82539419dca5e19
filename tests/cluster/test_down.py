"""Taking the platform off a cluster leaves nothing of it, or says what."""

import pytest

from ops.platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CLUSTER_WIDE = (
    "clusterroles,clusterrolebindings,crds,gatewayclasses,priorityclasses,"
    "mutatingwebhookconfigurations,validatingwebhookconfigurations"
)
NAMES = (
    "slipway", "kserve", "kuberay", "traefik", "prometheus", "grafana", "kubeflow", "mlflow",
    "mariadb", "valkey", "seaweedfs", "argo", "monitoring", "gateway", "kube-state-metrics",
)  # fmt: skip
NAMESPACES = {release.namespace for release in Platform.load("laptop").releases}
NAMESPACES = NAMESPACES - {"kube-system"} | {"models", "slipway-system"}
KINDS = {
    "gateway.networking.k8s.io", "traefik.io", "hub.traefik.io", "serving.kserve.io", "ray.io",
    "monitoring.coreos.com", "argoproj.io", "pipelines.kubeflow.org", "kubeflow.org",
}  # fmt: skip


def left(cluster):
    """Objects of ours, by what they are called; a volume, by whose it was."""
    kinds = CLUSTER_WIDE if cluster.knows("gatewayclasses.gateway.networking.k8s.io") else (
        CLUSTER_WIDE.replace("gatewayclasses,", "")
    )  # fmt: skip
    found = {f"{one['kind']} {one['metadata']['name']}" for one in cluster.get(kinds)}
    inside = cluster.get("services,secrets,configmaps,roles,rolebindings,leases,endpointslices",
                         namespace="kube-system")  # fmt: skip
    found |= {f"{one['kind']} kube-system/{one['metadata']['name']}" for one in inside}
    ours = {one for one in found if any(name in one.lower() for name in NAMES)}
    ours = {one for one in ours if " system:" not in one}  # Kubernetes' own
    spaces = {one["metadata"]["name"] for one in cluster.get("namespaces")} & NAMESPACES
    volumes = {
        one["metadata"]["name"]
        for one in cluster.get("persistentvolumes")
        if one["spec"].get("claimRef", {}).get("namespace") in NAMESPACES
    }
    return ours | spaces | volumes


def test_keep_data_leaves_the_volumes_and_says_which(platform, slipway, cluster):
    claims = {one["metadata"]["uid"] for one in cluster.get("persistentvolumeclaims")}
    done = slipway("down", KEEP="data")
    assert done.returncode == 0, done.stderr
    assert "kept: volume storage/" in done.stdout
    kept = {one["metadata"]["uid"] for one in cluster.get("persistentvolumeclaims")}
    assert kept
    assert kept <= claims
    for namespace in ("kubeflow", "mlflow", "models", "kserve", "gateway"):
        assert not cluster.get("pods,deployments", namespace=namespace), namespace


def test_down_leaves_nothing(slipway, cluster):
    done = slipway("down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left(cluster)
    kinds = {one["spec"]["group"] for one in cluster.get("crds")}
    assert not kinds & KINDS


def test_down_on_an_empty_cluster_is_no_error(slipway):
    done = slipway("down")
    assert done.returncode == 0, done.stderr


def test_a_store_of_ones_own_without_its_passwords_is_one_sentence(slipway, values, cluster):
    """And what the first try left does not stand in the way of the second."""
    folder = values("foundation", {"database": {"host": "db.example.com", "given": True}})
    done = slipway("deploy", "--only", "foundation", values=folder)
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert "slipway-passwords" in told
    assert "mariadb-root" in told
    done = slipway("deploy", "--only", "foundation")
    assert done.returncode == 0, done.stderr
    assert slipway("down").returncode == 0
    assert not left(cluster)
