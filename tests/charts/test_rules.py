"""The rules find what they are there for: each is shown something that breaks it."""

import copy

import pytest

from tests.charts import rules
from tests.charts.shape import shaped

SOUND = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app", "namespace": "here"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app", "helm.sh/chart": "app-1"}},
            "spec": {
                "securityContext": {
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "containers": [
                    {
                        "name": "main",
                        "image": "ghcr.io/acme/app:1",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "env": [{"name": "LEVEL", "value": "info"}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                        "livenessProbe": {
                            "httpGet": {"path": "/", "port": 8080},
                            "initialDelaySeconds": 30,
                        },
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "32Mi"},
                            "limits": {"memory": "64Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "app", "namespace": "here"},
    "spec": {"selector": {"app": "app"}, "ports": [{"port": 80, "targetPort": "http"}]},
}
ALL = (
    shaped,
    rules.restricted,
    rules.bounded,
    rules.selected,
    rules.probed,
    rules.secretless,
)
POD = "spec.template.spec"
MAIN = f"{POD}.containers.0"


def changed(path, value, item=SOUND):
    item = copy.deepcopy(item)
    *way, last = path.split(".")
    here = item
    for step in way:
        here = here[int(step)] if isinstance(here, list) else here[step]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return item


def test_sound_objects_pass():
    assert [sentence for rule in ALL for sentence in rule([SOUND, SERVICE])] == []


@pytest.mark.parametrize(
    ("rule", "path", "value", "says"),
    [
        (shaped, "spec.replica", 2, "'replica' was unexpected"),
        (shaped, "spec.replicas", "two", '"two" is not of type "integer"'),
        (shaped, "apiVersion", "apps/v1beta1", "no schema of apps/v1beta1/Deployment"),
        (shaped, f"{MAIN}.imagePullpolicy", "Always", "'imagePullpolicy' was unexpected"),
        (rules.restricted, f"{POD}.hostNetwork", True, "hostNetwork"),
        (rules.restricted, f"{POD}.volumes", [{"name": "v", "hostPath": {}}], "is a hostPath"),
        (rules.restricted, f"{POD}.securityContext.runAsNonRoot", None, "runAsNonRoot"),
        (rules.restricted, f"{POD}.securityContext.runAsUser", 0, "runAsUser is 0"),
        (rules.restricted, f"{POD}.securityContext.seccompProfile", None, "seccompProfile"),
        (rules.restricted, f"{MAIN}.securityContext", None, "capabilities are not dropped"),
        (
            rules.restricted,
            f"{MAIN}.securityContext.allowPrivilegeEscalation",
            True,
            "allowPrivilegeEscalation",
        ),
        (rules.restricted, f"{MAIN}.securityContext.privileged", True, "privileged"),
        (
            rules.restricted,
            f"{MAIN}.securityContext.capabilities",
            {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
            "SYS_ADMIN are added",
        ),
        (
            rules.restricted,
            f"{MAIN}.securityContext.readOnlyRootFilesystem",
            False,
            "readOnlyRootFilesystem",
        ),
        (rules.restricted, f"{MAIN}.ports", [{"containerPort": 1, "hostPort": 1}], "hostPort 1"),
        (rules.bounded, f"{MAIN}.resources.limits", None, "no limits.memory"),
        (rules.bounded, f"{MAIN}.resources.requests.cpu", None, "no requests.cpu"),
        (rules.selected, "spec.selector.matchLabels", {"app": "other"}, "its own pods"),
        (
            rules.selected,
            "spec.selector.matchLabels",
            {"app": "app", "helm.sh/chart": "app-1"},
            "helm.sh/chart, which changes",
        ),
        (rules.selected, f"{POD}.volumes", [], "mounts tmp, which is no volume"),
        (rules.probed, f"{MAIN}.readinessProbe", None, "has no readinessProbe"),
        (rules.probed, f"{MAIN}.readinessProbe.httpGet.port", 9, "asks port 9"),
        (rules.probed, f"{MAIN}.readinessProbe.timeoutSeconds", 60, "longer than its period"),
        (rules.probed, f"{MAIN}.livenessProbe.periodSeconds", 5, "kills within 15 s"),
        (rules.probed, f"{MAIN}.livenessProbe.initialDelaySeconds", 0, "a start that takes 30 s"),
        (
            rules.secretless,
            f"{MAIN}.env",
            [{"name": "DB_PASSWORD", "value": "x"}],
            "has its value in the manifest",
        ),
        (rules.secretless, f"{MAIN}.args", ["--db=mysql://me:geheim@db"], "holds a secret"),
    ],
)
def test_what_is_broken_is_named(rule, path, value, says):
    found = list(rule([changed(path, value), SERVICE]))
    assert any(says in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("spec.selector", {"app": "other"}, "finds no pod"),
        ("metadata.namespace", "elsewhere", "finds no pod"),
        ("spec.ports", [{"port": 80, "targetPort": 81}], "port 81 is none of"),
    ],
)
def test_a_service_that_leads_nowhere_is_named(path, value, says):
    [sentence] = rules.selected([SOUND, changed(path, value, SERVICE)])
    assert says in sentence


def test_a_secret_with_values_is_named():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert not list(rules.secretless([secret]))
    assert list(rules.secretless([secret | {"stringData": {"a": "b"}}]))
    key = "-----BEGIN RSA PRIVATE KEY-----"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert list(rules.secretless([config | {"data": {"key": key}}]))


def test_pods_of_custom_resources_are_seen():
    pod = copy.deepcopy(SOUND["spec"]["template"])
    del pod["spec"]["containers"][0]["resources"]
    container = pod["spec"]["containers"][0]
    about = {"metadata": {"name": "it"}}
    for item in (
        {"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"]},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod}},
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "spec": {"jobTemplate": {"spec": {"template": pod}}},
        },
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "spec": {"rayClusterSpec": {"workerGroupSpecs": [{"template": pod}]}},
        },
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "spec": {"predictor": {"model": container}},
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "spec": {"image": "quay.io/prometheus/prometheus:v3"},
        },
    ):
        found = list(rules.bounded([item | about]))
        assert len(found) == 3, item["kind"]


def test_images_are_found_wherever_they_are_named():
    digest = "sha256:" + "a" * 64
    item = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x"},
        "spec": {
            "image": "busybox:1",
            "args": ["--exec=quay.io/a/exec:v1", "https://ghcr.io/a/b:v1/blob"],
            "config": f'{{"image": "docker.io/kserve/agent:v0.20.0", "x": "gcr.io/y/z@{digest}"}}',
            "mail": "me@example.com:80",
        },
    }
    assert set(rules.images([item])) == {
        "docker.io/library/busybox:1",
        "quay.io/a/exec:v1",
        "docker.io/kserve/agent:v0.20.0",
        f"gcr.io/y/z@{digest}",
    }
