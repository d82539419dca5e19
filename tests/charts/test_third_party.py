"""Charts of others: what we pin fits together, and our values make of them what we promise.

Rendering needs their packages (`make charts`, or SLIPWAY_CHARTS); the rest runs without.
"""

import re
from typing import Any

import pytest
import yaml

from tests.charts.render import (
    CHARTS,
    ROOT,
    load,
    managed,
    package,
    profiles,
    releases,
    render,
    template,
    values_files,
)

PINNED: dict[str, dict[str, Any]] = load(CHARTS / "third-party.yaml")["charts"]
RELEASES = {name: one for name, one in releases().items() if "vendor" in one}
LEAN = CHARTS / "post-renderers" / "kserve-lean"
INSTALLED = [
    (profile, release)
    for profile in profiles()
    for release in managed(profile)
    if release in RELEASES
]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def containers(objects: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Container and its pod's spec, by workload and name."""
    found = {}
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            pod = one["spec"]["template"]["spec"]
            for container in pod.get("initContainers", []) + pod["containers"]:
                found[f"{one['metadata']['name']}/{container['name']}"] = (container, pod)
    return found


def test_every_pin_is_used_and_every_third_party_release_is_pinned():
    assert {release["vendor"] for release in RELEASES.values()} == set(PINNED)


@pytest.mark.parametrize("key", PINNED)
def test_a_pin_names_version_origin_and_sum(key):
    pin = PINNED[key]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", pin["version"])
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", pin["app"])
    assert re.fullmatch(r"[0-9a-f]{40}", pin["source"]["commit"])
    if pin["sha256"] is None:
        assert pin["unverified"]
    else:
        assert re.fullmatch(r"[0-9a-f]{64}", pin["sha256"])
        assert "unverified" not in pin
    if "manifest" in pin:
        assert (CHARTS / pin["wrap"] / "Chart.yaml").exists()
        assert load(CHARTS / pin["wrap"] / "Chart.yaml")["version"] == pin["version"]
    else:
        assert pin["repository"].startswith(("https://", "oci://"))


@pytest.mark.parametrize(("profile", "release"), INSTALLED)
def test_a_profile_renders_what_it_installs(profile, release):
    objects = render(release, profile)
    assert objects
    for one in objects:
        namespace = one["metadata"].get("namespace", RELEASES[release]["namespace"])
        # A role to elect a leader, or to read the cluster's configuration, may stand there.
        rights = {"Role", "RoleBinding"}
        assert namespace == RELEASES[release]["namespace"] or (
            namespace == "kube-system" and one["kind"] in rights
        ), f"{one['kind']} {one['metadata']['name']} lands in {namespace}"


@pytest.mark.parametrize(("profile", "release"), INSTALLED)
def test_containers_of_others_ask_for_what_they_need_and_may_do_little(profile, release):
    if release == "nvidia-device-plugin":
        pytest.skip("a device plugin talks to the kubelet and the driver: it cannot be restricted")
    for name, (container, pod) in containers(render(release, profile)).items():
        resources = container.get("resources", {})
        assert {"cpu", "memory"} <= set(resources.get("requests", {})), name
        assert "memory" in resources.get("limits", {}), name
        security = pod.get("securityContext", {}) | container.get("securityContext", {})
        assert security["runAsNonRoot"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"]["drop"] == ["ALL"], name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        assert security["readOnlyRootFilesystem"] is True, name


@pytest.mark.parametrize(("profile", "release"), INSTALLED)
def test_images_of_others_are_full_names_with_a_version(profile, release):
    for name, (container, _) in containers(render(release, profile)).items():
        registry, _, tag = (
            container["image"].partition("/")[0],
            *container["image"].rpartition(":")[1:],
        )
        assert "." in registry, f"{name}: {container['image']}"
        assert re.match(r"v?\d", tag), f"{name}: {container['image']}"
        assert container.get("imagePullPolicy", "IfNotPresent") == "IfNotPresent", name


def test_the_gateway_api_comes_as_kinds_alone():
    objects = render("gateway-api-crds", "laptop")
    assert {one["kind"] for one in objects} == {"CustomResourceDefinition"}
    names = set(of_kind(objects, "CustomResourceDefinition"))
    assert {
        f"{kind}.gateway.networking.k8s.io" for kind in ("gateways", "httproutes", "grpcroutes")
    } <= names
    channel = "gateway.networking.k8s.io/channel"
    assert {one["metadata"]["annotations"][channel] for one in objects} == {"standard"}


def test_the_wrapper_says_what_to_run_when_its_manifest_is_missing():
    with pytest.raises(AssertionError, match="make charts"):
        template(CHARTS / PINNED["gateway-api-crds"]["wrap"])


@pytest.mark.parametrize("profile", profiles())
def test_one_gateway_takes_routes_of_every_namespace(profile):
    objects = render("traefik", profile)
    gateway = of_kind(objects, "Gateway")["slipway"]
    assert gateway["metadata"]["namespace"] == "gateway"
    assert gateway["spec"]["gatewayClassName"] == "traefik"
    listeners = {one["name"]: one for one in gateway["spec"]["listeners"]}
    assert listeners["web"]["port"] == 8000
    for listener in listeners.values():
        assert listener["allowedRoutes"]["namespaces"]["from"] == "All"
    assert ("websecure" in listeners) == (profile != "laptop")
    arguments = containers(objects)["traefik/traefik"][0]["args"]
    assert {"--providers.kubernetesgateway", "--providers.kubernetescrd"} <= set(arguments)
    assert "--providers.kubernetesingress" not in arguments


def test_the_laptop_is_reached_at_the_port_that_kind_maps():
    service = of_kind(render("traefik", "laptop"), "Service")["traefik"]["spec"]
    assert service["type"] == "NodePort"
    ports = {port["name"]: port.get("nodePort") for port in service["ports"]}
    assert ports == {"web": 30080}


@pytest.mark.parametrize("profile", ["team", "production"])
def test_a_teams_gateway_survives_the_loss_of_a_node(profile):
    objects = render("traefik", profile)
    assert of_kind(objects, "Deployment")["traefik"]["spec"]["replicas"] >= 2
    assert of_kind(objects, "PodDisruptionBudget")["traefik"]["spec"]["maxUnavailable"] == 1
    assert of_kind(objects, "Service")["traefik"]["spec"]["type"] == "LoadBalancer"


def test_a_https_listener_gets_its_certificate_from_the_issuer_that_is_there():
    objects = render("traefik", "team")
    issuer = of_kind(objects, "Issuer")["slipway"]
    gateway = of_kind(objects, "Gateway")["slipway"]
    assert gateway["metadata"]["annotations"]["cert-manager.io/issuer"] == "slipway"
    assert issuer["metadata"]["namespace"] == gateway["metadata"]["namespace"]
    manager = of_kind(render("cert-manager", "team"), "ConfigMap")["cert-manager"]
    config = yaml.safe_load(manager["data"]["config.yaml"])
    assert config["enableGatewayAPI"] is True


@pytest.mark.parametrize("profile", profiles())
def test_kserve_uses_our_gateway_and_no_mesh(profile):
    config = of_kind(render("kserve", profile), "ConfigMap")["inferenceservice-config"]["data"]
    ingress = yaml.safe_load(config["ingress"])
    assert ingress["enableGatewayApi"] is True
    assert ingress["kserveIngressGateway"] == "gateway/slipway"
    assert ingress["disableIstioVirtualHost"] is True
    assert yaml.safe_load(config["deploy"])["defaultDeploymentMode"] == "Standard"
    small = yaml.safe_load(config["inferenceService"])["resource"]
    assert small["cpuRequest"] == "50m"


def test_without_cert_manager_nothing_of_kserve_asks_for_it():
    objects = render("kserve", "laptop")
    assert not [one for one in objects if "cert-manager" in one["apiVersion"]]
    assert set(containers(objects)) == {"kserve-controller-manager/manager"}
    manager, _ = containers(objects)["kserve-controller-manager/manager"]
    assert manager["readinessProbe"]["initialDelaySeconds"] == 1
    mounted = {mount["name"] for mount in manager["volumeMounts"]}
    assert "cert" in mounted  # python -m ops webhook-certificate makes it


def test_the_lean_kserve_is_the_chart_in_everything_else():
    whole = template(
        package("kserve"),
        release="kserve",
        namespace="kserve",
        files=values_files("kserve", "laptop"),
    )
    lean = render("kserve", "laptop")

    def named(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one["kind"], one["metadata"]["name"]): one for one in objects}

    before, after = named(whole), named(lean)
    gone = set(before) - set(after)
    assert gone == {("Certificate", "serving-cert"), ("Issuer", "selfsigned-issuer")}
    changed = {key for key in after if before[key] != after[key]}
    assert changed == {("Deployment", "kserve-controller-manager")}


def test_a_profile_without_cert_manager_makes_the_webhooks_certificate_itself():
    for profile in profiles():
        told = load(CHARTS / "profiles" / profile / "profile.yaml")
        managed = told["components"]["cert-manager"]["managed"]
        lean = told.get("postRenderers", {}).get("kserve") == LEAN.name
        assert lean == (not managed), profile


def test_the_operator_brings_no_second_prometheus_and_leaves_nothing_in_kube_system():
    objects = render("prometheus-operator", "laptop")
    assert not of_kind(objects, "Prometheus")
    assert not of_kind(objects, "Alertmanager")
    assert not of_kind(objects, "PrometheusRule")
    operator = containers(objects)["prometheus-operator/kube-prometheus-stack"][0]
    assert not [one for one in operator["args"] if one.startswith("--kubelet-service")]


@pytest.mark.parametrize("profile", profiles())
def test_kube_state_metrics_exports_what_our_rules_read(profile):
    wanted = load(ROOT / "monitoring" / "metrics.yaml")["kube-state-metrics"]
    exporter = containers(render("prometheus-operator", profile))
    arguments = next(c["args"] for name, (c, _) in exporter.items() if "state-metrics" in name)
    kinds = next(a for a in arguments if a.startswith("--resources=")).partition("=")[2].split(",")
    prefixes = {
        "persistentvolumeclaims": "persistentvolumeclaim",
        "horizontalpodautoscalers": "hpa",
    }
    for metric in wanted:
        assert any(
            metric.startswith(f"kube_{prefixes.get(kind, kind.removesuffix('s'))}_")
            or metric == f"kube_{kind.removesuffix('s')}"
            for kind in kinds
        ), metric


def test_ray_jobs_wait_in_queues_and_jobs_of_other_namespaces_do_not_ask_kueue():
    objects = render("kueue", "production")
    configs = of_kind(objects, "ConfigMap")
    config = next(one for name, one in configs.items() if "manager-config" in name)
    told = yaml.safe_load(config["data"]["controller_manager_config.yaml"])
    assert set(told["integrations"]["frameworks"]) == {
        "batch/job",
        "ray.io/rayjob",
        "ray.io/raycluster",
    }
    for item in objects:
        for webhook in item.get("webhooks") or ():
            if webhook["failurePolicy"] == "Fail" and "jobs" in webhook["rules"][0]["resources"]:
                place = {"kubernetes.io/metadata.name": "kubeflow"}
                assert webhook["namespaceSelector"] == {"matchLabels": place}
