"""`slipway data materialize`: the newest data reach the online store, or the old ones stay."""

import json
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import mariadb, redis_server, s3_server
from sqlalchemy import create_engine, inspect

import feature_repo.shared
import slipway.online_store
from components.features.step import features
from components.ingest.step import ingest
from feature_repo.build import TRAINING_SET, find
from feature_repo.materialize import materialize
from feature_repo.store import open_store
from ops import online_store
from slipway.cli import cli
from slipway.errors import Fault
from slipway.project import Project
from slipway.step import Step
from slipway.storage import locate

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "feature_repo" / "stores" / "cluster"
pytestmark = pytest.mark.local
START = datetime(2024, 1, 1, tzinfo=UTC)
CONTRACT = """\
name: small-shop
description: Orders of shops.
sources:
  orders:
    uri: orders.csv
    key: [shop, placed]
    columns:
      shop: {type: string}
      placed: {type: timestamp}
      value: {type: float, range: [0, 1000]}
tables:
  facts: {sql: facts.sql}
entities:
  shop: {type: string}
views:
  newest:
    sql: newest.sql
    entities: [shop]
    ttl: never
    features:
      value: {type: float}
request:
  amount: {type: float}
target:
  sql: target.sql
  key: [shop, at]
  event_timestamp: at
  label: high
  label_timestamp: at
  task: binary
split: {train: 20 days, validate: 5 days, test: 5 days}
"""
SQL = {
    "facts": "select *, placed as known_at from orders",
    "newest": "select shop, placed as known_at, value from facts",
    "target": "select shop, placed as at, value as amount, (value > 15)::int as high from facts",
}


def write_orders(project, days, value=lambda day: day):
    lines = [
        f"{shop},{(START + timedelta(days=day)).isoformat()},{value(day)}"
        for day in range(days)
        for shop in "ab"
    ]
    (project.root / "orders.csv").write_text("\n".join(["shop,placed,value", *lines]) + "\n")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("DATA_URI", "FEATURES_URI", "FEATURE_STORE", "FEAST_REGISTRY_TYPE"):
        monkeypatch.delenv(f"SLIPWAY_{name}", raising=False)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    for name, sql in SQL.items():
        (tmp_path / f"{name}.sql").write_text(sql)
    (tmp_path / "project.yaml").write_text(CONTRACT)
    project = Project.load(tmp_path / "project.yaml")
    write_orders(project, 30)
    return project


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A running Redis that the project's online store is."""
    # With the rights that charts/foundation gives: no scripts, no KEYS, no CONFIG.
    rights = "resetchannels -@all +@read +@write +@connection +@transaction -@dangerous +info"
    user = ["--user", "default", "on", "nopass", "~*", *rights.split()]
    with redis_server(tmp_path, *user) as server:
        monkeypatch.setenv("SLIPWAY_FEATURE_STORE", str(CLUSTER))
        monkeypatch.setenv("SLIPWAY_FEAST_REDIS", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "file")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", str(tmp_path / "registry.db"))
        server.start()
        yield server


def run(project, *options):
    command = ["data", "materialize", "--project", str(project.path), *options]
    return CliRunner().invoke(cli, command)


def found(project, *options):
    done = run(project, "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def values(project, place=None, generation=""):
    store = open_store(project, place or project.home.feast, generation=generation)
    answer = store.get_online_features(["newest:value"], [{"shop": "a"}, {"shop": "b"}])
    return answer.to_dict()["value"]


def state(server):
    return json.loads(server.client().get("slipway:small_shop:state"))


def test_the_newest_data_reach_the_store_and_the_same_again_writes_nothing(project):
    first = found(project, "--as-of", "2024-01-31")
    assert (first["online_rows"], values(project)) == (2, [29.0, 29.0])
    # Newest data have no labels: no training set was tried.
    location = Path(find(project, first["data_version"], as_of(31), training=False).location)
    assert {path.name for path in location.iterdir()} == {"newest.parquet", "_manifest.json"}
    before = written(project)
    assert found(project, "--as-of", "2024-01-31") == first
    assert written(project) == before

    write_orders(project, 40)
    second = found(project, "--as-of", "2024-02-10")
    assert second["data_version"] != first["data_version"]
    assert values(project) == [39.0, 39.0]
    assert (
        "the online store is at 2024-02-10" in run(project, "--as-of", "2024-02-10").stdout.lower()
    )


def as_of(day):
    return START + timedelta(days=day - 1)


def written(project):
    return {
        path: path.stat().st_mtime_ns
        for path in project.home.path.rglob("*")
        if path.is_file() and path.name != "lock"
    }


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_views_that_nobody_needs_any_more_are_removed_and_training_sets_stay(
    project, tmp_path, monkeypatch, where
):
    with ExitStack() as stack:
        if where == "s3":
            stack.enter_context(s3_server(monkeypatch, "shelf"))
            monkeypatch.setenv("SLIPWAY_FEATURES_URI", "s3://shelf/features")
        step = Step("features", project)
        trained = features(step, ingest(step), "2024-01-31", tmp_path / "training_set")
        first = found(project, "--as-of", "2024-02-01")["feature_version"]
        second = found(project, "--as-of", "2024-02-02")["feature_version"]
        shelf = locate(project.home.features_uri)
        assert set(shelf.folders_with("newest.parquet")) == {trained, first, second}
        monkeypatch.setattr("pipelines.refresh.KEPT", timedelta(0))
        time.sleep(1.1)  # S3 knows whole seconds
        last = found(project, "--as-of", "2024-02-03")["feature_version"]
        assert set(shelf.folders_with("newest.parquet")) == {trained, last}
        assert values(project) == [29.0, 29.0]
        # One that is gone is built again.
        assert found(project, "--as-of", "2024-02-02")["feature_version"] == second


def test_without_a_moment_it_is_now(project):
    before = datetime.now(UTC)
    moment = datetime.fromisoformat(found(project)["as_of"])
    assert before <= moment <= datetime.now(UTC)


def test_what_a_training_run_built_is_used_and_the_other_way_round_it_is_not(project, tmp_path):
    step = Step("features", project)
    trained = features(step, ingest(step), "2024-01-31", tmp_path / "training_set")
    assert found(project, "--as-of", "2024-01-31")["feature_version"] == trained
    # The views alone are no training set.
    views = found(project, "--as-of", "2024-01-30")
    again = features(step, views["data_version"], "2024-01-30", tmp_path / "training_set")
    assert again != views["feature_version"]
    assert (tmp_path / "training_set" / TRAINING_SET.lstrip("_")).is_file()


@pytest.mark.parametrize("kind", ["embedded", "shared"])
def test_data_that_break_the_contract_leave_the_store_as_it_was(project, kind, request):
    place, generation = None, ""
    if kind == "shared":
        request.getfixturevalue("shared")
        place, generation = CLUSTER, "_a"
    found(project, "--as-of", "2024-01-31")
    write_orders(project, 40, value=lambda day: -day)
    done = run(project, "--as-of", "2024-02-10")
    assert done.exit_code == 2
    assert "does not keep the contract" in done.stderr
    assert "value" in done.stderr
    (project.root / "orders.csv").unlink()
    done = run(project)
    assert done.exit_code == 2
    assert "orders.csv" in done.stderr
    assert values(project, place, generation) == [29.0, 29.0]


def test_a_training_run_as_of_an_earlier_day_does_not_take_a_shared_store_back(
    project, shared, tmp_path
):
    found(project, "--as-of", "2024-02-10")
    newest = state(shared)
    step = Step("features", project)
    features(step, ingest(step), "2024-01-31", tmp_path / "training_set")
    assert state(shared) == newest
    assert step.facts["online_rows"] == newest["rows"] == 2
    # Another contract may need other features: its run brings them, whatever the moment.
    project.path.write_text(project.path.read_text().replace("Orders of", "All orders of"))
    changed = Step("features", Project.load(project.path))
    features(changed, ingest(changed), "2024-01-31", tmp_path / "training_set")
    assert state(shared)["moment"] == "2024-01-31T00:00:00+00:00"
    # Who says so, goes back.
    found(project, "--as-of", "2024-01-30")
    assert state(shared)["moment"] == "2024-01-30T00:00:00+00:00"


def test_two_writers_of_one_store_take_turns(project, shared, monkeypatch):
    old, new = (found(project, "--as-of", f"2024-01-{day}")["feature_version"] for day in (20, 30))
    inside, most = 0, 0
    fill = feature_repo.shared._fill

    def watched(*arguments):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.2)
        try:
            return fill(*arguments)
        finally:
            inside -= 1

    monkeypatch.setattr(feature_repo.shared, "_fill", watched)
    threads = [
        threading.Thread(target=materialize, args=(project, version, as_of(day), CLUSTER))
        for version, day in [(old, 20), (new, 30)] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    last = state(shared)
    expected = {old: [19.0] * 2, new: [29.0] * 2}[last["feature_version"]]
    assert values(project, CLUSTER, last["generation"]) == expected
    assert shared.client().get("slipway:small_shop:writer") is None


def test_a_store_that_lost_its_values_while_it_was_filled_is_not_called_filled(
    project, shared, monkeypatch
):
    """Feast's client connects again by itself, and would go on in an empty store."""
    count = feature_repo.shared._count

    def restarted(*arguments):
        shared.kill()
        shared.start()
        return count(*arguments)

    monkeypatch.setattr(feature_repo.shared, "_count", restarted)
    done = run(project, "--as-of", "2024-01-31")
    assert done.exit_code == 1
    assert "restarted while it was filled" in done.stderr
    assert shared.client().get("slipway:small_shop:state") is None
    monkeypatch.undo()


def test_a_writer_that_was_killed_holds_the_next_one_up_for_a_minute_at_most(
    project, shared, monkeypatch
):
    shared.client().set("slipway:small_shop:writer", "of a killed process", px=1500)
    started = time.monotonic()
    assert found(project, "--as-of", "2024-01-31")["online_rows"] == 2
    assert time.monotonic() - started > 1
    monkeypatch.setattr(slipway.online_store, "WAIT", 1)
    shared.client().set("slipway:small_shop:writer", "of one at work")
    with pytest.raises(Fault, match="Another run has been filling"):
        materialize(project, "0" * 16, as_of(31), CLUSTER)


def contents(server):
    """All that the store holds: values, and the moments at which they expire."""
    client = server.client()
    return {
        key: (client.get if client.type(key) == b"string" else client.hgetall)(key)
        for key in client.scan_iter()
    } | {("expires", key): client.pexpiretime(key) for key in client.scan_iter()}


def test_a_backup_of_the_online_store_brings_every_value_back(project, shared, tmp_path):
    found(project, "--as-of", "2024-01-20")
    found(project, "--as-of", "2024-01-10")
    client = shared.client()
    [short, _] = keys = list(client.scan_iter("*small_shop_b"))
    client.expire(short, 7200)
    before = {
        key: value
        for key, value in contents(shared).items()
        if b"small_shop_a" not in (key if isinstance(key, bytes) else key[1])
    }
    assert slipway.online_store.projects(client) == ["small_shop"]
    assert online_store.save(client, "small_shop", tmp_path / "kept") == len(keys)
    shared.kill()
    shared.start()
    online_store.load(shared.client(), "small_shop", tmp_path / "kept")
    assert contents(shared) == before
    assert values(project, CLUSTER, "_b") == [9.0, 9.0]
    # It goes on from there.
    found(project, "--as-of", "2024-01-30")
    assert values(project, CLUSTER, state(shared)["generation"]) == [29.0, 29.0]


def test_a_restored_online_store_holds_nothing_but_the_backup(project, shared, tmp_path):
    found(project, "--as-of", "2024-01-20")
    client = shared.client()
    online_store.save(client, "small_shop", tmp_path / "kept")
    before = contents(shared)
    [_, key] = list(client.scan_iter("*small_shop_a"))
    theirs = key.replace(b"small_shop", b"my_small_shop")
    client.hset(theirs, "x", "1")
    found(project, "--as-of", "2024-01-10")
    client.hset(key.replace(b"small_shop_a", b"small_shop_b"), "stranger", "1")
    online_store.load(client, "small_shop", tmp_path / "kept")
    assert contents(shared) == before | {theirs: {b"x": b"1"}, ("expires", theirs): -1}


def test_a_restore_that_was_cut_off_leaves_a_store_that_is_not_called_filled(
    project, shared, tmp_path, monkeypatch
):
    found(project, "--as-of", "2024-01-20")
    client = shared.client()
    online_store.save(client, "small_shop", tmp_path / "kept")
    before = contents(shared)

    def restarted():
        shared.kill()
        shared.start()

    unlink = type(client).unlink
    monkeypatch.setattr(type(client), "unlink", lambda *keys: (unlink(*keys), restarted()))
    with pytest.raises(Fault, match="restarted while it was filled"):
        online_store.load(client, "small_shop", tmp_path / "kept")
    assert slipway.online_store.projects(client) == []
    monkeypatch.undo()
    # The writer that died did not hold the next one up: its lock was lost as well.
    online_store.load(client, "small_shop", tmp_path / "kept")
    assert contents(shared) == before


def test_a_backup_waits_for_the_run_that_fills_the_store(project, shared, tmp_path, monkeypatch):
    found(project, "--as-of", "2024-01-20")
    monkeypatch.setattr(slipway.online_store, "WAIT", 1)
    shared.client().set("slipway:small_shop:writer", "of one at work")
    with pytest.raises(Fault, match="Another run has been filling"):
        online_store.save(shared.client(), "small_shop", tmp_path / "kept")
    shared.kill()
    with pytest.raises(Fault, match=r"^The online store: .*refused\.$"):
        online_store.save(shared.client(), "small_shop", tmp_path / "kept")


def test_an_unknown_moment_is_told_before_anything_is_read(project):
    (project.root / "orders.csv").unlink()
    done = run(project, "--as-of", "yesterday")
    assert done.exit_code == 2
    assert "as_of" in done.stderr
    assert not project.home.path.exists()


def check(project):
    return CliRunner().invoke(cli, ["data", "check", "--project", str(project.path)])


def test_a_check_names_every_store_and_leaves_nothing(project, shared):
    done = check(project)
    assert done.exit_code == 0, done.output
    told = done.stdout
    assert [line.split(":")[0] for line in told.splitlines()] == [
        "data versions",
        "feature versions",
        "record of looks at test windows",
        "Feast's registry",
        "online store",
    ]
    assert not [path for path in project.home.path.rglob("*") if path.is_file()]


def test_a_check_makes_the_tables_of_a_registry_in_mariadb(project, shared, tmp_path, monkeypatch):
    with mariadb(tmp_path / "db") as database:
        url = database.create("feast")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "sql")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", url)
        assert "Feast's registry: of the type sql" in check(project).stdout
        columns = inspect(create_engine(url)).get_columns("feature_views")
        # A view of many features is longer than the 64 KB of a BLOB.
        [proto] = [item for item in columns if item["name"] == "feature_view_proto"]
        assert str(proto["type"]) == "LONGBLOB"
        assert found(project, "--as-of", "2024-01-31")["online_rows"] == 2


def test_a_check_says_which_store_is_wrong_and_which_variable_names_it(
    project, shared, tmp_path, monkeypatch
):
    shared.kill()
    done = check(project)
    assert (done.exit_code, done.stdout.count("\n")) == (2, 4)
    assert "the online store does not answer" in done.stderr
    assert "SLIPWAY_FEAST_REDIS" in done.stderr
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "sql")
    database = f"mysql+pymysql://feast:s3cret@127.0.0.1:{shared.port}/feast"
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", database)
    done = check(project)
    assert done.exit_code == 2
    assert "Feast's registry does not answer" in done.stderr
    assert "s3cret" not in done.output
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLIPWAY_FEATURES_URI", str(tmp_path / "file" / "features"))
    done = check(project)
    assert done.exit_code == 2
    assert "features" in done.stderr
    assert "cannot be written" in done.stderr
