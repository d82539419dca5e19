"""The drill: what a backup holds comes back on a platform that has lost everything."""

import json

import pytest

from ops import stores
from ops.backup import MANIFEST, aliases, listed
from ops.dump import count
from ops.restore import RUNS, VERSIONS
from slipway.online_store import projects

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def held(cluster):
    """What a platform holds that must not be lost."""
    with stores.stores(cluster) as there:
        return {
            "runs": count(there.server, RUNS),
            "versions": count(there.server, VERSIONS),
            "aliases": aliases(there.server),
            "objects": {path for path, _ in listed(there)},
            "features": projects(there.online),
        }


@pytest.fixture(scope="module")
def backup(platform, slipway, tmp_path_factory):
    if not held(platform)["versions"]:
        pytest.skip("no model is registered: run test_end_to_end first")
    folder = tmp_path_factory.mktemp("backup") / "one"
    done = slipway("backup", "--to", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_place_that_holds_a_backup_is_not_written_over(backup, slipway):
    done = slipway("backup", "--to", backup)
    assert done.returncode == 2
    assert "holds a backup" in done.stderr


def test_a_platform_that_is_not_empty_is_not_written_over(backup, slipway):
    done = slipway("restore", "--from", backup)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert "--replace" in done.stderr


def test_a_damaged_backup_is_refused_before_anything_is_lost(backup, slipway, cluster, tmp_path):
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(backup, copy)
    (copy / "databases" / "mlflow.sql.gz").write_bytes(b"x")
    before = held(cluster)
    done = slipway("restore", "--from", copy, "--replace")
    assert done.returncode == 2
    assert "mlflow.sql.gz is damaged" in done.stderr
    assert held(cluster) == before
    (copy / MANIFEST).unlink()
    done = slipway("restore", "--from", copy, "--replace")
    assert done.returncode == 2
    assert "is no backup" in done.stderr


def test_everything_is_back_on_an_empty_platform(backup, slipway, cluster):
    before = held(cluster)
    assert before["aliases"], "no model serves: run test_end_to_end first"
    assert slipway("down").returncode == 0
    done = slipway("deploy")
    assert done.returncode == 0, done.stderr
    empty = held(cluster)
    assert empty["runs"] == empty["versions"] == 0
    done = slipway("restore", "--from", backup)
    assert done.returncode == 0, done.stderr
    after = held(cluster)
    assert after["runs"] == before["runs"]
    assert after["versions"] == before["versions"]
    assert after["aliases"] == before["aliases"]
    assert after["features"] == before["features"]
    assert before["objects"] <= after["objects"]
    manifest = json.loads((backup / MANIFEST).read_text())
    assert [path for path in manifest["files"] if path.startswith("models/")]
    from slipway.cli._first_run import wait_until_ready

    for name in before["aliases"]:
        wait_until_ready(cluster, name, print)
