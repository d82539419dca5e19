"""`slipway models` and `slipway rollback` without a cluster: the registry of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops import tools
from slipway.project import Project
from slipway.registry import CHAMPION, Registry

ROOT = Path(__file__).parents[2]
MAIN = "from slipway.cli import main; main()"
CONTRACT = (ROOT / "tests" / "contract" / "minimal.yaml").read_text()
pytestmark = pytest.mark.local


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("SLIPWAY_HOME", "MLFLOW_TRACKING_URI", "CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "project.yaml").write_text(CONTRACT)
    for name in ("facts.sql", "recent.sql", "target.sql"):
        (tmp_path / name).write_text("select 1")
    return Project.load(tmp_path / "project.yaml")


@pytest.fixture
def registry(project):
    """Three versions; 1 and then 2 were champion."""
    registry = Registry(project)
    for _ in range(3):
        made = registry.client.create_model_version("minimal", str(project.root))
        version = str(made.version)
        registry.tag(version, "gates", "failed" if version == "3" else "passed")
        if version != "3":
            registry.set_alias(CHAMPION, version)
    registry.set_alias("challenger", "3")
    return registry


def slipway(project, *args):
    return subprocess.run(
        [sys.executable, "-c", MAIN, *args, "--project", project.path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )


def test_versions_are_listed_with_what_they_are_for(project, registry):
    listed = json.loads(slipway(project, "models", "--json").stdout)
    assert listed["model"] == "minimal"
    told = [(item["version"], item["aliases"], item["gates"]) for item in listed["versions"]]
    assert told == [
        ("3", ["challenger"], "failed"),
        ("2", ["champion"], "passed"),
        ("1", [], "passed"),
    ]
    shown = slipway(project, "models").stdout
    assert "champion" in shown
    # Nobody takes it for a cluster's.
    assert shown.startswith(f"minimal in the registry of this machine ({project.home.path})\n")
    assert listed["registry"] == f"the registry of this machine ({project.home.path})"


def test_a_model_without_versions_says_so(project):
    done = slipway(project, "models")
    assert done.stdout.startswith("minimal has no version yet in the registry of this machine (")


def test_rollback_makes_the_champion_before_champion_again(project, registry):
    done = slipway(project, "rollback", "--reason", "too many false alarms")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("minimal version 1 is champion in the registry of this machine (")
    assert done.stdout.endswith("no cluster was touched\n")
    assert registry.version_of(CHAMPION) == "1"
    (two,) = [item for item in registry.versions() if item.version == "2"]
    assert two.tags["rolled_back"].endswith("to version 1: too many false alarms")
    # The way back is a rollback as well.
    assert slipway(project, "rollback").returncode == 0
    assert registry.version_of(CHAMPION) == "2"


def test_rollback_to_a_version(project, registry):
    assert slipway(project, "rollback", "--to", "3").returncode == 0
    assert registry.version_of(CHAMPION) == "3"


def test_a_rollback_that_cannot_be_is_one_sentence(project, registry):
    done = slipway(project, "rollback", "--to", "9")
    assert done.returncode == 2
    assert done.stderr.strip() == "minimal has no version 9. `slipway models` lists them."
    assert registry.version_of(CHAMPION) == "2"


@pytest.mark.skipif(not tools.find("kubectl"), reason="no kubectl on PATH that fits")
@pytest.mark.parametrize("command", ["models", "rollback"])
def test_a_cluster_that_is_not_known_is_one_sentence(project, command):
    done = slipway(project, command, "--context", "no-such-cluster")
    assert done.returncode == 2
    assert "the kubeconfig has no context 'no-such-cluster'." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_first_champion_has_no_version_before(project):
    registry = Registry(project)
    registry.client.create_model_version("minimal", str(project.root))
    registry.set_alias(CHAMPION, "1")
    done = slipway(project, "rollback")
    assert done.returncode == 2
    assert "had no champion before this one. Name a version with --to." in done.stderr
