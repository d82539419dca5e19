"""charts/feast: the newest data reach the online store on time, one run at a time."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from slipway.cli import cli
from tests.charts.render import CHARTS, fails, render, template

IMAGE = {"image": {"tag": "1"}}
Object = dict[str, Any]


def rendered(**values: Any) -> dict[str, Object]:
    found = template("feast", IMAGE | values, namespace="kubeflow")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def cron_job(objects: dict[str, Object]) -> Object:
    return objects["CronJob/feast-materialize"]["spec"]


def pods(objects: dict[str, Object]) -> list[Object]:
    specs = [cron_job(objects)["jobTemplate"], objects["Job/feast-check"]]
    return [item["spec"]["template"]["spec"] for item in specs]


def test_by_default_the_store_is_brought_to_the_present_every_hour_one_run_at_a_time():
    objects = rendered()
    assert set(objects) == {
        "CronJob/feast-materialize",
        "Job/feast-check",
        "ServiceAccount/feast",
    }
    spec = cron_job(objects)
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["suspend"] is False
    assert spec["schedule"].split()[1:] == ["*"] * 4
    assert spec["timeZone"] == "Etc/UTC"
    job = spec["jobTemplate"]["spec"]
    # The next run finds the last one gone.
    assert spec["startingDeadlineSeconds"] + job["activeDeadlineSeconds"] <= 3900
    assert "--as-of" not in job["template"]["spec"]["containers"][0]["command"]


@pytest.mark.parametrize("place", [0, 1])
def test_what_the_pods_run_is_a_command_that_there_is(place):
    [container] = pods(rendered(materialize={"asOf": "2024-01-01"}))[place]["containers"]
    program, *arguments = container["command"]
    assert program == "slipway"
    options = [item for item in arguments if item.startswith("--")]
    done = CliRunner().invoke(cli, [*arguments[:2], "--help"])
    assert done.exit_code == 0
    assert all(option in done.output for option in options)


def test_the_pods_know_what_pipeline_steps_know_and_a_value_of_their_own_wins():
    more = {"SLIPWAY_FEAST_REGISTRY_TYPE": "file", "SLIPWAY_FEATURE_STORE": "/mine"}
    for pod in pods(rendered(environment={"configMap": "c", "secret": "s", "more": more})):
        [container] = pod["containers"]
        assert container["envFrom"] == [
            {"configMapRef": {"name": "c"}},
            {"secretRef": {"name": "s"}},
        ]
        variables = {item["name"]: item["value"] for item in container["env"]}
        assert len(variables) == len(container["env"])
        assert variables["SLIPWAY_FEAST_REGISTRY_TYPE"] == "file"
        assert variables["SLIPWAY_FEATURE_STORE"] == "/mine"
        # Nothing can be written but /tmp.
        assert variables["HOME"] == "/tmp"
        assert variables["SLIPWAY_HOME"].startswith("/tmp/")
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_a_mistake_is_told_once_and_a_fault_is_tried_again():
    job = cron_job(rendered(materialize={"backoffLimit": 5}))["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 5
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # or Kubernetes refuses the policy
    rules = {rule["action"]: rule for rule in job["podFailurePolicy"]["rules"]}
    assert rules["FailJob"]["onExitCodes"] == {
        "containerName": "materialize",
        "operator": "In",
        "values": [2],
    }
    assert job["template"]["spec"]["containers"][0]["name"] == "materialize"


def test_an_installation_fails_where_a_store_does_not_answer():
    job = rendered()["Job/feast-check"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "Job/feast-check" not in rendered(check={"enabled": False})


def test_the_memory_of_duckdb_fits_into_the_limit():
    for values in ({}, yaml.safe_load((CHARTS / "feast/ci/maximal-values.yaml").read_text())):
        spec = cron_job({**rendered(**values)})["jobTemplate"]["spec"]["template"]["spec"]
        [container] = spec["containers"]
        variables = {item["name"]: item["value"] for item in container["env"]}
        limit = container["resources"]["limits"]["memory"]
        mebibytes = int(limit[:-2]) * {"Mi": 1, "Gi": 1024}[limit[-2:]]
        assert mebibytes >= 1000 * int(variables["SLIPWAY_MEMORY_LIMIT"][:-2]) + 1024


def test_every_value_reaches_the_objects():
    objects = template(
        "feast", files=(CHARTS / "feast" / "ci" / "maximal-values.yaml",), namespace="kubeflow"
    )
    found = {f"{item['kind']}/{item['metadata']['name']}": item for item in objects}
    for pod in pods(found):
        assert pod["serviceAccountName"] == "feast"
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["nodeSelector"] == {"pool": "batch"}
        assert pod["tolerations"] == [{"key": "batch", "operator": "Exists"}]
        assert "nodeAffinity" in pod["affinity"]
        assert pod["priorityClassName"] == "batch"
        [container] = pod["containers"]
        assert container["image"] == "registry.example.com/slipway/data:1.2.3"
        assert "/app/examples/gapminder/project.yaml" in container["command"]
    spec = cron_job(found)
    assert (spec["schedule"], spec["suspend"]) == ("*/15 * * * *", True)
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 5)
    work = pods(found)[0]
    assert work["containers"][0]["command"][-2:] == ["--as-of", "2024-01-01"]
    assert work["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "50Gi"}}]
    annotations = found["ServiceAccount/feast"]["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/role-arn"].endswith("features")
    assert "CronJob/feast-materialize" not in rendered(materialize={"enabled": False})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"materialise": {}}, "materialise"),
        ({"materialize": {"schedule": "hourly"}}, "schedule"),
        ({"materialize": {"duckdbMemory": "2Gi"}}, "duckdbMemory"),
        ({"materialize": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ({"environment": {"secret": ""}}, "secret"),
        ({"project": "project.yaml"}, "project"),
        ({"image": {"tag": ""}}, "give a tag or a digest"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(values, sentence):
    assert sentence in fails("feast", IMAGE | values)


@pytest.mark.parametrize("profile", ["laptop", "team", "production"])
def test_the_laptop_s_data_ended_long_ago_and_others_go_on(profile):
    [found] = [item for item in render("feast", profile, IMAGE) if item["kind"] == "CronJob"]
    assert found["spec"]["suspend"] is (profile == "laptop")
