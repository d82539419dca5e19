"""A mistake ends in one clear sentence and changes nothing that works; the next run mends it."""

import json
import os
import signal
import subprocess
import threading
import time

import psutil
import pytest

from ops import helm
from ops.cluster import wait
from ops.lease import NAME as LEASE
from ops.lease import exclusive
from tests.cluster.conftest import COMMAND, ROOT


def sentence(done, code=2):
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def revisions(cluster):
    return {(one["name"], one["revision"]) for one in helm.releases(cluster)}


def test_a_typo_in_the_values_is_told_before_anything_is_touched(slipway, values, cluster):
    before = revisions(cluster)
    told = sentence(slipway("deploy", values=values("mlflow", {"replcas": 2})))
    assert "mlflow cannot be rendered" in told
    assert "replcas" in told
    assert "mlflow.yaml" in told
    assert revisions(cluster) == before


def test_a_wrong_kind_of_value_names_its_path(slipway, values, cluster):
    before = revisions(cluster)
    told = sentence(slipway("deploy", values=values("storage", {"mariadb": {"enabled": "maybe"}})))
    assert "mariadb" in told
    assert "enabled" in told
    assert revisions(cluster) == before


def test_a_context_that_does_not_exist_is_told_with_those_that_do(slipway, cluster):
    told = sentence(slipway("deploy", CONTEXT="nowhere"))
    assert "no context 'nowhere'" in told
    assert cluster.context in told


def test_a_cluster_that_does_not_answer_is_told_within_seconds(slipway, tmp_path):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "gone", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    started = time.monotonic()
    told = sentence(slipway("deploy", CONTEXT="gone", KUBECONFIG=str(kubeconfig)))
    assert "the cluster of context 'gone' does not answer" in told
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_two_deploys_do_not_meet(slipway, cluster):
    with exclusive(cluster, print) as renew:
        end = threading.Event()

        def hold():
            while not end.wait(5):
                renew()

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            told = sentence(slipway("deploy", "--only", "gateway-api-crds"))
        finally:
            end.set()
            holder.join()
    assert "another deploy of this cluster is at work" in told


@pytest.mark.slow
def test_an_image_that_does_not_exist_ends_early_and_the_next_deploy_mends_it(
    slipway, values, platform, pods
):
    before = pods("mlflow")
    folder = values("mlflow", {"image": {"tag": "no-such-tag", "digest": ""}})
    started = time.monotonic()
    told = sentence(slipway("deploy", "--only", "mlflow", values=folder), code=1)
    assert "no-such-tag cannot be pulled" in told
    assert "same command again" in told
    assert time.monotonic() - started < 240
    assert set(before) <= set(pods("mlflow")), "the pod that served is gone"
    done = slipway("deploy", "--only", "mlflow")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_object_store_out_of_reach_is_named_and_the_next_deploy_mends_it(
    slipway, values, platform
):
    nowhere = {"buckets": {"endpoint": "http://nowhere.invalid:9000"}, "timeoutSeconds": 60}
    folder = values("storage", {"setup": nowhere})
    done = slipway("deploy", "--only", "storage", values=folder)
    assert "nowhere.invalid:9000" in sentence(done, code=1)
    assert "Job storage/storage-buckets: is at work: waiting for" in done.stderr
    done = slipway("deploy", "--only", "storage")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def at_work(platform, cluster):
    """A deploy at a moment when Helm holds a release."""
    with subprocess.Popen(
        [*COMMAND, "deploy", "--only", "mlflow"],
        cwd=ROOT,
        env={
            **os.environ,
            "CONTEXT": cluster.context,
            "VALUES": os.environ.get("SLIPWAY_TEST_VALUES", ""),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        for _ in wait(120, pause=0.1):
            if helm.pending(cluster):
                break
            assert process.poll() is None, "it ended before it could be stopped"
        else:
            pytest.fail("Helm held no release for two minutes")
        yield process
        process.kill()


@pytest.mark.slow
def test_a_deploy_that_is_stopped_leaves_nothing_locked(at_work, cluster):
    at_work.send_signal(signal.SIGTERM)
    told, _ = at_work.communicate(timeout=60)
    assert at_work.returncode == 1
    assert "stopped; the same command goes on from here" in told
    assert not helm.pending(cluster)
    assert not cluster.one("lease", LEASE, "kube-system")


@pytest.mark.slow
def test_a_deploy_that_is_killed_can_be_repeated(at_work, slipway, cluster):
    for one in [*psutil.Process(at_work.pid).children(recursive=True), at_work]:
        one.kill()
    at_work.wait()
    done = slipway("deploy", "--only", "mlflow")
    assert done.returncode == 0, done.stderr
    assert all(one["status"] == "deployed" for one in helm.releases(cluster))
