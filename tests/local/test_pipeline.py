"""The whole lifecycle, through the command line, on the example projects."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from components.features.step import features
from components.ingest.step import ingest
from pipelines.compile import STEPS, compile_training
from slipway.files import read_json
from slipway.package import REQUIRED, verify
from slipway.project import Project
from slipway.step import Step

pytestmark = [pytest.mark.local, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def copy_of(example: str, folder: Path) -> Path:
    """A project of its own, so that nothing is left in the examples."""
    shutil.copytree(ROOT / "examples" / example, folder, ignore=shutil.ignore_patterns(".slipway"))
    return folder / "project.yaml"


def slipway(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from slipway.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def demo(project: Path) -> dict:
    done = slipway("demo", "--project", project, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def result(summary: dict) -> dict:
    """What a run found, without when and how long."""
    kept = ("data_version", "feature_version", "models", "gates", "version", "alias", "rows")
    return {name: summary[name] for name in kept}


@pytest.fixture(scope="module")
def gapminder(tmp_path_factory) -> tuple[Path, dict]:
    """A regression on trees, run once."""
    project = copy_of("gapminder", tmp_path_factory.mktemp("gapminder") / "project")
    return project, demo(project)


@pytest.fixture(scope="module")
def seattle(tmp_path_factory) -> tuple[Path, dict]:
    """A multiclass network, run once."""
    project = copy_of("seattle-weather", tmp_path_factory.mktemp("seattle") / "project")
    return project, demo(project)


@pytest.mark.parametrize("name", ["gapminder", "seattle"])
def test_every_task_type_ends_in_a_champion_that_scores_online_as_offline(name, request):
    project, summary = request.getfixturevalue(name)
    assert summary["passed"]
    assert summary["alias"] == "champion"
    assert abs(summary["online_offline_difference"]) <= 1e-6
    assert [step["step"] for step in summary["steps"]] == list(STEPS)
    beaten = [gate for gate in summary["gates"] if "the prior model's" in gate["text"]]
    assert beaten, "the example has no gate against knowing nothing"
    assert beaten[0]["passed"]
    home = Project.load(project).home
    assert (home.report / "index.html").stat().st_size > 100_000
    assert read_json(home.report / "summary.json") == summary


def test_the_registered_package_is_whole_and_holds_no_pickle(gapminder):
    project, _ = gapminder
    package = Path(read_json(Project.load(project).home.pipelines / "last.json")["package"])
    verify(package)
    names = {path.name for path in package.iterdir()}
    assert names == {*REQUIRED, "SHA256SUMS"}


def test_a_second_run_reuses_what_did_not_change_and_says_so(gapminder):
    project, first = gapminder
    again = demo(project)
    assert {"ingest", "validate", "features", "train", "evaluate", "register"} == set(
        again["reused"]
    )
    assert result(again) == result(first)
    assert again["looks"] == 1


def test_a_changed_contract_trains_anew_and_must_beat_the_champion(gapminder, tmp_path):
    project, first = gapminder
    home = shutil.copytree(project.parent, tmp_path / "project")
    text = (home / "project.yaml").read_text().replace("max_depth: 3", "max_depth: 2")
    (home / "project.yaml").write_text(text)
    second = demo(home / "project.yaml")
    assert second["data_version"] == first["data_version"]
    assert second["version"] == "2"
    assert second["looks"] == 2
    assert any(model["name"] == "champion" for model in second["models"])


def test_as_of_hides_everything_later(tmp_path):
    project = Project.load(copy_of("gapminder", tmp_path / "project"))
    data_version = ingest(Step("ingest", project))
    step = Step("features", project)
    features(step, data_version, "2004-01-01", tmp_path / "training_set")
    assert step.facts["windows"]["test"]["end"].startswith("2004-01-01")
    assert max(view["last"] for view in step.facts["views"]) <= "2004-01-01T00:00:00"
    rows = pq.read_table(tmp_path / "training_set")
    for name in ("asked_at", "published_at"):
        assert pc.max(rows[name]).as_py() <= datetime(2004, 1, 1, tzinfo=UTC)


def test_bad_data_stops_before_training_with_one_clear_message(tmp_path):
    project = copy_of("gapminder", tmp_path / "project")
    text = project.read_text().replace(
        "lifeExp: {type: float, range: [15, 100]}", "lifeExp: {type: float, range: [15, 60]}"
    )
    project.write_text(text)
    done = slipway("demo", "--project", project)
    assert done.returncode == 2
    assert re.search(r"surveys\.lifeExp breaks `range`: \d+ of 1,704 rows", done.stderr)
    assert "Traceback" not in done.stderr
    runs = Project.load(project).home.pipelines / "runs"
    assert not list(runs.glob("*/train")), "something was trained on bad data"
    docs = re.search(r"Data docs: (\S+)", done.stderr)
    assert docs
    assert Path(docs[1]).exists()


def test_the_compiled_file_is_what_runs_locally_and_names_every_step(gapminder, tmp_path):
    project, _ = gapminder
    loaded = Project.load(project)
    compiled = compile_training(loaded, str(loaded.path), tmp_path / "training.yaml")
    ran = loaded.home.pipelines / "training.yaml"
    spec, ran_spec = (next(yaml.safe_load_all(path.read_text())) for path in (compiled, ran))
    assert spec == ran_spec
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {*STEPS, "release"}
    depends = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert depends == {
        "ingest": set(),
        "validate": {"ingest"},
        "features": {"ingest", "validate"},
        "train": {"features"},
        "evaluate": {"features", "ingest", "train"},
        "register": {"evaluate", "features", "ingest", "train"},
        "release": {"register"},
    }
    # What each local step was given is what the graph says it gets.
    first_run = sorted((loaded.home.pipelines / "runs").iterdir())[0]
    given = {step: read_json(first_run / step / "facts")["facts"] for step in STEPS}
    lineage = given["register"]["lineage"]
    assert lineage["data_version"] == given["ingest"]["data_version"]
    assert given["validate"]["data_version"] == given["ingest"]["data_version"]
    assert lineage["feature_version"] == given["features"]["feature_version"]
    assert lineage["as_of"] == given["features"]["as_of"]


def test_killed_at_any_step_the_same_command_ends_in_the_same_result(gapminder, tmp_path):
    _, unbroken = gapminder
    project = copy_of("gapminder", tmp_path / "project")
    for step in (*STEPS, "score"):
        kill_during(step, project)
    assert result(demo(project)) == result(unbroken)
    package = Path(read_json(Project.load(project).home.pipelines / "last.json")["package"])
    verify(package)


def kill_during(step: str, project: Path) -> None:
    """Start the demo, SIGKILL it while `step` is at work, and see that nothing of it goes on."""
    log = Project.load(project).home.pipelines / "run.log"
    before = log.stat().st_mtime_ns if log.exists() else 0
    command = [
        sys.executable,
        "-c",
        "from slipway.cli import main; main()",
        "demo",
        "--project",
        str(project),
    ]
    victim = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120

    def at_work() -> bool:
        if not log.exists() or log.stat().st_mtime_ns == before:
            return False
        text = log.read_text()
        if step == "score":
            return re.search(r"Pipeline .* finished with status", text) is not None
        started = re.findall(r"Executing task .*?'([a-z]+)'", text)
        return bool(started) and started[-1] == step

    while not at_work():
        assert victim.poll() is None, f"it ended before {step}: {victim.stderr.read()}"
        assert time.monotonic() < deadline, f"{step} never began"
        time.sleep(0.05)
    time.sleep(1.0)  # into the middle of its work
    family = psutil.Process(victim.pid).children(recursive=True)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    _, alive = psutil.wait_procs(family, timeout=90)
    assert not alive, f"orphans of {step}: {[process.name() for process in alive]}"
