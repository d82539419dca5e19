"""What a deploy asks of a cluster before it touches it: each lack is one sentence."""

import json

import pytest

from ops import checks
from ops.fit import check_fit
from ops.platform import Platform
from slipway.errors import UserError


class Cluster:
    """The answers of an API server, as given."""

    def __init__(self, version="v1.34.4", kinds=(), **objects):
        self.version, self.kinds, self.objects = version, kinds, objects

    def kubectl(self, *args):
        if args == ("get", "--raw", "/apis"):
            return json.dumps({"groups": [{"name": group} for group in self.kinds]})
        return json.dumps({"serverVersion": {"gitVersion": self.version}})

    def knows(self, crd):
        return crd in self.kinds

    def get(self, kind):
        return self.objects[kind]


def node(cpu, memory, **spec):
    return {"spec": spec, "status": {"allocatable": {"cpu": cpu, "memory": memory}}}


def workload(cpu, memory, replicas=1):
    container = {"resources": {"requests": {"cpu": cpu, "memory": memory}}}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
    return {"kind": "Deployment", "spec": spec}


@pytest.mark.parametrize(("cpu", "memory"), [("1m", "0"), ("0", "1Mi")])
def test_a_platform_that_is_larger_than_the_cluster_is_refused(cpu, memory):
    nodes = [node("1", "2Gi"), node("1", "2Gi"), node("8", "8Gi", unschedulable=True)]
    fits = {"one": [workload("500m", "1Gi", replicas=2)], "two": [workload("1", "2Gi")]}
    check_fit(Cluster(nodes=nodes), fits)
    with pytest.raises(UserError, match=r"the cluster has 2.00 CPU and 4.00 GiB"):
        check_fit(Cluster(nodes=nodes), {**fits, "three": [workload(cpu, memory)]})


def storage_class(name, default):
    key = "storageclass.kubernetes.io/is-default-class"
    return {"metadata": {"name": name, "annotations": {key: default}}}


CLAIM = {"kind": "PersistentVolumeClaim", "spec": {}}
TEMPLATE = {"kind": "StatefulSet", "spec": {"volumeClaimTemplates": [{"spec": {}}]}}


@pytest.mark.parametrize("claim", [CLAIM, TEMPLATE])
def test_a_claim_without_a_class_needs_a_default_one(claim):
    checks.storage_class(Cluster(storageclasses=[storage_class("fast", "true")]), {"one": [claim]})
    with pytest.raises(UserError, match="no default storage class"):
        checks.storage_class(
            Cluster(storageclasses=[storage_class("fast", "false")]), {"one": [claim]}
        )


def test_a_class_that_the_cluster_lacks_is_told_with_those_it_has():
    claim = {"kind": "PersistentVolumeClaim", "spec": {"storageClassName": "gold"}}
    with pytest.raises(UserError, match=r"no storage class 'gold'.*\n?.*fast"):
        checks.storage_class(
            Cluster(storageclasses=[storage_class("fast", "true")]), {"one": [claim]}
        )


@pytest.mark.parametrize("version", ["v1.30.0", "v1.34.4+k3s1", "v1.31.2-gke.100"])
def test_a_kubernetes_of_any_maker_is_known_by_its_number(version):
    assert checks.version(Cluster(version)) == version[1:].split("-")[0].split("+")[0]


def test_a_kubernetes_that_is_too_old_is_refused():
    with pytest.raises(UserError, match=r"runs Kubernetes 1\.29\.9"):
        checks.version(Cluster("v1.29.9"))


def test_what_is_not_managed_here_must_be_there(tmp_path):
    (tmp_path / "profile.yaml").write_text("components: {kuberay: {managed: false}}")
    platform = Platform.load("laptop", tmp_path)
    with pytest.raises(UserError, match="kuberay is not managed here, and the cluster does not"):
        checks.outside(Cluster(), platform)
    checks.outside(Cluster(kinds=("rayjobs.ray.io", "rayclusters.ray.io")), platform)


def made(kind, version, **more):
    return {"kind": kind, "apiVersion": version, "metadata": {"name": "one"}, **more}


def test_an_object_of_a_kind_that_nothing_brings_is_refused():
    monitor = made("ServiceMonitor", "monitoring.coreos.com/v1")
    crd = made("CustomResourceDefinition", "apiextensions.k8s.io/v1")
    crd["spec"] = {"group": "monitoring.coreos.com"}
    cluster = Cluster(kinds=("apps", "apiextensions.k8s.io"))
    objects = {"kfp": [made("Deployment", "apps/v1"), made("Service", "v1"), monitor]}
    with pytest.raises(UserError, match=r"kfp makes a ServiceMonitor \(one\).*monitoring.coreos"):
        checks.kinds(cluster, objects)
    checks.kinds(cluster, {**objects, "prometheus-operator": [crd]})
    checks.kinds(Cluster(kinds=("apps", "monitoring.coreos.com")), objects)


@pytest.mark.parametrize(
    "lost",
    [
        made("HTTPRoute", "gateway.networking.k8s.io/v1", spec={"hostnames": ["a.example.com"]}),
        made(
            "Gateway",
            "gateway.networking.k8s.io/v1",
            spec={"listeners": [{"name": "all"}, {"hostname": "*.example.com"}]},
        ),
        made(
            "ConfigMap",
            "v1",
            data={"SLIPWAY_MODEL_VALUES": '{"route": {"domain": "example.com"}}'},
        ),
    ],
)
def test_a_host_outside_the_domain_of_the_profile_is_refused(tmp_path, lost):
    """`domain` in VALUES/profile.yaml alone moves no route."""
    (tmp_path / "profile.yaml").write_text("domain: ml.example.com")
    platform = Platform.load("laptop", tmp_path)
    with pytest.raises(UserError, match=r"not under ml\.example\.com.*") as caught:
        checks.hosts(platform, {"mlflow": [lost]})
    assert "mlflow.yaml of your VALUES folder" in caught.value.fix
    (tmp_path / "profile.yaml").write_text("domain: example.com")
    checks.hosts(Platform.load("laptop", tmp_path), {"mlflow": [lost]})


@pytest.mark.parametrize("given", ["domain: a", "[1]", '{"route": "a"}'])
def test_values_of_models_that_are_no_json_are_one_sentence(given):
    config = made("ConfigMap", "v1", data={"SLIPWAY_MODEL_VALUES": given})
    with pytest.raises(UserError, match=r"SLIPWAY_MODEL_VALUES is no JSON object.*kfp\.yaml"):
        checks.hosts(Platform.load("laptop"), {"kfp": [config]})
