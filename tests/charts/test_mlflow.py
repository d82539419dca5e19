"""charts/mlflow: one server without state, whose packages KServe can load and whose tables fit."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.charts.render import CHARTS, fails, render, template

IMAGE = {"image": {"tag": "1"}}
Object = dict[str, Any]


def rendered(**values: Any) -> dict[str, Object]:
    """Objects by kind and name, in the namespace `ml`."""
    found = template("mlflow", IMAGE | values, namespace="ml")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def server(objects: dict[str, Object]) -> Object:
    return objects["Deployment/mlflow"]["spec"]["template"]["spec"]


def environment(pod: Object) -> Object:
    [container] = pod["containers"]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def allowed(objects: dict[str, Object], host: str) -> bool:
    """As MLflow matches host names."""
    patterns = environment(server(objects))["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    return any(fnmatch.fnmatch(host, pattern) for pattern in patterns)


def test_by_default_there_is_a_server_its_service_and_the_migration_and_no_more():
    assert set(rendered()) == {
        "Deployment/mlflow",
        "Service/mlflow",
        "ServiceAccount/mlflow",
        "Job/mlflow-migration",
    }


def test_packages_get_addresses_that_kserve_can_load():
    [container] = server(rendered(artifacts={"root": "s3://other/place"}))["containers"]
    assert "--no-serve-artifacts" in container["args"]
    assert "--default-artifact-root=s3://other/place" in container["args"]


def test_the_server_starts_no_job_runners_which_would_need_a_gigabyte_more():
    assert environment(server(rendered()))["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.parametrize("name", ["Deployment/mlflow", "Job/mlflow-migration", "CronJob/mlflow-gc"])
def test_passwords_come_from_secrets_wherever_they_are(name):
    objects = rendered(gc={"enabled": True}, database={"secret": "rds", "key": "url"})
    spec = objects[name]["spec"]
    pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    found = environment(pod)
    assert found["MLFLOW_BACKEND_STORE_URI"] == {"secretKeyRef": {"name": "rds", "key": "url"}}
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert found[key] == {"secretKeyRef": {"name": "mlflow", "key": key}}


def test_a_cloud_s_own_bucket_is_reached_by_the_service_account():
    objects = rendered(
        artifacts={"root": "s3://models/a", "endpoint": "", "secret": "", "region": "eu-west-1"},
        serviceAccount={"annotations": {"eks.amazonaws.com/role-arn": "arn:x"}},
    )
    found = environment(server(objects))
    assert found["AWS_REGION"] == "eu-west-1"
    assert not {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"} & set(found)
    assert server(objects)["serviceAccountName"] == "mlflow"
    account = objects["ServiceAccount/mlflow"]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:x"}


def test_the_service_s_names_may_ask_and_strangers_may_not():
    objects = rendered(access={"hosts": ["10.*"]})
    for host in ("mlflow", "mlflow.ml:5000", "mlflow.ml.svc.cluster.local:5000", "localhost:9999"):
        assert allowed(objects, host), host
    assert allowed(objects, "10.1.2.3:5000")
    for host in ("evil.example.com", "mlflow.evil.example.com", "mlflow.example.com", ""):
        assert not allowed(objects, host), host


def test_the_route_s_host_may_ask_and_its_pages_may_change_things():
    objects = rendered(
        route={"enabled": True, "host": "mlflow.example.com"},
        access={"origins": ["https://notebooks.example.com"]},
    )
    route = objects["HTTPRoute/mlflow"]["spec"]
    assert route["hostnames"] == ["mlflow.example.com"]
    assert route["parentRefs"] == [{"name": "slipway", "namespace": "gateway"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "mlflow", "port": 5000}]
    assert allowed(objects, "mlflow.example.com:8080")
    origins = environment(server(objects))["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert origins == [
        "http://mlflow.example.com",
        "http://mlflow.example.com:*",
        "https://mlflow.example.com",
        "https://mlflow.example.com:*",
        "https://notebooks.example.com",
    ]
    assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in environment(server(rendered()))


def test_tables_are_changed_once_and_before_any_server_starts():
    migration = rendered(migration={"timeoutSeconds": 99})["Job/mlflow-migration"]
    assert migration["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert migration["spec"]["activeDeadlineSeconds"] == 99
    pod = migration["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[3:] == ["db", "upgrade", "$MLFLOW_BACKEND_STORE_URI"]
    # The account is made after the hook.
    assert "serviceAccountName" not in pod


def test_a_new_server_is_ready_before_the_old_one_goes():
    update = rendered()["Deployment/mlflow"]["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}


def test_several_servers_are_spread_and_keep_a_budget():
    objects = rendered(replicas=3)
    assert objects["Deployment/mlflow"]["spec"]["replicas"] == 3
    labels = objects["Deployment/mlflow"]["spec"]["selector"]["matchLabels"]
    assert objects["PodDisruptionBudget/mlflow"]["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": labels},
    }
    [spread] = server(objects)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    # One server with a budget could never be moved off its node.
    assert "PodDisruptionBudget/mlflow" not in rendered()


def test_gc_is_a_cron_job_of_its_own():
    objects = rendered(gc={"enabled": True, "schedule": "@weekly", "olderThan": "90d"})
    spec = objects["CronJob/mlflow-gc"]["spec"]
    # Without this variable MLflow refuses, though it asks the database.
    found = environment(spec["jobTemplate"]["spec"]["template"]["spec"])
    assert found["MLFLOW_TRACKING_URI"] == "$(MLFLOW_BACKEND_STORE_URI)"
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("@weekly", "Forbid")
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    # It reads no variable for this, and would take a file of its own.
    database = ["--backend-store-uri", "$MLFLOW_BACKEND_STORE_URI"]
    assert container["command"][3:] == ["gc", *database, "--older-than", "90d"]


@pytest.mark.parametrize("name", ["Job/mlflow-migration", "CronJob/mlflow-gc"])
def test_maintenance_reaches_the_database_without_showing_its_password(name, tmp_path):
    """The command itself, on a database of its own; Kubernetes would fill in `$(…)`, not `$…`."""
    spec = rendered(gc={"enabled": True})[name]["spec"]
    pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert "$(" not in json.dumps(container["command"])
    url = f"sqlite:///{tmp_path}/a$HOME.db"
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": url, "MLFLOW_TRACKING_URI": url}
    program, *arguments = container["command"]
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "a$HOME.db").stat().st_size > 0


def test_every_value_reaches_the_objects():
    values = CHARTS / "mlflow" / "ci" / "maximal-values.yaml"
    objects = template("mlflow", files=(values,), namespace="ml")
    pods = [
        item["spec"].get("jobTemplate", item)["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in ("Deployment", "Job", "CronJob")
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["nodeSelector"] == {"pool": "services"}
        assert pod["tolerations"] == [{"key": "services", "operator": "Exists"}]
        assert "podAntiAffinity" in pod["affinity"]
        assert pod["priorityClassName"] == "services"
        [container] = pod["containers"]
        assert container["image"] == "registry.example.com/slipway/tools:1.2.3"
        assert container["imagePullPolicy"] == "Always"
    found = environment(next(pod for pod in pods if "topologySpreadConstraints" in pod))
    assert found["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "10"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"artifacts": {"root": "/mnt/artifacts"}}, "root"),
        ({"artifacts": {"root": "mlflow-artifacts:/"}}, "root"),
        ({"database": {"secret": ""}}, "secret"),
        ({"access": {"hosts": ["a,b"]}}, "hosts"),
        ({"resources": {"limits": {"cpu": "1", "memory": None}}}, "memory"),
        ({"gc": {"olderThan": "a month"}}, "olderThan"),
        ({"route": {"enabled": True}}, "route.enabled needs route.host"),
        ({"env": {"MLFLOW_SERVER_ALLOWED_HOSTS": "*"}}, "use access.hosts"),
        ({"env": {"MLFLOW_BACKEND_STORE_URI": "sqlite://"}}, "use the secret of database"),
        ({"image": {"tag": ""}}, "give a tag or a digest"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(values, sentence):
    assert sentence in fails("mlflow", IMAGE | values)


@pytest.mark.parametrize("profile", ["laptop", "team", "production"])
def test_each_profile_gives_people_a_host(profile):
    objects = {item["kind"]: item for item in render("mlflow", profile, IMAGE)}
    assert objects["HTTPRoute"]["spec"]["hostnames"][0].startswith("mlflow.slipway.")
    assert objects["Deployment"]["spec"]["replicas"] == (2 if profile == "production" else 1)
