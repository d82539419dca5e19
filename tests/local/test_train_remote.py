"""Training whose machines meet in an object store, as in a Ray cluster, on the Ray of this one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.train import kuberay, remote
from components.train.exchange import fetch, publish
from components.train.step import train
from slipway.code import code_version
from slipway.files import read_json, sha256
from slipway.package import EXPLAINER, Model
from slipway.step import Step
from slipway.storage import locate
from tests.local.servers import s3_server
from tests.local.small_training_set import small_project, small_training_set

pytestmark = [pytest.mark.local, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
TREES = "{engine: xgboost, seed: 3, xgboost: {rounds: 150, early_stopping_rounds: 150}}"


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with s3_server(monkeypatch, "slipway") as client:
        yield client


def handed_over(folder: Path, training: str):
    """A project, and the place where the step has put its training set."""
    project = small_project(folder, "binary", training)
    place = locate("s3://slipway/ray/train-small-0123456789")
    publish(small_training_set(folder / "set", "binary"), place / kuberay.TRAINING_SET)
    return project, place


def names(client):
    found = client.list_objects_v2(Bucket="slipway")["Contents"]
    return sorted(item["Key"] for item in found if not item["Key"].endswith("/"))  # folders


def test_a_candidate_that_came_through_the_store_has_the_embedded_ones_trees(store, tmp_path):
    project, place = handed_over(tmp_path, TREES)
    embedded = tmp_path / "embedded"
    train(Step("train", project), "features", "code", tmp_path / "set", embedded)
    remote.main(place.uri, str(project.path), project.version, code_version())
    fetched = tmp_path / "fetched"
    fetch(place / kuberay.CANDIDATE, fetched)
    assert sha256(fetched / EXPLAINER) == sha256(embedded / EXPLAINER)
    rows = pq.read_table(tmp_path / "set" / "training_set.parquet")
    answers = [Model.load(folder).predict(rows) for folder in (fetched, embedded)]
    np.testing.assert_array_equal(*answers)
    assert read_json(fetched / kuberay.RESULT)["engine"] == "xgboost"
    left = {key.split("/")[2] for key in names(store)}
    assert left == {kuberay.CANDIDATE}, "checkpoints and copies of the data were left behind"


def noted_checkpoint(client):
    """Whether Ray has written down where a checkpoint lies, which it does after uploading it."""
    notes = [key for key in names(client) if key.endswith("checkpoint_manager_snapshot.json")]
    return (
        notes
        and "job.json" in str(names(client))
        and b"checkpoint_20" in (client.get_object(Bucket="slipway", Key=notes[0])["Body"].read())
    )


def test_a_killed_head_resumes_from_its_checkpoints_in_the_store(store, tmp_path):
    # Long enough to be killed in the middle of it.
    project, place = handed_over(tmp_path, TREES.replace("150", "1500"))
    arguments = [place.uri, str(project.path), project.version, code_version()]
    command = [sys.executable, "-m", "components.train.remote", *arguments]
    environment = {**os.environ, "SLIPWAY_HOME": str(tmp_path / "first")}
    victim = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not noted_checkpoint(store):
        assert victim.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    # Another pod: nothing of the first one's disk is there.
    environment["SLIPWAY_HOME"] = str(tmp_path / "second")
    subprocess.run(command, env=environment, check=True, timeout=180)
    result = json.loads((place / kuberay.CANDIDATE / kuberay.RESULT).read_bytes())
    assert result["resumed_from"] > 0


def test_a_mistake_is_handed_back_in_its_own_words(store, tmp_path, monkeypatch):
    project, place = handed_over(tmp_path, TREES.replace("xgboost,", "auto,", 1))
    monkeypatch.setattr("components.train.step.find_spec", lambda name: name != "torch" or None)
    remote.main(place.uri, str(project.path), project.version, code_version())
    told = json.loads((place / kuberay.FAILURE).read_bytes())["message"]
    assert "auto needs torch, which is not installed here" in told


def test_an_image_of_another_commit_is_refused(store, tmp_path):
    project, place = handed_over(tmp_path, TREES)
    remote.main(place.uri, str(project.path), project.version, "0" * 12)
    assert "make images" in json.loads((place / kuberay.FAILURE).read_bytes())["message"]


def test_a_training_that_nobody_waits_for_ends(store):
    code = (
        "from components.train import remote; from slipway.storage import locate; "
        "remote.UNWANTED = 2; remote._end_without_pulse(locate('s3://slipway/ray/gone'))"
    )
    place = locate("s3://slipway/ray/gone")
    (place / kuberay.PULSE).write_text("1")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "nobody waits" in done.stdout
    assert time.monotonic() - started > 2
