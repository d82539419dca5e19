"""The registry is there when it is needed, whole, and says which version answers requests."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers import mariadb, mlflow_server, s3_server
from small_model import write_package
from small_training_set import small_project, small_training_set

from components.register.tracking import log_and_register
from slipway.errors import UserError
from slipway.package import digest, verify
from slipway.registry import Registry

ROOT = Path(__file__).parents[2]
OPEN = """
import sys
from slipway.project import Project
from slipway.registry import Registry
registry = Registry(Project.load(sys.argv[1]))
print(registry.experiment, registry.client.get_registered_model(registry.name).name)
"""
pytestmark = pytest.mark.local


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("SLIPWAY_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return small_project(tmp_path / "project", "binary", "{}")


@pytest.fixture
def package(project, tmp_path):
    rows = small_training_set(tmp_path / "training_set", "binary") / "training_set.parquet"
    write_package(tmp_path / "package", project.contract, pq.read_table(rows))
    return tmp_path / "package"


def opening(project, **more):
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(project.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | more,
    )


def add_version(registry, package):
    client = registry.client
    run = client.create_run(registry.experiment)
    client.log_artifacts(run.info.run_id, str(package), "package")
    created = client.create_model_version(
        registry.name, f"{run.info.artifact_uri}/package", run.info.run_id
    )
    return str(created.version)


def test_a_home_without_a_registry_has_no_champion_and_pays_no_import(project):
    code = OPEN.rsplit("print", 1)[0] + "print(registry.champion(), 'mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(project.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["None", "False"]
    assert not project.home.path.exists()


def test_a_registry_that_was_killed_while_it_was_made_is_made_again(project):
    making = opening(project)
    new = project.home.path / ".mlflow.db.new"
    deadline = time.monotonic() + 60
    while not (new.exists() and new.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    making.send_signal(signal.SIGKILL)
    making.communicate()
    assert new.exists()
    assert not (project.home.path / "mlflow.db").exists()
    registry = Registry(project)
    assert registry.champion() is None
    assert registry.client.get_experiment(registry.experiment).name == "small"
    assert sorted(path.name for path in project.home.path.iterdir()) == [
        ".mlflow.db.lock",
        "mlflow.db",
    ]


def test_two_runs_that_start_at_once_share_one_registry(project):
    found = [process.communicate() for process in [opening(project), opening(project)]]
    assert found[0][0] == found[1][0] == "1 small\n", found


def test_opening_a_registry_is_quiet(project):
    out, errors = opening(project).communicate()
    assert (out, errors) == ("1 small\n", "")


def test_the_champion_comes_with_its_package_and_every_change_of_it_is_kept(project, package):
    registry = Registry(project)
    first, second = add_version(registry, package), add_version(registry, package)
    registry.set_alias("champion", first)
    registry.set_alias("champion", first)
    registry.set_alias("champion", second)
    champion = Registry(project).champion()
    assert champion.version == second
    verify(champion.package)
    assert champion.package.is_relative_to(project.home.artifacts)
    assert Registry(project).version_of("challenger") is None
    history = Registry(project).history("champion")
    assert [version for _, version in history] == [first, second]
    assert history[0][0] <= history[1][0]


def test_an_alias_that_a_kill_left_half_set_is_set_by_the_same_call(project, package):
    registry = Registry(project)
    version = add_version(registry, package)
    noted = json.dumps([["2026-01-01T00:00:00+00:00", version]])
    registry.client.set_registered_model_tag("small", "history.champion", noted)
    registry.set_alias("champion", version)
    assert registry.version_of("champion") == version
    assert len(registry.history("champion")) == 1


def test_a_champion_that_was_tampered_with_is_refused(project, package):
    registry = Registry(project)
    registry.set_alias("champion", add_version(registry, package))
    (registry.champion().package / "model.onnx").write_bytes(b"another model")
    with pytest.raises(UserError, match=r"model\.onnx altered"):
        registry.champion()


def test_a_server_that_does_not_answer_is_one_sentence(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9: the MLflow server .*MLFLOW_TRACKING_URI"):
        Registry(project).champion()


@pytest.mark.slow
def test_a_server_keeps_the_registry_where_one_is_named(project, package, tmp_path, monkeypatch):
    server, url = mlflow_server(
        tmp_path, "--backend-store-uri", f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination", str(tmp_path / "bucket"),
    )  # fmt: skip
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        registry = Registry(project)
        assert registry.champion() is None
        version = add_version(registry, package)
        registry.set_alias("champion", version)
        champion = Registry(project).champion()
        assert champion.version == version
        assert champion.package.is_relative_to(project.home.path)
        assert (champion.package / "SHA256SUMS").read_text() == (package / "SHA256SUMS").read_text()
        assert Registry(project).champion().package == champion.package
    finally:
        server.kill()


@pytest.mark.slow
def test_a_registry_of_mariadb_and_s3_outlives_its_server_and_names_what_kserve_can_load(
    project, package, tmp_path, monkeypatch
):
    """As on a cluster: clients put packages into the bucket themselves."""
    tags = {"digest": digest(package), "engine": "xgboost"}
    training = {"engine": "xgboost", "seed": 7, "rows": {"train": 100}, "candidates": []}
    with mariadb(tmp_path / "db") as database, s3_server(monkeypatch, "mlflow") as s3:
        server, url = mlflow_server(
            tmp_path, "--backend-store-uri", database.create("mlflow"), "--no-serve-artifacts",
            "--default-artifact-root", "s3://mlflow/artifacts",
        )  # fmt: skip
        try:
            server.start()
            monkeypatch.setenv("MLFLOW_TRACKING_URI", url)

            def register(registry):
                return log_and_register(
                    registry.client, registry.experiment, registry.name, package, tags, training,
                    {"models": [{"name": "candidate", "metrics": {}}]},
                )  # fmt: skip

            registry = Registry(project)
            assert registry.champion() is None
            registry.experiment  # noqa: B018
            server.kill()
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(register, registry)
                server.start()
                first = waiting.result()
            registry.set_alias("champion", first.version)
            folder = first.uri.removeprefix("s3://mlflow/")
            kept = {item["Key"] for item in s3.list_objects_v2(Bucket="mlflow")["Contents"]}
            assert kept == {f"{folder}/{path.name}" for path in package.iterdir()}

            database.kill()
            database.start()
            # Another pod, with an empty home.
            monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "elsewhere"))
            again = Registry(project)
            found = register(again)
            assert (found.version, found.uri, found.reused) == (first.version, first.uri, True)
            champion = again.champion()
            assert champion.version == first.version
            assert champion.package.is_relative_to(tmp_path / "elsewhere")
            assert digest(champion.package) == digest(package)
        finally:
            server.kill()
