"""`slipway submit` and `slipway runs` with the pipelines of a cluster."""

import json
import re

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROJECT = "examples/gapminder/project.yaml"


@pytest.fixture(scope="module")
def run(platform, slipway):
    """A run that succeeded, by its id."""
    done = slipway("submit", "--project", PROJECT)
    assert done.returncode == 0, done.stderr
    return re.search(r"^run (\S+)", done.stderr, re.M)[1]


def test_a_commit_is_uploaded_once_and_its_second_run_comes_from_the_cache(run, slipway):
    done = slipway("submit", "--project", PROJECT)
    assert done.returncode == 0, done.stderr
    assert "there already" in done.stderr
    assert re.search(r"train +reused", done.stdout)


def test_an_equal_run_on_its_way_is_taken_instead_of_a_second_one(run, slipway):
    first = slipway("submit", "--project", PROJECT, "--no-wait")
    second = slipway("submit", "--project", PROJECT, "--no-wait")
    assert first.stdout.strip() == second.stdout.strip() != run
    assert "is on its way already" in second.stderr
    assert slipway("runs", "watch", "latest").returncode == 0


def test_runs_are_listed_with_their_state_and_seconds(run, slipway):
    found = {one["run"]: one for one in json.loads(slipway("runs", "list", "--json").stdout)}
    assert found[run]["state"] == "succeeded"
    assert found[run]["seconds"] > 10
    steps = json.loads(slipway("runs", "show", run[:8], "--json").stdout)["steps"]
    assert {step["state"] for step in steps} <= {"done", "reused"}


def test_the_log_of_a_step_is_there_when_its_pod_is_gone(run, platform, slipway):
    platform.kubectl(
        *("delete", "pods", "--namespace", "kubeflow", "--selector", f"pipeline/runid={run}"),
        "--ignore-not-found",
    )
    done = slipway("runs", "logs", run, "--step", "ingest")
    assert done.returncode == 0, done.stderr
    assert "slipway: data version" in done.stdout


def test_a_moment_that_is_none_ends_with_code_2_before_anything_runs(slipway):
    done = slipway("submit", "--project", PROJECT, "--as-of", "yesterday")
    assert done.returncode == 2
    assert "yesterday" in done.stderr


def test_a_mistake_in_a_step_ends_with_its_sentence_and_code_2(platform, slipway):
    """Before the first row there is nothing to train on, which only a step can find out."""
    done = slipway("submit", "--project", PROJECT, "--as-of", "1900-01-01")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 30
    assert "Traceback" not in done.stderr


def test_schedules_are_what_the_file_says_and_a_second_time_changes_nothing(
    platform, slipway, tmp_path
):
    file = tmp_path / "schedules.yaml"

    def reconciled(*schedules, owner="tests"):
        file.write_text(yaml.safe_dump({"owner": owner, "schedules": list(schedules)}))
        done = slipway("runs", "schedule", file)
        assert done.returncode == 0, done.stderr
        return dict(line.split() for line in done.stdout.splitlines()[1:])

    one = {"name": "test-one", "project": PROJECT, "cron": "0 0 3 1 1 *", "enabled": False}
    two = {**one, "name": "test-two"}
    try:
        assert reconciled(one, two) == {"test-one": "created", "test-two": "created"}
        assert reconciled(one, two) == {"test-one": "unchanged", "test-two": "unchanged"}
        one["cron"] = "0 0 4 1 1 *"
        assert reconciled(one) == {"test-one": "replaced", "test-two": "removed"}
        # Another fork's are its own, also under the same name.
        assert reconciled(one, owner="others") == {"test-one": "created"}
        assert reconciled(owner="others") == {"test-one": "removed"}
        assert reconciled(one) == {"test-one": "unchanged"}
    finally:
        reconciled(owner="others")
        reconciled()
