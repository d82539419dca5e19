"""What the online store holds reaches the model: the same values as through Feast's own SDK, fresh
ones only, and the contract's answer when the store fails."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvloop
from servers import mariadb, redis_server

from feature_repo.build import view_location
from feature_repo.materialize import materialize
from feature_repo.store import open_store
from serving.online import OnlineFeatures
from serving.online.features import BLOCK
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.package import make_signature
from slipway.project import Project
from slipway.schema import RequestError

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "feature_repo" / "stores" / "cluster"
pytestmark = pytest.mark.local
MOMENT = datetime(2024, 5, 5, 12, tzinfo=UTC)
HOUR, MICRO = timedelta(hours=1), timedelta(microseconds=1)
VERSION = "0123456789abcdef"
CONTRACT = """\
name: small-shop
description: A made-up event.
sources:
  events: {uri: events.csv, columns: {id: {type: int}}}
tables:
  facts: {sql: any.sql}
entities:
  shop: {type: string}
  item: {type: int}
views:
  stock:
    sql: any.sql
    entities: [shop, item]
    ttl: 6h
    features:
      pieces: {type: int}
      price: {type: float}
      colour: {type: string}
      open: {type: bool}
  shops:
    sql: any.sql
    entities: [shop]
    ttl: never
    features:
      label: {type: string}
      size: {type: float}
  visits:
    sql: any.sql
    entities: [shop]
    ttl: 1h
    features:
      count: {type: int}
  items:
    sql: any.sql
    entities: [item]
    ttl: 6h
    features:
      weight: {type: float}
      fragile: {type: bool}
request:
  amount: {type: float}
target:
  sql: any.sql
  key: [id]
  event_timestamp: at
  label: y
  label_timestamp: known_at
  task: binary
split: {train: 6 months, validate: 2 months, test: 2 months}
"""
SHOPS = ["a", "b", "", "ünïcode \x00 ☃", "x" * 500]
ITEMS = [0, 1, -(2**63), 2**63 - 1, 77]
SIX_HOURS_OLD, STALE = ITEMS[2], ITEMS[3]
"""In the view `items`, at MOMENT; the first one's weight is null."""
KINDS = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "at": pa.timestamp("us", "UTC"),
}
VALUES = {
    "int": [0, -5, 2**53, None, -(2**53)],
    "float": [0.0, -1.5, 1e300, None, 5e-324],
    "string": ["", "red", "ünï\x00☃", None, "y" * 3000],
    "bool": [False, True, None, True, False],
}


@dataclass(frozen=True)
class Shop:
    project: Project
    package: Path

    def open(self, store, clock="store", package=None, **more):
        counts = Counts()
        return OnlineFeatures(store, package or self.package, clock, counts, **more), counts

    def altered(self, folder, change):
        """A package whose signature `change` has changed."""
        shutil.copytree(self.package, folder)
        signature = read_json(folder / "signature.json")
        change(signature)
        write_json(folder / "signature.json", signature)
        return folder


@dataclass
class Counts:
    """Metrics and tally in one: what the reader counts."""

    failed: int = 0
    missing: dict = field(default_factory=dict)
    stale: dict = field(default_factory=dict)
    store_age: object = None

    def store_failed(self):
        self.failed += 1

    def features(self, view, missing, stale):
        self.missing[view] = self.missing.get(view, 0) + missing
        self.stale[view] = self.stale.get(view, 0) + stale


def write_features(project, version, salt=0, items=ITEMS, moment=MOMENT):
    """Views with every kind of value, null and age at `moment`; `salt` moves the values."""
    ages = [timedelta(0), HOUR, 6 * HOUR, 6 * HOUR + timedelta(seconds=1), 40 * HOUR]
    for name, view in project.contract.views.items():
        keys = {"shop": SHOPS, "item": items}
        rows = [{}]
        for entity in view.entities:
            rows = [row | {entity: value} for row in rows for value in keys[entity]]
        kinds = {entity: {"shop": "string", "item": "int"}[entity] for entity in view.entities}
        kinds |= {name: item.type for name, item in view.features.items()}
        columns = {}
        for place, (column, kind) in enumerate(kinds.items()):
            values = VALUES[kind]
            columns[column] = [
                row[column] if column in row else values[(at + place + salt) % len(values)]
                for at, row in enumerate(rows)
            ]
        # Of each entity a value of now and then, one of the day before, one of the day after.
        stamps = [moment - ages[(at + salt) % len(ages)] for at in range(len(rows))]
        table = pa.table(
            {column: pa.array(values, KINDS[kinds[column]]) for column, values in columns.items()}
            | {view.event_timestamp: pa.array(stamps, KINDS["at"])}
        )
        before, after = (
            table.set_column(
                table.column_names.index(view.event_timestamp),
                view.event_timestamp,
                pa.array([stamp + delta for stamp in stamps], KINDS["at"]),
            ).take([*range(1, len(rows)), 0])
            for delta in (-48 * HOUR, 48 * HOUR)
        )
        # The values of other rows, but each row's own keys.
        before, after = (
            pa.table({c: (table if c in view.entities else t)[c] for c in table.column_names})
            for t in (before, after)
        )
        path = Path(view_location(project, version, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables([before, table, after]), path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(home))
        patch.delenv("SLIPWAY_FEATURES_URI", raising=False)
        (home / "any.sql").write_text("select 1")
        (home / "project.yaml").write_text(CONTRACT)
        project = Project.load(home / "project.yaml")
        write_features(project, VERSION)
        package = home / "package"
        package.mkdir()
        shutil.copy(project.path, package / "contract.yaml")
        write_json(package / "signature.json", make_signature(project.contract))
        yield Shop(project, package)


@pytest.fixture(scope="module")
def embedded(shop, tmp_path_factory):
    store = tmp_path_factory.mktemp("embedded")
    materialize(shop.project, VERSION, MOMENT, store)
    return store


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Redis that is not running yet, named by the environment."""
    with redis_server(tmp_path) as server:
        monkeypatch.setenv("SLIPWAY_FEAST_REDIS", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "file")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", str(tmp_path / "registry.db"))
        yield server


@contextlib.asynccontextmanager
async def started(reader):
    await reader.start()
    try:
        yield reader
    finally:
        await reader.close()


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


ROW = {"shop": ["a"], "item": [0]}
CROSS = {
    "shop": [shop for shop in [*SHOPS, "unknown", None] for _ in range(7)],
    "item": [*ITEMS, 5, None] * 7,
}
"""Each shop with each item, unknown and null ones too; every key comes several times."""


def read_once(shop, store, rows, clock="store", **more):
    """A fresh reader's answer, and what it counted."""

    async def run():
        reader, counts = shop.open(store, clock, **more)
        async with started(reader):
            return await reader.read(rows, counts), counts

    return asyncio.run(run())


def as_the_sdk(project, store, rows, moment=MOMENT):
    """The same through `get_online_features`, with nulls for what is stale or has a null key."""
    filled = {
        name: [filler if value is None else value for value in rows[name]]
        for name, filler in (("shop", "none"), ("item", 12345))
    }
    found = store.get_online_features(
        features=store.get_feature_service(project.contract.name),
        entity_rows=filled,
        full_feature_names=True,
    ).to_dict(include_event_timestamps=True)
    expected = {}
    for name, view in project.contract.views.items():
        oldest = (moment - view.ttl).timestamp() if view.ttl else float("-inf")
        for feature in view.features:
            column = f"{name}__{feature}"
            expected[column] = [
                value if stamp >= oldest and all(rows[key][at] is not None for key in view.entities)
                else None
                for at, (value, stamp) in enumerate(
                    zip(found[column], found[f"{column}__ts"], strict=True)
                )
            ]  # fmt: skip
    return expected


# ---- equal to Feast ----


def all_rows(shop, embedded):
    """Both stores' answers to `CROSS`, each equal to the SDK's."""
    answers = []
    for store, generation in ((embedded, ""), (CLUSTER, "_a")):
        found, _ = read_once(shop, store, CROSS)
        feast = open_store(shop.project, store, generation=generation)
        assert found == as_the_sdk(shop.project, feast, CROSS)
        answers.append(found)
    return answers


ANSWERS = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path("tests/local").resolve()))
from test_online import Project, Shop, all_rows
shop = Shop(Project.load(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps(all_rows(shop, Path(sys.argv[3]))))
"""


def test_every_row_is_what_feast_s_sdk_gives_whatever_the_store_and_the_hash_seed(
    shop, embedded, cluster
):
    cluster.start()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWERS, shop.project.path, shop.package, embedded],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TZ": zone},
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for seed, zone in (("0", "UTC"), ("1", "America/New_York"))
    ]
    here, there = all_rows(shop, embedded)
    assert here == there
    for process in processes:
        assert json.loads(process.communicate(timeout=120)[0]) == [here, here]
    wanted = [
        f"{view}__{name}"
        for view, item in shop.project.contract.views.items()
        for name in item.features
    ]
    assert list(here) == wanted
    assert {type(value) for values in here.values() for value in values} == {
        *(int, float, str, bool, type(None)),
    }
    for values in here.values():
        assert 0 < values.count(None) < len(values)


def test_a_registry_in_mariadb_serves_alike(shop, embedded, cluster, tmp_path, monkeypatch):
    with mariadb(tmp_path / "db") as database:
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "sql")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", database.create("feast"))
        cluster.start()
        materialize(shop.project, VERSION, MOMENT, CLUSTER)
        assert read_once(shop, CLUSTER, CROSS)[0] == read_once(shop, embedded, CROSS)[0]
        database.kill()
        database.start()
        materialize(shop.project, VERSION, MOMENT + HOUR, CLUSTER)
        assert read_once(shop, CLUSTER, ROW)[0] == read_once(shop, embedded, ROW)[0]


@pytest.fixture(params=["embedded", "cluster"])
def either(request, shop):
    """Each of the two stores, at `MOMENT`."""
    if request.param == "embedded":
        return request.getfixturevalue("embedded")
    request.getfixturevalue("cluster").start()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    return CLUSTER


def test_many_rows_equal_their_single_ones_and_leave_turns_to_others(shop, either):
    rows = {name: (values * 20)[: 3 * BLOCK + 7] for name, values in CROSS.items()}

    async def run():
        reader, counts = shop.open(either)
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with started(reader):
            task = asyncio.create_task(other())
            many = await reader.read(rows, counts)
            task.cancel()
            single = [
                await reader.read({name: [values[at]] for name, values in CROSS.items()}, Counts())
                for at in range(len(CROSS["shop"]))
            ]
        return many, single, turns, counts

    many, single, turns, counts = asyncio.run(run())
    size = len(CROSS["shop"])
    assert many == {
        name: [single[at % size][name][0] for at in range(3 * BLOCK + 7)] for name in single[0]
    }
    assert turns >= 3
    assert counts.missing["shops"] == sum(s in (None, "unknown") for s in rows["shop"])


def test_requests_at_the_same_time_get_each_its_own_answer(shop, either):
    async def run():
        reader, counts = shop.open(either)
        async with started(reader):
            rows = [
                {name: [values[at % 49]] for name, values in CROSS.items()} for at in range(300)
            ]
            together = await asyncio.gather(*(reader.read(row, counts) for row in rows))
            one_by_one = [await reader.read(row, counts) for row in rows]
        return together, one_by_one

    together, one_by_one = asyncio.run(run())
    assert together == one_by_one


def test_one_row_of_the_embedded_store_is_read_without_giving_up_the_turn(shop, embedded):
    reader, counts = shop.open(embedded)
    with pytest.raises(StopIteration) as done:
        reader.read(ROW, counts).send(None)
    assert done.value.value["stock__pieces"] == [2**53]
    asyncio.run(reader.close())


# ---- missing, stale, refused ----


def test_missing_and_stale_are_counted_by_view(shop, either):
    rows = {"shop": ["a", "nobody", None, "a"], "item": [STALE, 1, None, 0]}
    found, counts = read_once(shop, either, rows)
    # A second older than its view's TTL; shop "a" was seen a moment ago.
    assert found["items__weight"][0] is None
    assert found["items__weight"][3] == -1.5
    assert counts.missing == {"stock": 2, "shops": 2, "visits": 2, "items": 1}
    assert counts.stale == {"stock": 1, "shops": 0, "visits": 0, "items": 1}


def test_by_the_wall_clock_old_values_are_null_unless_they_live_for_ever(shop, either):
    found, counts = read_once(shop, either, ROW, "wall")
    assert found["shops__label"] == ["red"]
    assert found["stock__pieces"] == found["visits__count"] == found["items__weight"] == [None]
    assert counts.stale == {"stock": 1, "visits": 1, "items": 1}


def test_a_value_of_exactly_its_ttl_counts_and_one_a_microsecond_older_does_not(shop, cluster):
    cluster.start()
    odd, version = MOMENT + timedelta(microseconds=123457), "aaaaaaaaaaaaaaaa"
    write_features(shop.project, version, moment=odd)
    for later, fragile, stale in ((timedelta(0), False, 0), (MICRO, None, 1)):
        materialize(shop.project, version, odd + later, CLUSTER)
        found, counts = read_once(shop, CLUSTER, {"shop": ["b"], "item": [SIX_HOURS_OLD]})
        assert found["items__fragile"] == [fragile]
        assert counts.stale.get("items", 0) == stale


def test_a_feature_that_the_model_needs_refuses_the_request_and_says_why(shop, either, tmp_path):
    def need(signature):
        for item in signature["features"]:
            if item["name"] == "items__weight":
                item["on_null"] = "refuse"

    package = shop.altered(tmp_path / "package", need)
    for item, why in (
        (5, "is unknown"),
        (None, "is unknown"),
        (STALE, "is too old"),
        (SIX_HOURS_OLD, "is null"),
    ):
        rows = {"shop": ["a", "a"], "item": [0, item]}
        wanted = f"row 1: the feature 'items__weight' {why} for item={item}"
        with pytest.raises(RequestError, match=wanted) as caught:
            read_once(shop, either, rows, package=package)
        assert caught.value.status == 422


def test_a_store_without_the_model_s_features_is_refused_at_the_start(shop, either, tmp_path):
    def rename(signature):
        signature["features"][-1]["name"] = "items__colour"

    def retype(signature):
        signature["features"][-1]["type"] = "string"

    for change, wanted in ((rename, "items__colour"), (retype, r"items__fragile \(string\)")):
        package = shop.altered(tmp_path / change.__name__, change)
        with pytest.raises(UserError, match=wanted):
            read_once(shop, either, ROW, package=package)


# ---- a store that moves ----


def test_a_store_that_moves_is_followed_without_a_restart(shop, either, tmp_path, request):
    """Later, back again, and to another feature version."""
    other = "fedcba9876543210"
    write_features(shop.project, other, salt=1, items=ITEMS[:3])
    place = shutil.copytree(either, tmp_path / "moving") if either != CLUSTER else CLUSTER
    moves = [(VERSION, 49), (VERSION, -3), (other, 0), (VERSION, 0)]

    async def run():
        reader, counts = shop.open(place)
        async with started(reader):
            for version, hours in moves:
                moment = MOMENT + hours * HOUR
                anew = tmp_path / f"{version}{hours}"
                rows = await asyncio.to_thread(materialize, shop.project, version, moment, place)
                assert rows == await asyncio.to_thread(
                    materialize, shop.project, version, moment, anew
                )
                expected = await asyncio.to_thread(read_once_in_thread, shop, anew)
                async with asyncio.timeout(10):
                    # Redis tells of its new state after the first answer.
                    while await reader.read(CROSS, counts) != expected:
                        await asyncio.sleep(0.01)
                assert reader.ready()
                assert 0 <= reader.age() < 10
            assert counts.store_age() == pytest.approx(reader.age(), abs=1)

    asyncio.run(run())


def read_once_in_thread(shop, store):
    return read_once(shop, store, CROSS)[0]


def test_an_open_reader_never_sees_half_a_store(shop, either, tmp_path):
    """Each answer is of the old version or of the new one, while the new one is written."""
    other = "00000000ffffffff"
    write_features(shop.project, other, salt=2)
    place = shutil.copytree(either, tmp_path / "moving") if either != CLUSTER else CLUSTER
    anew = tmp_path / "anew"
    materialize(shop.project, other, MOMENT, anew)
    old, new = (read_once(shop, store, CROSS)[0] for store in (either, anew))
    assert old != new

    async def run():
        reader, counts = shop.open(place)
        seen = []
        async with started(reader):
            task = asyncio.create_task(
                asyncio.to_thread(materialize, shop.project, other, MOMENT, place)
            )
            while not task.done() or seen[-1] != new:
                seen.append(await reader.read(CROSS, counts))
                assert seen[-1] in (old, new)
                await asyncio.sleep(0.001)
            await task
        assert seen[0] == old
        return len(seen)

    assert asyncio.run(asyncio.wait_for(run(), 20)) > 10


def test_a_killed_move_of_redis_harms_no_reader_and_the_next_run_mends_it(shop, cluster):
    import redis

    cluster.start()
    client = redis.Redis(port=cluster.port)
    key = "slipway:small_shop:state"
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    before = read_once(shop, CLUSTER, CROSS)[0]
    # As if a run to the day after had been killed when all but the state was written.
    state = client.get(key)
    materialize(shop.project, VERSION, MOMENT + 48 * HOUR, CLUSTER)
    later = json.loads(state) | {"reaching": (MOMENT + 48 * HOUR).isoformat()}
    client.set(key, json.dumps(later))
    assert read_once(shop, CLUSTER, ROW)[0].keys() == before.keys()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    assert read_once(shop, CLUSTER, CROSS)[0] == before
    assert json.loads(client.get(key))["generation"] == "_b"
    # The other generation fades, ours stays.
    lives = {name.endswith(b"_a"): client.ttl(name) for name in client.keys("*small_shop_*")}
    assert 0 < lives[True] <= 3600
    assert lives[False] == -1


def test_another_project_in_the_same_redis_is_left_alone(shop, cluster):
    """Feast finds a project's keys by their end: `my_small_shop_a` ends in `small_shop_a`, too."""
    import redis

    cluster.start()
    client = redis.Redis(port=cluster.port)
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    ours = [name for name in client.keys("*") if name.endswith(b"small_shop_a")]
    theirs = [name.replace(b"small_shop", b"my_small_shop") for name in ours]
    for name in theirs:
        client.hset(name, "x", "1")
    materialize(shop.project, VERSION, MOMENT - HOUR, CLUSTER)  # builds _b, and _a fades
    materialize(shop.project, VERSION, MOMENT - 2 * HOUR, CLUSTER)  # wipes _a
    assert client.exists(*theirs) == len(theirs)
    assert {client.ttl(name) for name in theirs} == {-1}


# ---- a store that fails ----


def with_policy(shop, folder, policy):
    def change(signature):
        signature["serving"]["on_store_failure"] = policy

    return shop.altered(folder / policy, change)


async def timed(awaitable):
    begun = time.monotonic()
    try:
        return await awaitable, time.monotonic() - begun
    except RequestError as error:
        return error, time.monotonic() - begun


def refused(answer):
    return isinstance(answer, RequestError) and (answer.status, str(answer)) == (
        503,
        "The online store does not answer.",
    )


def test_a_redis_that_dies_is_a_503_at_once_and_comes_back_by_itself(shop, cluster, caplog):
    async def run():
        reader, counts = shop.open(CLUSTER)
        async with started(reader):
            assert not reader.ready()
            assert reader.age() is None
            answer, seconds = await timed(reader.read(ROW, counts))
            assert refused(answer)
            assert seconds < 0.05
            cluster.start()
            await asyncio.to_thread(materialize, shop.project, VERSION, MOMENT, CLUSTER)
            await until(reader.ready)
            expected = await reader.read(ROW, counts)

            failed = counts.failed
            cluster.kill()
            for _ in range(5):
                answer, seconds = await timed(reader.read(ROW, counts))
                assert refused(answer)
                assert seconds < 0.5
            assert counts.failed == failed + 5
            assert reader.ready()  # the pod stays: to leave would help nobody

            # The same Redis comes back without its values: no made-up nulls.
            cluster.start()
            await asyncio.sleep(0.3)
            answer, _ = await timed(reader.read(ROW, counts))
            assert refused(answer)
            await asyncio.to_thread(materialize, shop.project, VERSION, MOMENT, CLUSTER)
            async with asyncio.timeout(10):
                while (await timed(reader.read(ROW, counts)))[0] != expected:
                    await asyncio.sleep(0.02)

    asyncio.run(run())
    assert "does not answer" in caplog.text
    assert "connected again" in caplog.text


def test_the_contract_may_say_nulls_instead(shop, cluster, tmp_path):
    async def run():
        package = with_policy(shop, tmp_path, "nulls")
        reader, counts = shop.open(CLUSTER, package=package)
        async with started(reader):
            assert reader.ready()
            found = await reader.read(CROSS, counts)
            assert len(found) == 9
            assert {tuple(values) for values in found.values()} == {(None,) * 49}
            assert (counts.failed, counts.missing) == (1, {})
            cluster.start()
            await until(lambda: not reader.ready())  # it is there, but not filled
            answer, _ = await timed(reader.read(ROW, counts))
            assert (answer.status, str(answer)) == (503, "The online store is not filled yet.")
            await asyncio.to_thread(materialize, shop.project, VERSION, MOMENT, CLUSTER)
            await until(reader.ready)
            assert (await reader.read(ROW, counts))["stock__pieces"] == [2**53]

    asyncio.run(run())


def test_nulls_are_not_made_up_for_a_feature_that_the_model_needs(shop, tmp_path, cluster):
    def change(signature):
        signature["serving"]["on_store_failure"] = "nulls"
        signature["features"][-1]["on_null"] = "refuse"

    package = shop.altered(tmp_path / "package", change)
    with pytest.raises(RequestError, match="The online store does not answer"):
        read_once(shop, CLUSTER, ROW, package=package)


def test_a_redis_that_stalls_costs_a_request_its_patience_and_no_more(shop, cluster):
    cluster.start()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)

    async def run():
        reader, counts = shop.open(CLUSTER, patience=0.1, connect_patience=0.3)
        async with started(reader):
            expected = await reader.read(ROW, counts)
            cluster.process.send_signal(signal.SIGSTOP)
            try:
                together = await asyncio.gather(
                    *(timed(reader.read(ROW, counts)) for _ in range(20))
                )
                for answer, seconds in together:
                    assert refused(answer)
                    assert 0.05 < seconds < 0.4
                await asyncio.sleep(0.5)
                answer, seconds = await timed(reader.read(ROW, counts))
                assert refused(answer)
                assert seconds < 0.05  # known to be down
            finally:
                cluster.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                while (await timed(reader.read(ROW, counts)))[0] != expected:
                    await asyncio.sleep(0.02)

    asyncio.run(run())


@pytest.mark.parametrize("loop", [asyncio, uvloop])
def test_a_loop_that_was_busy_does_not_blame_redis(shop, cluster, loop):
    cluster.start()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)

    async def run():
        reader, counts = shop.open(CLUSTER, patience=0.05)
        async with started(reader):
            reading = asyncio.create_task(reader.read(ROW, counts))
            asyncio.get_running_loop().call_soon(time.sleep, 0.2)
            assert (await reading)["stock__pieces"] == [2**53]
            assert counts.failed == 0

    loop.run(run())


def test_a_connection_that_redis_closes_is_replaced_unnoticed(shop, cluster):
    import redis

    cluster.start()
    materialize(shop.project, VERSION, MOMENT, CLUSTER)
    client = redis.Redis(port=cluster.port)

    async def run():
        reader, counts = shop.open(CLUSTER)
        async with started(reader):
            expected = await reader.read(ROW, counts)
            for _ in range(5):
                client.client_kill_filter(_type="normal", skipme=True)
                while reader._source._link._wire:
                    await asyncio.sleep(0)
                assert await reader.read(ROW, counts) == expected
            assert counts.failed == 0

    asyncio.run(run())


def test_a_server_that_is_not_redis_is_a_503(shop, monkeypatch, tmp_path):
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "file")
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", str(tmp_path / "registry.db"))

    async def http(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def run():
        server = await asyncio.start_server(http, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("SLIPWAY_FEAST_REDIS", f"127.0.0.1:{port}")
        async with server:
            reader, counts = shop.open(CLUSTER)
            async with started(reader):
                answer, _ = await timed(reader.read(ROW, counts))
                assert refused(answer)

    asyncio.run(run())


@pytest.mark.parametrize("damage", [b"no database", None])
def test_an_embedded_store_that_is_damaged_is_a_503_or_not_opened(shop, embedded, tmp_path, damage):
    store = shutil.copytree(embedded, tmp_path / "store")
    if damage is None:
        (store / "online.db").unlink()
    else:
        (store / "online.db").write_bytes(damage * 1000)
    with pytest.raises(UserError, match=r"online\.db.*Materialise"):
        shop.open(store)


# ---- how it is reached ----


def test_password_user_and_tls_are_written_as_feast_writes_them(
    shop, tmp_path, monkeypatch, caplog
):
    key, crt = tmp_path / "key.pem", tmp_path / "crt.pem"
    certificate(key, crt)
    users = tmp_path / "users.acl"
    users.write_text("user default off\nuser feast on >p$#:{ss ~* &* +@all\n")
    with redis_server(tmp_path) as server:
        server.listens = (
            *("--port", "0", "--tls-port", str(server.port), "--aclfile", str(users)),
            *("--tls-cert-file", str(crt), "--tls-key-file", str(key), "--tls-auth-clients", "no"),
        )
        server.start()
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "file")
        monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", str(tmp_path / "registry.db"))
        good = (
            f"localhost:{server.port},ssl=true,ssl_ca_certs={crt},username=feast,password=p$#:{{ss"
        )
        monkeypatch.setenv("SLIPWAY_FEAST_REDIS", good)
        materialize(shop.project, VERSION, MOMENT, CLUSTER)
        assert read_once(shop, CLUSTER, ROW)[0]["stock__pieces"] == [2**53]
        for wrong in (good.replace(":{ss", ":other"), good.replace(f",ssl_ca_certs={crt}", "")):
            caplog.clear()
            monkeypatch.setenv("SLIPWAY_FEAST_REDIS", wrong)
            with pytest.raises(RequestError, match="does not answer"):
                read_once(shop, CLUSTER, ROW)
            assert "does not answer" in caplog.text
            assert "p$#" not in caplog.text


def certificate(key, crt):
    """A self-signed one for localhost."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(crt), "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    assert ssl.create_default_context(cafile=str(crt))


def test_a_wrong_configuration_is_one_sentence_without_the_secret(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY_TYPE", "file")
    monkeypatch.setenv("SLIPWAY_FEAST_REGISTRY", str(tmp_path / "registry.db"))
    monkeypatch.delenv("SLIPWAY_FEAST_REDIS", raising=False)
    with pytest.raises(UserError, match="variable SLIPWAY_FEAST_REDIS is not set"):
        shop.open(CLUSTER)
    for wrong in ("", "nowhere", "host:port,password=secret", "h:1,password=secret,colour=red"):
        monkeypatch.setenv("SLIPWAY_FEAST_REDIS", wrong)
        with pytest.raises(UserError, match="connection_string") as caught:
            shop.open(CLUSTER)
        assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="there is no such file"):
        shop.open(tmp_path / "absent.yaml")
    file = tmp_path / "mine.yaml"
    text = (CLUSTER / "feature_store.yaml").read_text()
    for change, wanted in (
        (("type: redis", "type: redis\n  redis_type: redis_cluster"), "of the type redis_cluster"),
        (("type: redis", "type: redis\n  colour: secret"), "colour"),
        (("provider: local", "provider: [local"), "not a Feast configuration"),
    ):
        file.write_text(text.replace(*change))
        with pytest.raises(UserError, match=wanted) as caught:
            shop.open(file)
        assert "secret" not in str(caught.value)
