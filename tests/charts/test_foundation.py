"""charts/foundation: namespaces, secrets, what their Job may do, and who may talk to whom."""

from __future__ import annotations

import ipaddress
import json

import pytest

from ops.secrets import load, plan
from slipway.errors import UserError
from tests.charts.render import fails, profiles, render, template

IMAGE = {"image": {"tag": "abc"}}
SPACES = {
    "slipway-system", "storage", "kubeflow", "mlflow", "models", "gateway", "kserve", "kuberay",
    "monitoring",
}  # fmt: skip


def foundation(**values):
    return template("foundation", {**IMAGE, **values}, namespace="kube-system")


def of(objects, kind, name=None):
    return [
        found
        for found in objects
        if found["kind"] == kind and name in (None, found["metadata"]["name"])
    ]


def secrets(objects, tmp_path):
    """What the Job reads, as the Job reads it."""
    (config,) = of(objects, "ConfigMap")
    (tmp_path / "secrets.yaml").write_text(config["data"]["secrets.yaml"])
    return load(tmp_path / "secrets.yaml")


def made(spec):
    """The secrets that the Job makes on an empty cluster: (namespace, name) -> secret."""
    places = [spec.master, *(declared.place for declared in spec.secrets)]
    writes = plan(spec, dict.fromkeys(places))
    return {(write.place.namespace, write.place.name): write.secret for write in writes}


# Namespaces


def test_every_namespace_enforces_the_restricted_standard():
    found = of(foundation(), "Namespace")
    assert {space["metadata"]["name"] for space in found} == SPACES
    for space in found:
        labels = space["metadata"]["labels"]
        for mode in ("enforce", "audit", "warn"):
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert "annotations" not in space["metadata"]


@pytest.mark.parametrize("profile", profiles())
def test_only_device_plugins_may_be_privileged(profile):
    lax = [
        space["metadata"]["name"]
        for space in of(render("foundation", profile, IMAGE), "Namespace")
        if space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted"
    ]
    assert lax in ([], ["nvidia-device-plugin"])


def test_an_uninstall_keeps_namespaces_where_that_is_asked_for():
    for space in of(foundation(namespaces={"keep": True}), "Namespace"):
        assert space["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_namespace_that_is_there_already_is_not_made_but_gets_its_policies():
    objects = foundation(namespaces={"items": {"gateway": {"create": False}}})
    assert not of(objects, "Namespace", "gateway")
    assert any(p["metadata"]["namespace"] == "gateway" for p in of(objects, "NetworkPolicy"))


def test_a_namespace_set_to_null_leaves_nothing_behind(tmp_path):
    objects = foundation(namespaces={"items": {"mlflow": None, "models": None}})
    for found in objects:
        assert found["metadata"]["name"] not in ("mlflow", "models")
        assert found["metadata"].get("namespace") not in ("mlflow", "models")
    spaces = {declared.namespace for declared in secrets(objects, tmp_path).secrets}
    assert spaces == {"storage", "kubeflow", "monitoring"}


def test_quotas_and_limits_are_written_where_they_are_given():
    assert not of(foundation(), "ResourceQuota") + of(foundation(), "LimitRange")
    limits = [{"type": "Container", "defaultRequest": {"cpu": "10m"}}]
    objects = foundation(
        namespaces={"items": {"models": {"quota": {"pods": "9"}, "limits": limits}}}
    )
    (quota,), (range_,) = of(objects, "ResourceQuota"), of(objects, "LimitRange")
    assert quota["metadata"]["namespace"] == range_["metadata"]["namespace"] == "models"
    assert (quota["spec"]["hard"], range_["spec"]["limits"]) == ({"pods": "9"}, limits)


# Secrets


def test_the_job_makes_the_secrets_that_the_other_charts_name(tmp_path):
    found = made(secrets(foundation(), tmp_path))
    feast = {"SLIPWAY_FEAST_REGISTRY", "SLIPWAY_FEAST_REDIS"}
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    passwords = {"root-password", "kfp-password", "mlflow-password", "feast-password"}
    del found["slipway-system", "slipway-passwords"]
    assert {place: set(secret.data) for place, secret in found.items()} == {
        ("storage", "mariadb"): passwords,
        ("storage", "valkey"): {"password", "users.acl"},
        ("storage", "s3"): {"accesskey", "secretkey", "identities.json"},
        ("kubeflow", "mysql-secret"): {"username", "password"},
        ("kubeflow", "mlpipeline-minio-artifact"): {"accesskey", "secretkey"},
        ("kubeflow", "slipway-steps"): keys | feast,
        ("mlflow", "mlflow"): keys | {"MLFLOW_BACKEND_STORE_URI"},
        ("models", "slipway-serving"): feast,
        ("models", "slipway-models"): keys,
        ("monitoring", "grafana"): {"admin-user", "admin-password"},
    }
    database = found["storage", "mariadb"].data
    assert found["kubeflow", "mysql-secret"].data["password"] == database["kfp-password"]
    assert found["kubeflow", "slipway-steps"].data["SLIPWAY_FEAST_REGISTRY"] == (
        f"mysql+pymysql://feast:{database['feast-password']}@mariadb.storage:3306/feast"
    )
    assert found["kubeflow", "slipway-steps"].data["SLIPWAY_FEAST_REDIS"] == (
        f"valkey.storage:6379,password={found['storage', 'valkey'].data['password']}"
    )


def test_each_program_has_keys_of_its_own_for_its_buckets_alone(tmp_path):
    """charts/storage starts SeaweedFS with this file; that it obeys was tried on a real one."""
    found = made(secrets(foundation(), tmp_path))
    identities = json.loads(found["storage", "s3"].data["identities.json"])["identities"]
    actions = {one["name"]: set(one["actions"]) for one in identities}
    assert actions["admin"] == {"Admin"}
    assert actions["models"] == {"Read:mlflow", "List:mlflow"}
    assert {action.split(":")[1] for action in actions["kfp"]} == {"mlpipeline"}
    assert {action.split(":")[1] for action in actions["mlflow"]} == {"mlflow"}
    assert {action.split(":")[1] for action in actions["steps"]} == {
        "slipway",
        "mlflow",
        "payloads",
    }
    keys = {one["name"]: one["credentials"][0] for one in identities}
    assert len({key["accessKey"] for key in keys.values()}) == len(keys)
    steps = found["kubeflow", "slipway-steps"].data
    assert steps["AWS_ACCESS_KEY_ID"] == keys["steps"]["accessKey"]
    assert steps["AWS_SECRET_ACCESS_KEY"] == keys["steps"]["secretKey"]
    assert (
        found["models", "slipway-models"].data["AWS_ACCESS_KEY_ID"] == keys["models"]["accessKey"]
    )


def test_stores_that_you_bring_need_their_passwords_and_name_your_addresses(tmp_path):
    objects = foundation(
        database={"host": "db.example.com", "given": True},
        onlineStore={"host": "cache.example.com", "tls": True, "given": True},
        s3={"endpoint": "", "region": "eu-central-1", "given": True},
    )
    spec = secrets(objects, tmp_path)
    assert {name for name, password in spec.passwords.items() if not password.given} == {"grafana"}
    with pytest.raises(
        UserError, match="slipway-system/slipway-passwords lacks the keys mariadb-root, mariadb-kfp"
    ):
        made(spec)
    texts = {d.name: (d.keys, d.annotations) for d in spec.secrets}
    assert "@db.example.com:3306/mlflow" in texts["mlflow"][0]["MLFLOW_BACKEND_STORE_URI"]
    redis = texts["slipway-serving"][0]["SLIPWAY_FEAST_REDIS"]
    assert redis == "cache.example.com:6379,ssl=True,password=${valkey}"
    assert texts["slipway-models"][1] == {
        "serving.kserve.io/s3-endpoint": "s3.amazonaws.com",
        "serving.kserve.io/s3-usehttps": "1",
        "serving.kserve.io/s3-region": "eu-central-1",
        "serving.kserve.io/s3-useanoncredential": "false",
    }


def test_kserve_reads_the_keys_of_the_s3_through_its_account(tmp_path):
    objects = foundation()
    (account,) = of(objects, "ServiceAccount", "slipway-models")
    assert account["metadata"]["namespace"] == "models"
    assert account["secrets"] == [{"name": "slipway-models"}]
    found = made(secrets(objects, tmp_path))
    annotations = found["models", "slipway-models"].annotations
    assert annotations["serving.kserve.io/s3-endpoint"] == "seaweedfs.storage:9000"
    assert annotations["serving.kserve.io/s3-usehttps"] == "0"


def test_the_job_may_touch_the_secrets_of_its_list_and_no_others(tmp_path):
    objects = foundation()
    spec = secrets(objects, tmp_path)
    wanted = {(declared.namespace, declared.name) for declared in spec.secrets}
    wanted.add((spec.master.namespace, spec.master.name))
    granted = set()
    for role in of(objects, "Role"):
        create, touch = role["rules"]
        assert create == {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}
        assert touch["verbs"] == ["get", "update"]
        granted |= {(role["metadata"]["namespace"], name) for name in touch["resourceNames"]}
    assert granted == wanted
    assert not of(objects, "ClusterRole")
    for binding in of(objects, "RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "slipway-secrets", "namespace": "slipway-system"}
        ]


def test_the_job_runs_after_each_installation_and_a_mistake_is_not_tried_again():
    (job,) = of(foundation(), "Job")
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "post-install,post-upgrade"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/slipway/tools:abc"
    assert container["args"] == ["secrets", "/etc/slipway/secrets.yaml"]


# Network


@pytest.fixture(scope="module")
def policies():
    return of(foundation(), "NetworkPolicy")


def allowed(policies, source, target, port, protocol="TCP"):
    """Do the policies let `source` reach `target`? Each is a pod, (namespace, labels), or an
    address outside."""

    def selects(selector, labels):
        return all(
            labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
        )

    def is_peer(peer, other):
        if isinstance(other, str):
            block = peer.get("ipBlock", {}).get("cidr", "")
            return (
                bool(block)
                and ":" not in block
                and ipaddress.ip_address(other) in ipaddress.ip_network(block)
            )
        space, labels = other
        wanted = peer.get("namespaceSelector", {}).get("matchLabels", {})
        return wanted.get("kubernetes.io/metadata.name") == space and selects(
            peer.get("podSelector", {}), labels
        )

    def passes(here, other, kind, rules, peers):
        if isinstance(here, str):
            return True
        mine = [
            policy["spec"]
            for policy in policies
            if policy["metadata"]["namespace"] == here[0]
            and kind in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], here[1])
        ]
        return not mine or any(
            any(is_peer(peer, other) for peer in rule[peers])
            and (
                "ports" not in rule
                or any((p["port"], p["protocol"]) == (port, protocol) for p in rule["ports"])
            )
            for spec in mine
            for rule in spec.get(rules, [])
        )

    return passes(source, target, "Egress", "egress", "to") and passes(
        target, source, "Ingress", "ingress", "from"
    )


STEP = ("kubeflow", {"pipeline/runid": "1"})
DATABASE = ("storage", {"app.kubernetes.io/component": "mariadb"})
VALKEY = ("storage", {"app.kubernetes.io/component": "valkey"})
S3 = ("storage", {"app.kubernetes.io/component": "seaweedfs"})
GATEWAY = ("gateway", {"app.kubernetes.io/name": "traefik"})
PROMETHEUS = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
GRAFANA = ("monitoring", {"app.kubernetes.io/name": "grafana"})
SECRETS = ("slipway-system", {"app.kubernetes.io/component": "secrets"})
DNS = ("kube-system", {"k8s-app": "kube-dns"})
HEAD = ("kubeflow", {"ray.io/node-type": "head"})
SETUP = ("storage", {"app.kubernetes.io/component": "setup"})
NODE = "192.0.2.7"


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (STEP, DATABASE, 3306),
        (STEP, VALKEY, 6379),
        (STEP, S3, 9000),
        (STEP, ("mlflow", {}), 5000),
        (STEP, NODE, 6443),
        (STEP, HEAD, 10001),
        (SETUP, DATABASE, 3306),
        (SETUP, S3, 9000),
        (SECRETS, NODE, 6443),
        (("kuberay", {}), HEAD, 8265),
        (NODE, GATEWAY, 8000),
        (NODE, ("kserve", {}), 9443),
        (GATEWAY, ("kubeflow", {}), 3000),
        (GATEWAY, ("mlflow", {}), 5000),
        (GATEWAY, GRAFANA, 3000),
        (GRAFANA, PROMETHEUS, 9090),
        (PROMETHEUS, NODE, 10250),
        (PROMETHEUS, ("kserve", {}), 8080),
    ],
)  # fmt: skip
def test_what_works_together_may_talk(policies, source, target, port):
    assert allowed(policies, source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (GATEWAY, DATABASE, 3306),
        (GATEWAY, S3, 9000),
        (GATEWAY, ("kubeflow", {}), 8888),
        (SECRETS, DATABASE, 3306),
        (SECRETS, ("mlflow", {}), 5000),
        (PROMETHEUS, ("mlflow", {}), 5000),
        (("kserve", {}), DATABASE, 3306),
        (("default", {}), DATABASE, 3306),
        (("default", {}), ("mlflow", {}), 5000),
        (GRAFANA, ("kubeflow", {}), 8888),
        (STEP, DATABASE, 22),
        (STEP, NODE, 22),
        (S3, NODE, 443),
        (DATABASE, VALKEY, 6379),
        (("mlflow", {}), VALKEY, 6379),
        (NODE, ("mlflow", {}), 5000),
    ],
)  # fmt: skip
def test_everything_else_may_not(policies, source, target, port):
    assert not allowed(policies, source, target, port)


def test_every_namespace_may_ask_dns_and_nothing_else_by_default(policies):
    for space in SPACES:
        assert allowed(policies, (space, {}), DNS, 53, "UDP")
        assert not allowed(policies, ("default", {}), (space, {"app": "any"}), 22)
        assert not allowed(policies, (space, {"app": "any"}), NODE, 22)


def test_every_namespace_denies_both_ways_to_all_its_pods(policies):
    denied = [one["spec"] for one in policies if one["metadata"]["name"] == "default-deny"]
    assert len(denied) == len({one["metadata"]["namespace"] for one in policies})
    for spec in denied:
        assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_models_open_their_end_themselves(policies):
    """charts/model brings policies for its own pods; without them nothing gets in or out."""
    assert not allowed(policies, ("models", {}), S3, 9000)
    assert not allowed(policies, GATEWAY, ("models", {}), 8080)
    theirs = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [in_namespace("gateway")]}],
        "egress": [{"to": [in_namespace("storage")]}],
    }
    opened = [*policies, {"metadata": {"namespace": "models"}, "spec": theirs}]
    assert allowed(opened, ("models", {}), S3, 9000)
    assert allowed(opened, GATEWAY, ("models", {}), 8080)


def in_namespace(name):
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def test_a_line_of_ones_own_opens_both_ends_and_null_closes_one():
    mine = {
        "reason": "RDS",
        "from": [{"namespace": "mlflow"}],
        "to": [{"cidrs": ["10.0.0.0/8"]}],
        "ports": [3306],
    }
    found = of(foundation(network={"allow": {"rds": mine, "tracking": None}}), "NetworkPolicy")
    assert allowed(found, ("mlflow", {}), "10.1.2.3", 3306)
    assert not allowed(found, STEP, ("mlflow", {}), 5000)
    (policy,) = [p for p in found if p["metadata"]["name"].startswith("rds-")]
    assert policy["metadata"]["annotations"] == {"slipway/reason": "RDS"}


def test_no_policies_where_they_are_switched_off():
    assert not of(foundation(network={"enabled": False}), "NetworkPolicy")


# Mistakes

HERE, API = [{"namespace": "models"}], [{"apiServer": True}]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"namespace": {}}, "additional properties 'namespace' not allowed"),
        ({"namespaces": {"items": {"models": {"quotas": {}}}}}, "'quotas' not allowed"),
        ({"database": {"port": "3306"}}, "got string, want integer"),
        ({"s3": {"endpoint": "seaweedfs.storage:9000"}}, "does not match pattern"),
        ({"network": {"allow": {"x": {"from": HERE, "to": API}}}}, "missing property 'reason'"),
        ({"namespaces": {"items": {"slipway-system": None}}}, "Leave it; with create: false"),
        ({"image": {"tag": ""}}, "give a tag or a digest"),
        (
            {"network": {"allow": {"x": {"reason": "r", "to": API, "from": [*HERE, *HERE]}}}},
            "network.allow.x names the namespace models twice on one side. Make two rules of it.",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_a_sentence(values, sentence):
    assert sentence in fails("foundation", {**IMAGE, **values})
