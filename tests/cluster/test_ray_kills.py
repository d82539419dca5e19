"""Training through KubeRay is not lost with a pod, and not left behind by a run that is given up.

Each test trains the small example project up to another moment, which no cache knows.
"""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest

from ops.cluster import wait
from tests.cluster.conftest import COMMAND, ROOT
from tests.cluster.sigkill import sigkill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROJECT = "examples/gapminder/project.yaml"
JOBS = "rayjobs.ray.io"
STEP = "slipway/service-account=pipeline-trainer"
HEAD = "ray.io/node-type=head"


@pytest.fixture(autouse=True)
def nothing_trains(platform):
    """No test takes another one's Ray cluster for its own."""
    platform.kubectl("delete", JOBS, "--all", "--namespace", "kubeflow", "--timeout=60s")
    for _ in wait(60, 1):
        if not running(platform, HEAD):
            return
    raise AssertionError("a Ray cluster of before is still there")


@contextmanager
def submitted(platform, as_of):
    """`slipway submit` as a process, for the time of the block."""
    environment = {**os.environ, "CONTEXT": platform.context}
    process = subprocess.Popen(
        [*COMMAND, "submit", "--project", PROJECT, "--as-of", as_of],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def running(platform, selector):
    return [
        pod["metadata"]["name"]
        for pod in platform.get("pods", namespace="kubeflow", selector=selector)
        if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")
    ]


def steps(platform):
    """Pods of the step that trains, of all runs, also those that have ended."""
    found = platform.get("pods", namespace="kubeflow", selector=STEP)
    return {pod["metadata"]["name"] for pod in found}


def training(platform, process):
    """Wait until Ray trains; the names of the step's pod and of the head's, and the job's uid."""
    for _ in wait(400, 1):
        assert process.poll() is None, process.communicate()[0]
        for head in running(platform, HEAD):
            log = platform.kubectl("logs", head, "--namespace", "kubeflow", "--tail", "20")
            if "slipway: training" in log:
                (step,) = running(platform, STEP)
                (job,) = platform.get(JOBS, namespace="kubeflow")
                return step, head, job["metadata"]["uid"]
    raise AssertionError("Ray did not begin to train within 400 s")


def ended_well(process):
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    assert "is the candidate" in told or "is done already" in told
    return told


def test_a_killed_head_is_replaced_and_the_run_ends_well(platform):
    with submitted(platform, "2005-01-01") as process:
        _, head, _ = training(platform, process)
        sigkill(platform, "kubeflow", head)
        ended_well(process)
    assert not platform.get(JOBS, namespace="kubeflow"), "the job is left behind"


def test_a_second_attempt_of_a_killed_step_goes_on_with_the_job_of_the_first(platform):
    before = steps(platform)
    with submitted(platform, "2005-02-01") as process:
        step, _, job = training(platform, process)
        sigkill(platform, "kubeflow", step)
        jobs, attempts = set(), set()
        for _ in wait(600, 0.5):
            ended = process.poll() is not None
            jobs |= {one["metadata"]["uid"] for one in platform.get(JOBS, namespace="kubeflow")}
            attempts |= steps(platform) - before
            if ended:
                break
        ended_well(process)
    assert len(attempts) > 1, "the step was not tried again"
    assert jobs <= {job}, "it began anew"
    assert not platform.get(JOBS, namespace="kubeflow"), "the job is left behind"


def test_a_run_that_is_terminated_takes_its_ray_cluster_along(platform, slipway):
    with submitted(platform, "2005-03-01") as process:
        training(platform, process)
        done = slipway("runs", "terminate", "latest")
        assert done.returncode == 0, done.stderr
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "was terminated" in told
    for _ in wait(60, 1):
        if not platform.get(JOBS, namespace="kubeflow") and not running(platform, HEAD):
            return
    raise AssertionError("a minute later the Ray cluster is still there")


def test_an_image_that_is_not_there_is_said_and_the_job_removed(platform, slipway, tmp_path):
    """As a person sees it: a run whose train image cannot be pulled ends with code 2."""
    note = json.loads((ROOT / ".slipway" / "images.json").read_text())
    note["train"] |= {"tag": "nowhere", "digest": ""}
    images = tmp_path / "images.json"
    images.write_text(json.dumps(note))
    done = slipway("submit", "--project", PROJECT, "--as-of", "1997-01-01", "--images", images)
    assert done.returncode == 2, done.stderr
    assert "cannot start" in done.stderr
    assert ":nowhere" in done.stderr
    assert not platform.get(JOBS, namespace="kubeflow"), "the job is left behind"
