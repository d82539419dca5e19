"""Taking the platform off a cluster that others use as well leaves them what they use."""

import pytest

from ops import down
from ops.platform import Platform


def crd(name, release="", namespace=""):
    notes = {down.HELM_NAME: release, down.HELM_NAMESPACE: namespace} if release else {}
    return {
        "metadata": {"name": name, "annotations": notes},
        "spec": {"group": name.partition(".")[2]},
    }


ROUTES = crd("httproutes.gateway.networking.k8s.io", "gateway-api-crds", "gateway")
CLASSES = crd("gatewayclasses.gateway.networking.k8s.io", "gateway-api-crds", "gateway")
SERVICES = crd("inferenceservices.serving.kserve.io", "kserve-crd", "kserve")
WORKFLOWS = crd("workflows.argoproj.io", "kfp", "kubeflow")
RAY = crd("rayjobs.ray.io")
OURS = (ROUTES, CLASSES, SERVICES, WORKFLOWS, RAY)
THEIRS = (
    crd("backups.example.com"),
    crd("applications.argoproj.io"),  # Argo CD's, of the same group as ours
    crd("podmonitors.monitoring.coreos.com", "their-prometheus", "watch"),
)


class Cluster:
    """Kinds, and an HTTPRoute in each of `spaces`; notes what is deleted."""

    context = "team"

    def __init__(self, *spaces):
        self.spaces, self.deleted = spaces, []

    def get(self, kinds, *names, namespace=None, selector=""):
        if kinds == "crds":
            return [*OURS, *THEIRS]
        if kinds == "namespaces":
            return [{"metadata": {"name": "models"}, "status": {}}] * bool(selector)
        if kinds.startswith("httproutes"):
            route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
            gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass"}
            return [
                {**gateway, "metadata": {"name": "traefik"}},
                *({**route, "metadata": {"name": "r", "namespace": one}} for one in self.spaces),
            ]
        return []

    def one(self, *of):
        return None

    def knows(self, crd):
        return False

    def kubectl(self, *args, **more):
        if args[:2] == ("delete", "crd"):
            self.deleted += [arg for arg in args[2:] if not arg.startswith("--")]
        return ""


@pytest.fixture
def taken(monkeypatch):
    """Takes the laptop profile off a cluster; returns what Helm uninstalls, and what is kept."""

    def run(cluster, **how):
        releases = Platform.load("laptop").releases
        uninstalled = []
        there = [{"name": one.name, "namespace": one.namespace} for one in releases]
        monkeypatch.setattr(down.helm, "mend_pending", lambda cluster, ours: [])
        monkeypatch.setattr(down.helm, "releases", lambda cluster: there)
        monkeypatch.setattr(down.helm, "models", lambda cluster: [{"name": "age"}])
        monkeypatch.setattr(down, "run_helm", lambda *args, **more: uninstalled.append(args[1]))
        return uninstalled, down.down(cluster, releases, lambda text: None, **how)

    return run


def test_everything_goes_where_nobody_else_is(taken):
    cluster = Cluster("models", "kubeflow")
    uninstalled, kept = taken(cluster)
    assert kept == []
    assert set(uninstalled) == {"age", *(one.name for one in Platform.load("laptop").releases)}
    assert uninstalled[0] == "age", "models first: KServe must still run"
    assert uninstalled[-1] == "foundation"
    assert set(cluster.deleted) == {one["metadata"]["name"] for one in OURS}


def test_kinds_that_others_use_stay_with_their_objects_and_are_named(taken):
    cluster = Cluster("models", "shop", "blog")
    uninstalled, kept = taken(cluster)
    assert kept == ["the kinds of gateway.networking.k8s.io: used in blog, shop"]
    # Helm would delete every route of the cluster with this release's kinds.
    assert "gateway-api-crds" not in uninstalled
    assert {"kserve-crd", "traefik"} <= set(uninstalled)
    assert not [name for name in cluster.deleted if "gateway" in name]
    assert "rayjobs.ray.io" in cluster.deleted


def test_kept_data_keep_their_stores_and_passwords(taken):
    uninstalled, kept = taken(Cluster(), keep_data=True)
    assert not {"storage", "foundation"} & set(uninstalled)
    assert {"kfp", "mlflow", "age"} <= set(uninstalled)
    assert kept == ["the namespaces, and the passwords in them"]


def test_a_volume_that_its_class_retains_is_named_and_not_waited_for():
    def volume(name, policy):
        return {"metadata": {"name": name}, "spec": {"persistentVolumeReclaimPolicy": policy}}

    class Volumes:
        """A deleted volume goes a little after its claim."""

        def __init__(self):
            self.looks = 0

        def get(self, kind):
            self.looks += 1
            kept = [volume("kept", "Retain"), volume("theirs", "Delete")]
            return [*kept, *([volume("goes", "Delete")] if self.looks == 1 else [])]

    volumes = Volumes()
    told = down._left(volumes, {"kept", "goes"})
    assert told == ["volume kept: its storage class retains it"]
    assert volumes.looks == 2
