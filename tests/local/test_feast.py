"""Feast over the contract: our offline store answers like Feast's own, and the online store holds
the newest value of everything."""

# ruff: noqa: S608 (the SQL is made of paths and names of the test)

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features.step import features
from feature_repo.build import view_location
from slipway.data import DataStore, SourceData
from slipway.files import read_json, write_json
from slipway.project import Project
from slipway.sources import read_source
from slipway.step import Step

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.local
END = datetime(2014, 1, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Stepped:
    """The features step, run on the real data."""

    project: Project
    data_version: str
    version: str
    facts: dict
    training_set: Path

    def newest(self, view: str, moment: datetime = END) -> pd.DataFrame:
        """For each entity the newest row of a view by `moment`, straight from the file."""
        item = self.project.contract.views[view]
        keys = ", ".join(item.entities)
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.sql(
                f"""from '{view_location(self.project, self.version, view)}'
                where {item.event_timestamp} <= timestamptz '{moment.isoformat()}'
                qualify row_number() over (partition by {keys}
                                           order by {item.event_timestamp} desc) = 1
                order by {keys}"""
            ).df()


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(home))
        patch.delenv("SLIPWAY_FEATURES_URI", raising=False)
        patch.delenv("SLIPWAY_DATA_URI", raising=False)
        project = Project.load(ROOT / "project.yaml")
        manifest, _ = DataStore(project.home.data_uri).write(
            {
                name: SourceData(
                    read_source(name, source, project.root, project.contract.timezone), source.uri
                )
                for name, source in project.contract.sources.items()
            }
        )
        step = Step("features", project)
        folder = home / "training_set"
        version = features(step, manifest.id, "2014-01-01T05:00:00+00:00", folder)
        facts = json.loads(json.dumps(step.facts, allow_nan=False))
        yield Stepped(project, manifest.id, version, facts, folder / "training_set.parquet")


def test_the_step_leaves_its_facts_and_the_second_run_reuses_the_first(stepped, tmp_path):
    assert set(stepped.facts) == {
        *("feature_version", "as_of", "features", "windows", "views", "online_rows", "months"),
        *("null_share", "drift", "reused"),
    }
    assert stepped.facts["as_of"] == END.isoformat()
    assert stepped.facts["reused"] is False
    views = stepped.project.contract.views
    assert [view["name"] for view in stepped.facts["views"]] == list(views)
    assert stepped.facts["online_rows"] == sum(len(stepped.newest(view)) for view in views)
    again = Step("features", stepped.project)
    assert features(again, stepped.data_version, END.isoformat(), tmp_path) == stepped.version
    assert again.facts == stepped.facts | {"reused": True}
    assert (tmp_path / "training_set.parquet").read_bytes() == stepped.training_set.read_bytes()


# ---- the online store ----


def read_online(folder: Path, project: Project, version: str) -> dict[str, pd.DataFrame]:
    """All of an online store through Feast: view to frame of keys, features and timestamp."""
    from feature_repo.store import open_store

    store = open_store(project, folder)
    found = {}
    for name, view in project.contract.views.items():
        keys = pq.read_table(
            view_location(project, version, name), columns=list(view.entities)
        ).to_pandas()
        keys = keys.drop_duplicates().sort_values(list(view.entities), ignore_index=True)
        answer = store.get_online_features(
            features=[f"{name}:{feature}" for feature in view.features],
            entity_rows=keys.to_dict("records"),
        )
        columns = answer.to_dict(include_event_timestamps=True)
        frame = pd.DataFrame({column: columns[column] for column in [*keys, *view.features]})
        frame["at"] = columns[f"{next(iter(view.features))}__ts"]
        found[name] = frame
    return found


def assert_online(found: dict[str, pd.DataFrame], stepped: Stepped, moment: datetime) -> None:
    for name, view in stepped.project.contract.views.items():
        keys = list(view.entities)
        newest = stepped.newest(name, moment)
        both = found[name].merge(newest, on=keys, how="left", suffixes=("", "_file"))
        assert len(both) == len(found[name])
        stamps = both[view.event_timestamp]
        known = stamps.notna()
        assert known.sum() == len(newest)
        seconds = (stamps[known] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
        assert (both["at"][known] == seconds).all(), name
        for feature in view.features:
            online = pd.to_numeric(both[feature])
            file = both[f"{feature}_file"]
            assert ((online == file) | (online.isna() & file.isna())).all(), (name, feature)


def test_the_online_store_holds_the_newest_value_of_every_entity(stepped):
    folder = stepped.project.home.feast
    assert_online(read_online(folder, stepped.project, stepped.version), stepped, END)
    state = read_json(folder / "state.json")
    assert state["feature_version"] == stepped.version
    assert datetime.fromisoformat(state["moment"]) == END


def content(folder: Path) -> list:
    """Every value of an online store, by table and key."""
    with sqlite3.connect(folder / "online.db") as connection:
        tables = connection.execute(
            "select name from sqlite_master where type = 'table'"
        ).fetchall()
        return [
            (table, *row)
            for (table,) in sorted(tables)
            for row in connection.execute(
                f'select entity_key, feature_name, value, event_ts from "{table}" order by 1, 2'
            ).fetchall()
        ]


def test_a_store_is_the_same_whether_it_was_moved_or_built_anew(stepped, tmp_path):
    from feature_repo.materialize import materialize

    early, late = datetime(2013, 7, 1, 12, tzinfo=UTC), datetime(2013, 7, 2, 12, tzinfo=UTC)
    moved, anew = tmp_path / "moved", tmp_path / "anew"

    def to(moment: datetime, folder: Path) -> int:
        return materialize(stepped.project, stepped.version, moment, folder)

    first = to(early, moved)
    at_early = content(moved)
    assert to(early, moved) == first
    assert to(late, moved) == to(late, anew)
    assert content(moved) == content(anew) != at_early
    assert_online(read_online(moved, stepped.project, stepped.version), stepped, late)
    # Back again: nothing of the later day is left.
    assert to(early, moved) == first
    assert content(moved) == at_early


def test_a_store_whose_writer_was_killed_is_built_anew(stepped, tmp_path):
    from feature_repo.materialize import materialize

    moment = datetime(2013, 7, 1, 12, tzinfo=UTC)
    rows = materialize(stepped.project, stepped.version, moment, tmp_path)
    whole = content(tmp_path)
    # What a kill in the middle of a move leaves: a state without a moment, half a store.
    write_json(tmp_path / "state.json", read_json(tmp_path / "state.json") | {"moment": None})
    (tmp_path / "online.db").write_bytes((tmp_path / "online.db").read_bytes()[:5000])
    (tmp_path / "online.db-journal").write_bytes(b"of the killed one")
    (tmp_path / "online.db.new").write_bytes(b"half a file")
    assert materialize(stepped.project, stepped.version, moment, tmp_path) == rows
    assert content(tmp_path) == whole


READ = """
import json, sys
from pathlib import Path
from feature_repo.store import open_store
from slipway.project import Project
project = Project.load(sys.argv[1])
store = open_store(project, Path(sys.argv[2]))
answer = store.get_online_features(
    features=store.get_feature_service(project.contract.name),
    entity_rows=json.loads(sys.argv[3]), full_feature_names=True,
).to_dict(include_event_timestamps=True)
print(json.dumps(answer))
"""


def test_processes_agree_by_name_whatever_their_hash_seed_and_zone(stepped):
    rows = [
        {"carrier": "AA", "origin": "JFK", "dest": "LAX", "tailnum": "N338AA"},
        {"carrier": "UA", "origin": "EWR", "dest": "IAH", "tailnum": "nobody"},
    ]
    project = stepped.project
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", READ, project.path, project.home.feast, json.dumps(rows)],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, zone in (("0", "UTC"), ("1", "America/New_York"))
    ]
    one, two = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert one == two
    assert list(one) != list(two)  # the trap: by position they would be mixed up
    assert one["last_leg__arr_delay"][1] is None
    newest = stepped.newest("carrier_at_origin").set_index(["carrier", "origin"])
    row = newest.loc["AA", "JFK"]
    assert one["carrier_at_origin__departures_3h"][0] == row["departures_3h"]
    assert one["carrier_at_origin__departures_3h__ts"][0] == row["known_at"].timestamp()


def test_the_feast_command_applies_the_same_definitions(stepped, tmp_path):
    """`feast -c feature_repo/stores/embedded apply`, as the README says."""
    folder = tmp_path / "feast"
    folder.mkdir()
    environment = os.environ | {
        "SLIPWAY_PROJECT": str(stepped.project.path),
        "SLIPWAY_FEATURE_VERSION": stepped.version,
        "SLIPWAY_FEAST_PROJECT": "flight_delay",
        "SLIPWAY_FEAST_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    repo = shutil.copytree(ROOT / "feature_repo" / "stores" / "embedded", tmp_path / "repo")
    subprocess.run(
        [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "-c", repo, "apply"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    from feature_repo.store import open_store

    theirs, ours = (
        open_store(stepped.project, path) for path in (folder, stepped.project.home.feast)
    )
    views = {view.name: view for view in ours.list_feature_views()}
    assert set(views) == set(stepped.project.contract.views)
    for view in theirs.list_feature_views():
        assert view.schema == views[view.name].schema
        assert view.ttl == views[view.name].ttl
        assert view.source.path == views[view.name].source.path
    service = theirs.get_feature_service("flight-delay")
    assert service.tags["project_version"] == stepped.project.version
    names = [projection.name for projection in service.feature_view_projections]
    assert names == list(stepped.project.contract.views)


# ---- the offline store ----


def test_history_through_feast_is_the_training_set(stepped):
    from feature_repo.store import open_store

    contract = stepped.project.contract
    rows = pq.read_table(stepped.training_set)
    rows = rows.take(np.random.default_rng(0).choice(rows.num_rows, 20_000, replace=False))
    online = [f"{view}__{name}" for view, item in contract.views.items() for name in item.features]
    asked = rows.select(["row_id", "asked_at", *contract.entities]).to_pandas()
    job = open_store(stepped.project, stepped.project.home.feast).get_historical_features(
        entity_df=asked.rename(columns={"asked_at": "event_timestamp"}),
        features=open_store(stepped.project, stepped.project.home.feast).get_feature_service(
            contract.name
        ),
        full_feature_names=True,
    )
    found = job.to_arrow()
    assert found["row_id"].to_pylist() == rows["row_id"].to_pylist()
    assert set(found.column_names) == {"row_id", "event_timestamp", *contract.entities, *online}
    for name in online:
        assert found[name].equals(rows[name]), name


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    """Two Feast stores over the same files and definitions: ours, and Feast's `file` store.

    500 rows are asked for. Their moments and those of the values lie on the full hour, so that
    values of the very moment and of the very TTL abound, and many entities are unknown.
    """
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64, Int64, String

    folder = tmp_path_factory.mktemp("repos")
    rng = np.random.default_rng(3)
    start = datetime(2024, 1, 1, tzinfo=UTC)

    def moments(count: int) -> pa.Array:
        hours = rng.integers(0, 200, count)
        return pa.array([start + int(hour) * HOUR for hour in hours], pa.timestamp("us", "UTC"))

    def unique(table: pa.Table, keys: list[str]) -> pa.Table:
        return pa.Table.from_pandas(table.to_pandas().drop_duplicates(keys), preserve_index=False)

    shops = [f"s{number}" for number in range(12)]
    sales = pa.table(
        {"shop": rng.choice(shops, 600), "at": moments(600), "total": rng.random(600).round(3)}
    )
    pq.write_table(unique(sales, ["shop", "at"]), folder / "sales.parquet")
    stock = pa.table(
        {
            "store": rng.choice(shops, 600),
            "item": rng.integers(0, 4, 600),
            "event_timestamp": moments(600),
            "n": pa.array([None if n % 7 == 0 else int(n) for n in range(600)], pa.int64()),
            "colour": rng.choice(["red", "blue"], 600),
        }
    )
    pq.write_table(unique(stock, ["store", "item", "event_timestamp"]), folder / "stock.parquet")
    # Ties: up to five values of one shop and moment; the one created last counts.
    ties = pa.table(
        {
            "shop": rng.choice(shops, 800),
            "at": moments(800),
            "made": pa.array(
                [start + timedelta(seconds=int(n)) for n in rng.permutation(800)],
                pa.timestamp("us", "UTC"),
            ),
            "level": rng.random(800),
        }
    )
    pq.write_table(ties, folder / "ties.parquet")
    # As pandas writes it: nanoseconds, and no zone.
    naive = pd.DataFrame(
        {
            "shop": rng.choice(shops, 300),
            "at": pd.to_datetime(moments(300).to_pandas()).dt.tz_localize(None),
            "naive_level": rng.random(300),
        }
    ).drop_duplicates(["shop", "at"])
    naive["at"] = naive["at"].astype("datetime64[ns]")
    pq.write_table(
        pa.Table.from_pandas(naive, preserve_index=False), folder / "naive.parquet", version="2.6"
    )

    shop = Entity(name="shop", value_type=ValueType.STRING)
    item = Entity(name="item", value_type=ValueType.INT64)

    def view(name, entities, ttl, schema, source):
        schema = [Field(name=key, dtype=kind) for key, kind in schema.items()]
        return FeatureView(name=name, entities=entities, ttl=ttl, schema=schema, source=source)

    def source(name, timestamp="at", **more):
        return FileSource(
            name=name, path=str(folder / f"{name}.parquet"), timestamp_field=timestamp, **more
        )

    text = {"shop": String}
    objects = [
        shop,
        item,
        view("sales", [shop], 6 * HOUR, text | {"total": Float64}, source("sales")),
        view(
            "stock",
            [shop, item],
            timedelta(0),
            text | {"item": Int64, "pieces": Int64, "colour": String},
            # The file has other names than the view.
            source("stock", "event_timestamp", field_mapping={"n": "pieces", "store": "shop"}),
        ),
        view(
            "ties",
            [shop],
            24 * HOUR,
            text | {"level": Float64},
            source("ties", created_timestamp_column="made"),
        ),
        view("naive", [shop], 24 * HOUR, text | {"naive_level": Float64}, source("naive")),
    ]
    stores = {}
    for name, kind in (
        ("ours", "feature_repo.offline_store.DuckDBOfflineStore"),
        ("theirs", "file"),
    ):
        stores[name] = FeatureStore(
            config=RepoConfig(
                project="parity",
                provider="local",
                registry=str(folder / f"{name}.db"),
                online_store={"type": "sqlite", "path": str(folder / f"{name}-online.db")},
                offline_store={"type": kind},
                entity_key_serialization_version=3,
                repo_path=folder,
            )
        )
        stores[name].apply(objects)
    asked = pd.DataFrame(
        {
            "row": range(500),
            "shop": rng.choice([*shops, "unknown"], 500),
            "item": rng.integers(0, 5, 500),
            "event_timestamp": moments(500).to_pandas(),
        }
    ).drop_duplicates(["shop", "item", "event_timestamp"])
    return folder, stores["ours"], stores["theirs"], asked


FEATURES = {
    "sales": ["sales:total"],
    "stock": ["stock:pieces", "stock:colour"],
    "naive": ["naive:naive_level"],
}


@pytest.mark.parametrize("view", FEATURES)
@pytest.mark.parametrize("full_names", [True, False])
def test_our_offline_store_answers_like_feast_s_own(repos, view, full_names):
    _, ours, theirs, asked = repos
    refs = FEATURES[view]
    asked = asked if view == "stock" else asked.drop_duplicates(["shop", "event_timestamp"])
    job = [
        store.get_historical_features(asked, refs, full_feature_names=full_names).to_df()
        for store in (ours, theirs)
    ]
    found, expected = (frame.set_index("row") for frame in job)
    assert list(found.index) == list(asked["row"])  # every row once, in its order
    assert set(found.columns) == set(expected.columns)
    names = [ref.replace(":", "__") if full_names else ref.split(":")[1] for ref in refs]
    # Feast's store drops rows all of whose values are too old or in the future; ours has nulls.
    dropped = found.index.difference(expected.index)
    assert found.loc[dropped, names].isna().all(axis=None)
    kept = found.loc[expected.index]
    for name in names:
        same = (kept[name] == expected[name]) | (kept[name].isna() & expected[name].isna())
        assert same.all()
        assert 20 < kept[name].notna().sum() < len(asked)


def test_of_several_values_of_one_moment_the_one_created_last_counts(repos):
    """By hand: Feast's `file` store sorts twice, unstably, and takes any of them."""
    folder, ours, _, asked = repos
    ties = pq.read_table(folder / "ties.parquet").to_pandas()
    last = ties.sort_values("made").drop_duplicates(["shop", "at"], keep="last").sort_values("at")
    assert len(last) < 0.9 * len(ties)
    rows = asked.sort_values("event_timestamp", kind="stable")
    expected = pd.merge_asof(
        *(rows, last), left_on="event_timestamp", right_on="at", by="shop", tolerance=24 * HOUR
    )
    found = ours.get_historical_features(rows, ["ties:level"]).to_df()
    pd.testing.assert_series_equal(found["level"], expected["level"])
    assert 20 < found["level"].notna().sum() < len(rows)

    source = ours.get_feature_view("ties").batch_source
    newest = ours._get_provider().offline_store.pull_latest_from_table_or_query(
        config=ours.config,
        data_source=source,
        join_key_columns=["shop"],
        feature_name_columns=["level"],
        timestamp_field="at",
        created_timestamp_column="made",
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        end_date=datetime(2024, 2, 1, tzinfo=UTC),
    )
    expected = last.drop_duplicates("shop", keep="last").set_index("shop")["level"].sort_index()
    found = newest.to_df().set_index("shop")["level"].sort_index()
    pd.testing.assert_series_equal(found, expected)


def test_a_value_of_the_very_moment_and_of_the_very_ttl_counts(repos):
    folder, ours, theirs, _ = repos
    sale = pq.read_table(folder / "sales.parquet").to_pandas().sort_values("at").iloc[-1]
    micro = timedelta(microseconds=1)
    later = [timedelta(0), 6 * HOUR, 6 * HOUR + micro, -micro]
    asked = pd.DataFrame(
        {"shop": sale["shop"], "event_timestamp": [sale["at"] + delta for delta in later]}
    )
    found = ours.get_historical_features(asked, ["sales:total"]).to_df()["total"].tolist()
    assert found[:2] == [sale["total"]] * 2
    assert np.isnan(found[2])
    assert found[3] != sale["total"]
    own = theirs.get_historical_features(asked.iloc[:3], ["sales:total"]).to_df()
    assert own["total"].dropna().tolist() == found[:2]


def test_rows_may_come_from_sql_and_their_timestamp_be_found_by_its_type(repos):
    folder, ours, _, asked = repos
    pq.write_table(pa.Table.from_pandas(asked, preserve_index=False), folder / "asked.parquet")
    refs = ["sales:total", "stock:pieces"]
    frame = ours.get_historical_features(asked, refs).to_df()
    sql = ours.get_historical_features(
        f"select row, shop, item, event_timestamp as moment from '{folder}/asked.parquet'", refs
    ).to_df()
    pd.testing.assert_frame_equal(
        frame, sql.rename(columns={"moment": "event_timestamp"}), check_dtype=False
    )


def test_rows_without_a_moment_or_a_key_are_refused_by_name(repos):
    from feast.errors import EntityTimestampInferenceException, FeastEntityDFMissingColumnsError

    _, ours, _, asked = repos
    with pytest.raises(EntityTimestampInferenceException):
        ours.get_historical_features(asked[["shop"]], ["sales:total"])
    with pytest.raises(FeastEntityDFMissingColumnsError, match="item"):
        ours.get_historical_features(asked[["shop", "event_timestamp"]], ["stock:pieces"])
    with pytest.raises(ValueError, match="entity_df"):
        ours.get_historical_features(None, ["sales:total"])
    with pytest.raises(NotImplementedError, match="filter_by_created_timestamp"):
        ours.get_historical_features(asked, ["sales:total"], filter_by_created_timestamp=True)


def test_one_view_may_be_joined_twice_under_other_keys(repos):
    from feast import FeatureService

    _, ours, _, asked = repos
    sales = ours.get_feature_view("sales")
    rows = asked.assign(other=np.roll(asked["shop"], 1)).drop(columns=["item"])
    service = FeatureService(
        name="pair",
        features=[
            sales.with_name("mine"),
            sales.with_name("other").with_join_key_map({"shop": "other"}),
        ],
    )
    ours.apply(service)
    both = ours.get_historical_features(rows, service, full_feature_names=True).to_df()
    swapped = rows.assign(shop=rows["other"])
    alone = ours.get_historical_features(swapped, ["sales:total"]).to_df()
    assert both["other__total"].equals(alone["total"])
    assert not both["other__total"].equals(both["mine__total"])


def test_values_computed_on_demand_are_appended(repos):
    from feast import Field
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64

    _, ours, _, asked = repos

    @on_demand_feature_view(
        sources=[ours.get_feature_view("sales")],
        schema=[Field(name="double", dtype=Float64)],
        mode="pandas",
    )
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"double": inputs["total"] * 2})

    ours.apply(doubled)
    found = ours.get_historical_features(asked, ["sales:total", "doubled:double"]).to_df()
    assert found["double"].equals(found["total"] * 2)


def test_a_result_can_be_saved_and_read_again_and_is_not_overwritten_by_accident(repos):
    from feast.errors import SavedDatasetLocationAlreadyExists
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    folder, ours, _, asked = repos
    job = ours.get_historical_features(asked, ["sales:total"])
    path = folder / "saved" / "set.parquet"
    ours.create_saved_dataset(job, "saved", SavedDatasetFileStorage(path=str(path)))
    assert ours.get_saved_dataset("saved").to_df()["total"].notna().sum() > 20
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(SavedDatasetFileStorage(path=str(path)))
    job.persist(SavedDatasetFileStorage(path=str(path)), allow_overwrite=True)


def test_the_newest_rows_of_a_span_are_pulled_like_feast_s_own(repos):
    _, ours, theirs, _ = repos
    start = datetime(2024, 1, 3, tzinfo=UTC)
    for view, keys, values in (
        ("sales", ["shop"], ["total"]),
        ("stock", ["store", "item"], ["n", "colour"]),
    ):
        source = ours.get_feature_view(view).batch_source
        for pull in ("pull_latest_from_table_or_query", "pull_all_from_table_or_query"):
            frames = []
            for store in (ours, theirs):
                job = getattr(store._get_provider().offline_store, pull)(
                    config=store.config,
                    data_source=source,
                    join_key_columns=keys,
                    feature_name_columns=values,
                    timestamp_field=source.timestamp_field,
                    created_timestamp_column=None,
                    start_date=start,
                    end_date=start + 72 * HOUR,
                )
                columns = [*keys, source.timestamp_field, *values]
                frame = job.to_df()[columns]
                frames.append(frame.sort_values(columns, ignore_index=True))
            assert len(frames[0]) > 5
            pd.testing.assert_frame_equal(*frames, check_dtype=False)
