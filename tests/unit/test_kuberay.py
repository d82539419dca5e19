"""The train step beside an API of Kubernetes: jobs are adopted, followed, removed, never lost."""

import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from components.train import kuberay
from slipway.errors import UserError
from slipway.kube import Kube
from slipway.project import Project
from slipway.step import Step
from slipway.storage import locate

ROOT = Path(__file__).parents[2]
JOBS = "/apis/ray.io/v1/namespaces/kubeflow/rayjobs"
JOB = f"{JOBS}/train-x"
PODS = "/api/v1/namespaces/kubeflow/pods"
HEAD = {
    "metadata": {"name": "head", "labels": {"ray.io/node-type": "head"}},
    "status": {"phase": "Running"},
}


class Api:
    """Answers by path: an object, a status, or what a function gives. Others are not there."""

    def __init__(self):
        self.answers = {PODS: {"items": [HEAD]}, f"{PODS}/head/log": ""}
        self.changes = []

    def answer(self, method, path, body):
        if method != "GET":
            self.changes.append((method, path, body))
            if method == "DELETE":
                self.answers.pop(path, None)
            return body or {}
        found = self.answers.get(path, 404)
        return found() if callable(found) else found


@pytest.fixture
def api(tmp_path, monkeypatch):
    """A running one, which the kubeconfig names."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def _do(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            found = api.answer(self.command, urlsplit(self.path).path, body)
            self.send_response(found if isinstance(found, int) else 200)
            self.end_headers()
            text = found if isinstance(found, str) else json.dumps(found)
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _do

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    config = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [
            {"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    # Read once by the client's module, when it is imported.
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kuberay, "PAUSE", 0.02)
    yield api
    server.shutdown()
    server.server_close()


@pytest.fixture
def place(tmp_path):
    return locate(str(tmp_path / "place"))


@pytest.fixture
def step():
    return Step("train", Project.load(ROOT / "project.yaml"))


def job(state, **status):
    return {
        "metadata": {"name": "train-x"},
        "status": {"jobDeploymentStatus": state, "rayClusterName": "c", **status},
    }


def over_time(*states):
    """(seconds, job): each for so long, the last one without end."""
    started = time.monotonic()

    def now():
        left = time.monotonic() - started
        for seconds, found in states:
            left -= seconds
            if left < 0:
                return found
        return states[-1][1]

    return now


DONE = job("Complete", jobStatus="SUCCEEDED")


def watch(step, place, start_seconds):
    kuberay._watch(step, Kube(), JOB, place, start_seconds)


def test_a_head_that_is_lost_after_long_training_is_waited_for_like_the_first(api, step, place):
    api.answers[JOB] = over_time(
        (0.2, job("Initializing")), (1, job("Running")), (0.2, job("Retrying")), (0, DONE)
    )
    watch(step, place, 0.6)


def test_a_cluster_that_does_not_come_is_given_up_with_its_reason(api, step, place):
    api.answers[JOB] = job("Initializing")
    message = "0/1 nodes are available"
    waits = {"type": "PodScheduled", "status": "False", "message": message}
    head = {**HEAD, "status": {"phase": "Pending", "conditions": [waits]}}
    api.answers[PODS] = {"items": [head]}
    with pytest.raises(UserError, match=f"not there after 0 s .pod head: {message}"):
        watch(step, place, 0.3)


def test_an_image_that_is_not_there_is_given_up_at_once(api, step, place, monkeypatch):
    monkeypatch.setattr(kuberay, "GRACE", 0.1)
    api.answers[JOB] = job("Initializing")
    waits = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "ray-head", "image": "train:1", "state": waits}
    head = {**HEAD, "status": {"phase": "Pending", "containerStatuses": [container]}}
    api.answers[PODS] = {"items": [head]}
    with pytest.raises(UserError, match="cannot start: pod head: ImagePullBackOff train:1"):
        watch(step, place, 60)


def test_a_job_is_told_again_and_again_that_someone_wants_it(api, step, place, monkeypatch):
    monkeypatch.setattr(kuberay, "PULSE_SECONDS", 0.05)
    beats = set()

    def beaten():
        beats.add((place / kuberay.PULSE).read_bytes())
        return DONE if len(beats) == 3 else job("Running")

    api.answers[JOB] = beaten
    watch(step, place, 5)


def test_a_log_is_shown_once_and_waited_for_where_its_container_restarts(api, step, place, capsys):
    api.answers[JOB] = over_time((0.6, job("Running")), (0, DONE))
    first = "2026-11-21T10:00:00.1Z slipway: epoch 1\n"
    second = "2026-11-21T10:00:00.2Z slipway: epoch 2\n"
    api.answers[f"{PODS}/head/log"] = over_time(
        (0.2, 400), (0.2, first), (0.1, 404), (0, first + second)
    )
    watch(step, place, 5)
    assert capsys.readouterr().out == "slipway: epoch 1\nslipway: epoch 2\n"


def test_a_mistake_that_training_found_is_told_in_its_own_words(api, step, place):
    api.answers[JOB] = DONE
    (place / kuberay.FAILURE).write_text(json.dumps({"message": "no such engine."}))
    with pytest.raises(UserError, match="no such engine"):
        watch(step, place, 5)


def test_a_job_that_failed_says_why(api, step, place):
    api.answers[JOB] = job("Failed", jobStatus="FAILED", reason="AppFailed", message="a\nb")
    with pytest.raises(RuntimeError, match=r"the Ray job failed .AppFailed.: a b"):
        watch(step, place, 5)


def test_a_job_that_an_equal_run_removed_has_ended_well_where_its_candidate_lies(step, api, place):
    with pytest.raises(RuntimeError, match="was deleted while it ran"):
        watch(step, place, 5)
    (place / kuberay.CANDIDATE / kuberay.RESULT).write_text("{}")
    watch(step, place, 5)


@contextmanager
def training(step, place, monkeypatch):
    for name, value in {
        "SLIPWAY_NAMESPACE": "kubeflow",
        "SLIPWAY_RAY_PROFILE": "cpu-laptop",
        "KFP_POD_NAME": "step",
    }.items():
        monkeypatch.setenv(name, value)
    with kuberay._job(step, Kube(), "train-x", "registry/train:1", place) as (path, profile):
        assert path == JOB
        yield profile


def owned_by(workflow):
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": workflow, "uid": "1"}
    return {"metadata": {"name": "step", "ownerReferences": [{**owner, "controller": True}]}}, owner


def test_a_training_makes_its_job_and_removes_it(api, step, place, monkeypatch):
    api.answers[f"{PODS}/step"], owner = owned_by("run-1")
    (place / kuberay.FAILURE).write_text("of an earlier attempt")
    with training(step, place, monkeypatch):
        [(method, path, made)] = api.changes
        assert (method, path) == ("POST", JOBS)
        assert made["metadata"]["ownerReferences"] == [owner]
        assert not (place / kuberay.FAILURE).exists()
    assert api.changes[-1][:2] == ("DELETE", JOB)


def test_a_second_attempt_takes_the_job_of_the_first(api, step, place, monkeypatch):
    api.answers[f"{PODS}/step"], owner = owned_by("run-2")
    api.answers[JOB] = job("Running")
    with training(step, place, monkeypatch):
        assert api.changes == [("PATCH", JOB, {"metadata": {"ownerReferences": [owner]}})]


def test_an_api_that_restarts_while_the_job_is_made_is_asked_again(api, step, place, monkeypatch):
    monkeypatch.setattr("slipway.kube.PAUSE", 0.02)
    own, _ = owned_by("run-3")
    api.answers[f"{PODS}/step"] = over_time((0.1, 503), (0, own))
    api.answers[JOB] = over_time((0.3, 503), (0, 404))
    with training(step, place, monkeypatch):
        assert [change[:2] for change in api.changes] == [("POST", JOBS)]


def test_a_job_that_failed_before_is_made_anew(api, step, place, monkeypatch):
    api.answers[JOB] = job("Failed")
    with training(step, place, monkeypatch):
        assert [change[:2] for change in api.changes] == [("DELETE", JOB), ("POST", JOBS)]


def test_an_aborted_step_removes_its_job(api, step, place, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def aborted():
        with training(step, place, monkeypatch):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit) as ended:
        aborted()
    assert ended.value.code == 143
    assert ("DELETE", JOB) in [change[:2] for change in api.changes]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_training_that_is_done_is_not_lost_because_the_api_is_away_at_its_end(
    api, step, place, monkeypatch
):
    with training(step, place, monkeypatch):
        monkeypatch.setattr("slipway.kube.SECONDS", 0.2)
        api.answer = lambda *_: time.sleep(1)  # longer than the step waits
        started = time.monotonic()
    assert time.monotonic() - started < 0.9, "a call to Kubernetes waits without end"
