"""Training on a real Ray: the same seed is the same model, and what is killed loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from components.train import ray_runs
from components.train.export import check_parity
from components.train.step import train
from slipway.errors import UserError
from slipway.files import read_json, sha256
from slipway.package import Model
from slipway.step import Step
from tests.local.small_training_set import small_project, small_training_set

pytestmark = [pytest.mark.local, pytest.mark.slow]
BOTH = (
    "{engine: auto, seed: 3, torch: {epochs: 4, batch_size: 256}, "
    "xgboost: {rounds: 150, early_stopping_rounds: 150}}"
)
ROOT = Path(__file__).parents[2]


def run(folder: Path, task: str, training: str, name: str = "candidate") -> tuple[dict, Path]:
    """Train in `folder`; the step's facts and the candidate's folder."""
    step = Step("train", small_project(folder, task, training))
    train(step, "features", "code", small_training_set(folder / "set", task), folder / name)
    return step.facts, folder / name


@pytest.fixture(scope="module", autouse=True)
def worker_path():
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    yield
    os.environ.pop("PYTHONPATH")
    if before:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[dict, Path]:
    """Both engines on a binary task, never interrupted."""
    return run(tmp_path_factory.mktemp("unbroken"), "binary", BOTH)


def losses(facts: dict) -> dict[str, float]:
    return {item["engine"]: item["loss"] for item in facts["candidates"]}


def test_auto_trains_both_engines_and_keeps_the_better_one_on_validation(unbroken):
    facts, _ = unbroken
    found = losses(facts)
    assert set(found) == {"torch", "xgboost"}
    assert facts["engine"] == min(found, key=found.get)
    assert [item["engine"] for item in facts["candidates"] if item["chosen"]] == [facts["engine"]]
    assert max(found.values()) < 0.45, "neither engine found the signal"


def test_the_candidate_answers_with_probabilities_for_rows_with_nulls(unbroken):
    _, candidate = unbroken
    rows = pq.read_table(candidate.parent / "set" / "training_set.parquet")
    predictions = Model.load(candidate).predict(rows)
    assert predictions.shape == (len(rows),)
    assert np.isfinite(predictions).all()
    assert ((predictions > 0) & (predictions < 1)).all()


def test_every_feature_of_the_signal_is_found_important(unbroken):
    facts, _ = unbroken
    assert {item["feature"] for item in facts["importance"]} == {
        "size",
        "recent__mean",
        "recent__kind",
    }
    assert min(item["value"] for item in facts["importance"]) > 0.01


def test_a_killed_worker_of_either_engine_resumes_and_ends_in_the_same_model(
    unbroken, tmp_path, monkeypatch
):
    facts, candidate = unbroken
    for engine, step in (("torch", 4), ("xgboost", 150)):
        marker = tmp_path / engine / "killed"
        marker.parent.mkdir()
        monkeypatch.setenv("SLIPWAY_KILL_WORKER", f"{engine}:{step}:{marker}")
        only = BOTH.replace("auto", engine)
        broken, folder = run(tmp_path / engine, "binary", only)
        assert marker.exists(), "nothing was killed"
        # Ray may not have picked up the checkpoint just before the kill, but those before it.
        assert 0 < broken["resumed_from"] < step
        assert losses(broken)[engine] == losses(facts)[engine]
        if facts["engine"] == engine:
            assert sha256(folder / "model.onnx") == sha256(candidate / "model.onnx")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_and_not_waited_for(tmp_path):
    training = "{engine: torch, use_gpu: true, torch: {epochs: 1, batch_size: 256}}"
    with pytest.raises(UserError, match="this machine has 0 GPUs for 1 workers"):
        run(tmp_path, "binary", training)


def of_session(pid):
    """Processes of that step's Ray, also those that started last: its folder is in their command
    lines."""
    folder = f"{ray_runs.PREFIX}{pid}-"
    running = psutil.process_iter(["cmdline"])
    return [process for process in running if folder in " ".join(process.info["cmdline"] or [])]


def test_a_killed_step_leaves_no_process_and_resumes_where_it_was(unbroken, tmp_path):
    facts, candidate = unbroken
    small_project(tmp_path, "binary", BOTH)
    small_training_set(tmp_path / "set", "binary")
    code = (
        "from pathlib import Path; "
        "from slipway.project import Project; "
        "from slipway.step import Step; "
        "from components.train.step import train; "
        "step = Step('train', Project.load('project.yaml')); "
        "train(step, 'features', 'code', Path('set'), Path('candidate').resolve())"
    )
    victim = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    saved = tmp_path / ".slipway" / "ray" / "features-code" / "ray"
    deadline = time.monotonic() + 120
    while not list(saved.glob("*/checkpoint_*/job.json")):
        assert victim.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(victim.pid).children(recursive=True)
    assert len(family) > 2, "Ray's processes were expected"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    _, alive = psutil.wait_procs(family + of_session(victim.pid), timeout=90)
    assert not alive, f"orphans: {[process.name() for process in alive]}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    left = list(ray_runs.SHORT.glob(f"{ray_runs.PREFIX}{victim.pid}-*"))
    assert not left, "the session folder of the killed run is still there"
    resumed = read_json(tmp_path / "candidate" / "training.json")
    assert losses(resumed) == losses(facts)
    assert sha256(tmp_path / "candidate" / "model.onnx") == sha256(candidate / "model.onnx")


@pytest.mark.parametrize(
    ("task", "engine", "shape", "worst"),
    [
        ("multiclass", "auto", (500, 3), 0.7),
        ("regression", "auto", (500,), 8.0),
    ],
)
def test_the_other_tasks_train_on_both_engines(tmp_path, task, engine, shape, worst):
    facts, candidate = run(tmp_path, task, BOTH.replace("auto", engine))
    assert max(losses(facts).values()) < worst
    rows = pq.read_table(
        tmp_path / "set" / "training_set.parquet", filters=[("window", "=", "test")]
    )
    predictions = Model.load(candidate).predict(rows)
    assert predictions.shape == shape
    if task == "multiclass":
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "xgboost"])
def test_two_workers_share_the_rows_and_find_the_signal(tmp_path, engine):
    training = BOTH.replace("auto", engine).replace("seed: 3", "seed: 3, workers: 2")
    facts, _ = run(tmp_path, "binary", training)
    assert losses(facts)[engine] < 0.45
    assert "2 workers" in facts["where"]


@pytest.mark.parametrize("method", ["grid", "random", "bayesian"])
def test_a_search_trains_with_the_best_settings_it_tried(tmp_path, method):
    space = "{xgboost.max_depth: [1, 4]}"
    if method != "grid":
        space = (
            "{xgboost.max_depth: {min: 1, max: 5}, "
            "xgboost.learning_rate: {min: 0.01, max: 0.3, log: true}}"
        )
    training = (
        "{engine: xgboost, xgboost: {rounds: 40}, "
        f"search: {{method: {method}, trials: 4, space: {space}}}}}"
    )
    facts, _ = run(tmp_path, "binary", training)
    trials = facts["search"]["trials"]
    assert len(trials) == (2 if method == "grid" else 4)
    assert trials == sorted(trials, key=lambda trial: trial["loss"])
    for name, value in trials[0]["settings"].items():
        assert facts["candidates"][0]["settings"][name.removeprefix("xgboost.")] == value


def test_an_export_that_answers_otherwise_is_refused(unbroken):
    _, candidate = unbroken
    features = np.zeros((4, 3), np.float32)
    with pytest.raises(RuntimeError, match="differs from the engine"):
        check_parity(candidate / "model.onnx", features, np.full(4, 2.0, np.float32))
