"""The workflows of continuous integration are right before they are pushed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_actionlint_finds_nothing():
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not on PATH: github.com/rhysd/actionlint")
    done = subprocess.run(
        ["actionlint", "-no-color", *map(str, WORKFLOWS)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_of_others_are_pinned_to_a_commit(workflow):
    for action in re.findall(r"uses: (\S+)", workflow.read_text()):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for workflow in WORKFLOWS:
        called = set(re.findall(r"run: make ([a-z-]+)", workflow.read_text()))
        assert called
        assert called <= targets, workflow
