"""From an empty cluster to predictions through the gateway; a second time changes nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ops.deploy import state_folder
from ops.fit import Room, of_pod
from ops.kind import is_kind
from ops.platform import Platform
from tests.cluster.conftest import COMMAND, ROOT

pytestmark = pytest.mark.slow
MINUTES = 10
"""From `make deploy` to the first prediction, on two cores with the images present."""
CPU, MEMORY = 0.7, 3.5 * 2**30
"""What the laptop profile may request while nothing runs."""
STEPS = ("ingest", "validate", "features", "train", "evaluate", "register", "release")


@pytest.fixture(scope="module")
def summary(cluster, slipway):
    """Everything anew: off with what is there, deploy, train, release, score."""
    gone = slipway("down")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    anew = ["--kind"] if is_kind(cluster.context) else []
    done = slipway("deploy", "--run", *anew, seconds=1800)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    return json.loads((state_folder(cluster.context) / "summary.json").read_text())


@pytest.mark.timeout(2400)
def test_first_prediction_comes_within_ten_minutes_of_an_empty_cluster(summary):
    assert sum(summary["seconds"].values()) < MINUTES * 60


def test_every_step_of_the_pipeline_ran(summary):
    assert set(STEPS) <= set(summary["steps"])


@pytest.mark.parametrize("protocol", ["V1", "V2", "gRPC"])
def test_answers_through_the_gateway_are_those_of_the_embedded_rung(summary, protocol):
    found = summary["score"]["protocols"][protocol]
    assert found["rows"] > 200
    assert abs(found["difference"]) < 1e-6
    assert found["largest_difference"] < 1e-6


def test_the_whole_test_window_through_the_gateway_scores_as_it_did_in_training(summary):
    found, trained = summary["score"]["window"], summary["score"]["on_test_window"]
    assert found["rows"] == trained["window"]["rows"]
    assert found["largest_difference"] < 1e-6
    assert abs(found["value"] - trained["metrics"][found["metric"]]["value"]) < 1e-6


@pytest.mark.timeout(900)
def test_the_model_of_the_cluster_is_as_good_as_the_embedded_one(summary, tmp_path):
    """The same contract, run in local processes."""
    environment = {**os.environ, "SLIPWAY_HOME": str(tmp_path)}
    for name in ("CONTEXT", "KUBECONFIG"):
        environment.pop(name, None)
    done = subprocess.run(
        [*COMMAND, "run"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "pipelines" / "last.json").read_text())
    embedded = json.loads((Path(last["package"]) / "metrics.json").read_text())
    there = summary["score"]["on_test_window"]
    assert there["window"] == embedded["window"]
    for metric, found in embedded["metrics"].items():
        assert abs(there["metrics"][metric]["value"] - found["value"]) < 1e-6, metric


def test_the_idle_platform_requests_no_more_than_a_laptop_has(summary, cluster):
    platform = Platform.load("laptop")
    namespaces = {release.namespace for release in platform.releases} | {"models"}
    counted, total = set(), Room()
    for pod in cluster.get("pods"):
        space = pod["metadata"]["namespace"]
        # One that waits for room asks for it as well.
        if space in namespaces - {"kube-system"} and pod["status"]["phase"] in (
            "Pending",
            "Running",
        ):
            counted.add(space)
            total += of_pod(pod["spec"])
    print(f"requested: {total}")
    assert {"gateway", "kserve", "kubeflow", "mlflow", "models", "storage"} <= counted
    assert total.cpu <= CPU
    assert total.memory <= MEMORY


@pytest.mark.timeout(1200)
def test_a_second_deploy_changes_nothing(summary, slipway, pods):
    before = pods()
    done = slipway("deploy")
    assert done.returncode == 0, done.stderr
    after = pods()
    assert {name: after.get(name) for name in before} == before


def test_status_finds_everything_healthy(summary, slipway):
    done = slipway("status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, found["problems"]
    assert found["healthy"]
    assert {"kfp", "mlflow", "storage"} <= {one["name"] for one in found["releases"]}


def test_the_secrets_of_the_installation_are_its_own(summary, cluster):
    """Nothing ships a password: what is in the secrets is in no file of the repository."""
    import base64

    from slipway.code import ROOT

    secret = cluster.one("secret", "slipway-passwords", "slipway-system")
    values = {base64.b64decode(text).decode() for text in secret["data"].values()}
    assert len(values) > 5
    for file in (ROOT / "charts").rglob("*.yaml"):
        assert not [v for v in values if v in file.read_text()], file
