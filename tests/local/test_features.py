"""Facts, views and training set: nothing may be seen before it was known."""

# ruff: noqa: S608 (the SQL is made of paths and files of the test)

import json
import math
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from servers import s3_server

from feature_repo.build import MANIFEST, TRAINING_SET, build, feature_version, view_location
from slipway.arrow import ARROW_TYPES
from slipway.data import DataStore, SourceData
from slipway.encoder import input_features
from slipway.errors import UserError
from slipway.project import Project
from slipway.sources import read_source

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.local


@dataclass(frozen=True)
class Folder:
    """Sources as `<root>/<data version>/<source>.parquet`."""

    root: Path

    def location(self, data_version: str, source: str) -> str:
        return str(self.root / data_version / f"{source}.parquet")


@pytest.fixture(scope="module", autouse=True)
def own_home():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLIPWAY_HOME", "SLIPWAY_FEATURES_URI", "SLIPWAY_MEMORY_LIMIT"):
            patch.delenv(name, raising=False)
        yield


def copy_project(folder: Path, **changes: str) -> Project:
    """The repository's project in `folder`; `changes` replace a line that starts with the key."""
    shutil.copytree(ROOT / "feature_repo" / "tables", folder / "feature_repo" / "tables")
    shutil.copytree(ROOT / "feature_repo" / "views", folder / "feature_repo" / "views")
    lines = (ROOT / "project.yaml").read_text().splitlines()
    for key, value in changes.items():
        [at] = [number for number, line in enumerate(lines) if line.startswith(f"{key}:")]
        lines[at] = f"{key}: {value}"
    (folder / "project.yaml").write_text("\n".join(lines))
    return Project.load(folder / "project.yaml")


def connect():
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    return connection


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Path:
    """The real sources, as the data version `real` under the folder that is returned."""
    root = tmp_path_factory.mktemp("data")
    (root / "real").mkdir()
    project = Project.load(ROOT / "project.yaml")
    for name, source in project.contract.sources.items():
        table = read_source(name, source, project.root, project.contract.timezone)
        pq.write_table(table, root / "real" / f"{name}.parquet")
    return root


@dataclass(frozen=True)
class Built:
    project: Project
    version: str

    def path(self, view: str) -> Path:
        return Path(view_location(self.project, self.version, view))

    @property
    def training_set(self) -> Path:
        return self.path("x").parent / TRAINING_SET


@pytest.fixture(scope="module")
def real(flights, tmp_path_factory) -> Built:
    project = copy_project(tmp_path_factory.mktemp("project"))
    built = build(project, Folder(flights), "real", project.contract.resolve_as_of())
    return Built(project, built.id)


def test_the_training_set_has_the_contract_s_columns_types_order_and_windows(real):
    contract = real.project.contract
    table = pq.read_table(real.training_set)
    assert table.num_rows == 327_181
    assert table["row_id"].to_pylist() == list(range(table.num_rows))
    for feature in input_features(contract):
        assert table.schema.field(feature.name).type == ARROW_TYPES[feature.type], feature.name
    assert table.schema.field("asked_at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("late").type == pa.int64()
    order = [("asked_at", "ascending"), *((key, "ascending") for key in contract.target.key)]
    assert pc.sort_indices(table, order).to_pylist() == list(range(table.num_rows))
    windows = contract.windows(contract.resolve_as_of())
    assert windows["test"][0] == datetime(2013, 11, 1, 4, tzinfo=UTC)  # New York's midnight
    for name, (start, end) in windows.items():
        rows = table.filter(pc.equal(table["window"], name))
        assert pc.min(rows["asked_at"]).as_py() >= start
        assert pc.max(rows["asked_at"]).as_py() < end
        assert pc.max(rows["arrived_at"]).as_py() <= end
    late = {
        name: pc.mean(table.filter(pc.equal(table["window"], name))["late"]).as_py()
        for name in windows
    }
    assert late["validate"] == pytest.approx(0.168, abs=0.001)
    assert late["test"] == pytest.approx(0.250, abs=0.001)


@pytest.mark.parametrize(
    ("day", "carrier", "flight", "departed", "arrived"),
    [
        # The night of 10 March skips 2 to 3 o'clock in New York and Chicago, not in San Juan.
        ((3, 10), "AA", 303, "2013-03-10 10:24", "2013-03-10 13:00"),
        ((3, 9), "B6", 707, "2013-03-10 04:45", "2013-03-10 08:06"),
        # That of 3 November has two o'clock hours.
        ((11, 3), "AA", 303, "2013-11-03 11:25", "2013-11-03 13:36"),
        ((11, 2), "B6", 745, "2013-11-03 03:46", "2013-11-03 07:53"),
        # Scheduled for 21:25, gone at 1:34 the next day, in Denver at 3:32.
        ((7, 10), "B6", 97, "2013-07-11 05:34", "2013-07-11 09:32"),
    ],
)
def test_a_delay_is_known_when_it_happened_also_after_midnight_and_when_clocks_change(
    real, flights, day, carrier, flight, departed, arrived
):
    with connect() as connection:
        for name in real.project.contract.sources:
            path = Folder(flights).location("real", name)
            connection.execute(f"create view {name} as from '{path}'")
        arrivals, departures = (
            real.project.sql(f"feature_repo/tables/{name}.sql")
            for name in ("arrivals", "departures")
        )
        [[tail, dest, at]] = connection.execute(
            f"""select tailnum, dest, known_at from ({arrivals}) where month = {day[0]}
            and day = {day[1]} and carrier = '{carrier}' and flight = {flight}"""
        ).fetchall()
        assert at == datetime.fromisoformat(arrived).replace(tzinfo=UTC)
        known = connection.execute(
            f"select known_at from ({departures}) where tailnum = '{tail}' and dest = '{dest}'"
        ).fetchall()
    assert (datetime.fromisoformat(departed).replace(tzinfo=UTC),) in known


def test_an_arrival_is_never_known_before_the_aircraft_can_have_landed(real, flights):
    with connect() as connection:
        for name in real.project.contract.sources:
            path = Folder(flights).location("real", name)
            connection.execute(f"create view {name} as from '{path}'")
        [[rows, early, late]] = connection.execute(
            f"""select count(*), count(*) filter (known < flown),
                count(*) filter (known > flown + 240)
            from (select
                datediff('minute', time_hour + to_minutes(minute) + to_minutes(dep_delay::bigint),
                         known_at) as known, coalesce(air_time, 0) as flown
            from ({real.project.sql("feature_repo/tables/arrivals.sql")})
            join flights using (year, month, day, carrier, flight, origin))"""
        ).fetchall()
    assert rows == 327_346
    assert early == 0
    assert late == 0


def test_a_carrier_s_week_holds_whole_days_and_is_known_at_the_midnight_after(real):
    week = pq.read_table(real.path("carrier_week")).to_pylist()
    assert {row["known_at"].astimezone(real.project.contract.zone).hour for row in week} == {0}
    first = min(row["known_at"] for row in week)
    assert first == datetime(2013, 1, 2, 5, tzinfo=UTC)
    # Seven days over the change of clocks, by hand: every arrival of those days.
    [row] = [
        row
        for row in week
        if row["carrier"] == "UA" and row["known_at"] == datetime(2013, 11, 6, 5, tzinfo=UTC)
    ]
    legs = pq.read_table(real.training_set, columns=["carrier", "arrived_at", "late"])
    start = datetime(2013, 10, 30, 4, tzinfo=UTC)
    legs = legs.filter(
        (pc.field("carrier") == "UA")
        & (pc.field("arrived_at") >= start)
        & (pc.field("arrived_at") < row["known_at"])
    )
    # Rows that straddle two windows are in none, so a few arrivals are not among `legs`.
    assert row["arrivals_7d"] == pytest.approx(legs.num_rows, abs=30)
    assert row["arrivals_7d"] >= legs.num_rows
    assert row["late_share_7d"] == pytest.approx(pc.mean(legs["late"]).as_py(), abs=0.01)


def test_features_older_than_their_ttl_are_null_and_younger_ones_are_not(real):
    """Against a join written anew in pandas, for one view with a TTL and one without."""
    rows = pq.read_table(real.training_set).slice(100_000, 20_000).to_pandas()
    for view in ("last_leg", "plane", "weather"):
        item = real.project.contract.views[view]
        facts = pq.read_table(real.path(view)).to_pandas().sort_values("known_at")
        by_hand = rows.merge(facts, on=item.entities[0]) if view == "plane" else None
        if view != "plane":
            import pandas as pd

            by_hand = pd.merge_asof(
                rows.sort_values("asked_at"),
                facts,
                left_on="asked_at",
                right_on="known_at",
                by=item.entities[0],
                tolerance=item.ttl,
            )
        by_hand = by_hand.set_index("row_id").reindex(rows["row_id"])
        for feature in item.features:
            expected, found = by_hand[feature], rows.set_index("row_id")[f"{view}__{feature}"]
            assert ((expected == found) | (expected.isna() & found.isna())).all(), feature
    assert 0.05 < rows["last_leg__arr_delay"].isna().mean() < 0.9


# ---- the future, changed ----

T = datetime(2013, 11, 15, 15, tzinfo=UTC)


def change_the_future(flights: Path, moment: datetime) -> None:
    """A data version `changed`: every fact known after `moment` is another, and there are more."""
    folder = flights / "changed"
    shutil.copytree(flights / "real", folder, dirs_exist_ok=True)
    project = Project.load(ROOT / "project.yaml")
    with connect() as connection:
        for name in project.contract.sources:
            connection.execute(f"create view {name} as from '{flights}/real/{name}.parquet'")
        arrivals = project.sql("feature_repo/tables/arrivals.sql")
        after = f"> timestamptz '{moment.isoformat()}'"
        departed = "flights.time_hour + to_minutes(flights.minute) + to_minutes(dep_delay::bigint)"
        connection.execute(
            f"""copy (
                with landed as (
                    select year, month, day, carrier, flight, origin, known_at from ({arrivals})
                ),
                changed as (
                    select flights.* replace (
                        case when {departed} {after} then dep_delay + 300 else dep_delay
                        end as dep_delay,
                        case when known_at {after} and flights.flight % 3 = 0 then null
                             when known_at {after} then 500 - 2 * arr_delay else arr_delay
                        end as arr_delay
                    )
                    from flights left join landed using (year, month, day, carrier, flight, origin)
                )
                from changed
                union all
                select * replace ('ZZ' as carrier, 'N00000' as tailnum) from changed
                where time_hour {after} and carrier = 'UA' and flight % 2 = 0
            ) to '{folder}/flights.parquet'"""
        )
        connection.execute(
            f"""copy (
                select * replace (
                    case when time_hour + interval 1 hour {after} then 99 else temp end as temp,
                    case when time_hour + interval 1 hour {after} then 9 else precip end as precip,
                    case when time_hour + interval 1 hour {after} then null else pressure
                    end as pressure
                ) from weather
            ) to '{folder}/weather.parquet'"""
        )


@pytest.fixture(scope="module")
def futures(flights, tmp_path_factory):
    """Builds over the last four months: `{(data version, as_of): Built}`."""
    for version in ("real", "changed"):
        if version == "changed":
            change_the_future(flights, T)
        with connect() as connection:
            path = flights / version / "flights.parquet"
            table = connection.sql(f"from '{path}' where month >= 9").to_arrow_table()
        short = flights / f"{version}-short"
        shutil.copytree(flights / version, short)
        pq.write_table(table, short / "flights.parquet")
    project = copy_project(
        tmp_path_factory.mktemp("project"),
        split="{train: 1 month, validate: 14 days, test: 14 days}",
    )
    full = datetime(2013, 12, 15, 5, tzinfo=UTC)
    return {
        (version, as_of): Built(
            project, build(project, Folder(flights), f"{version}-short", as_of).id
        )
        for version in ("real", "changed")
        for as_of in (full, T)
    }


def test_no_feature_asked_for_by_then_moves_when_the_future_changes(futures):
    full = max(as_of for _, as_of in futures)
    real, changed = (futures[version, full] for version in ("real", "changed"))
    names = [f.name for f in input_features(real.project.contract)]
    key = ", ".join(real.project.contract.target.key)
    with connect() as connection:
        same = " and ".join(f"a.{name} is not distinct from b.{name}" for name in names)
        [[by_then, moved, later, moved_later]] = connection.execute(
            f"""select
                count(*) filter (asked_at <= $1), count(*) filter (asked_at <= $1 and not ({same})),
                count(*) filter (asked_at > $1), count(*) filter (asked_at > $1 and not ({same}))
            from '{real.training_set}' a
            join '{changed.training_set}' b using ({key}, asked_at)""".replace(
                "$1", f"timestamptz '{T.isoformat()}'"
            )
        ).fetchall()
    assert by_then > 20_000
    assert moved == 0
    assert moved_later > 0.9 * later > 5_000  # the change is one that features feel


def test_with_as_of_nothing_later_is_visible_and_builds_are_byte_for_byte_equal(futures):
    real, changed = (futures[version, T] for version in ("real", "changed"))
    assert real.version != changed.version
    for view, item in real.project.contract.views.items():
        assert real.path(view).read_bytes() == changed.path(view).read_bytes(), view
        stamps = pq.read_table(real.path(view))[item.event_timestamp]
        assert pc.max(stamps).as_py() <= T
    assert real.training_set.read_bytes() == changed.training_set.read_bytes()
    rows = pq.read_table(real.training_set)
    assert pc.max(rows["arrived_at"]).as_py() <= T
    assert set(rows["window"].to_pylist()) == {"train", "validate", "test"}


# ---- a small project, for what can be wrong with one ----

CONTRACT = """\
name: small
description: Will the order be returned?
as_of: 2024-01-31
sources:
  orders:
    uri: orders.csv
    columns: {placed: {type: timestamp}, shop: {type: string}, value: {type: float}}
  asks:
    uri: asks.csv
    columns:
      id: {type: int}
      shop: {type: string}
      asked: {type: timestamp}
      answered: {type: timestamp}
      answer: {type: int}
tables:
  facts: {sql: facts.sql}
  answers: {sql: answers.sql, known_at: answered}
entities:
  shop: {description: A shop}
views:
  sales:
    sql: sales.sql
    entities: [shop]
    ttl: 1h
    features:
      total: {type: float, range: [0, 1000]}
      orders: {type: int}
request: {}
target:
  sql: target.sql
  key: [id]
  event_timestamp: asked
  label: answer
  label_timestamp: answered
  task: binary
split: {train: 10 days, validate: 10 days, test: 10 days}
"""
FILES = {
    "facts.sql": "select placed as known_at, shop, value from orders",
    "answers.sql": "select id, answered, answer from asks;",
    "sales.sql": """
        select shop, known_at, sum(value) over so_far as total, count(*) over so_far as orders
        from facts window so_far as (partition by shop order by known_at) -- to here""",
    "target.sql": """
        select asks.id, asks.shop, asks.asked, answers.answered, answers.answer
        from asks left join answers using (id)""",
}
DAY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def small(folder: Path, contract: str = CONTRACT, **files: str) -> Project:
    """A project of 30 days: an order at 12 each day, asks at 12, 13, 13 + 1 us and before it."""
    data = folder / "data" / "v"
    data.mkdir(parents=True)
    stamp = ARROW_TYPES["timestamp"]
    days = [DAY + timedelta(days=number) for number in range(30)]
    noons = [day + 12 * HOUR for day in days]
    pq.write_table(
        pa.table(
            {
                "placed": pa.array(noons, stamp),
                "shop": ["a"] * 30,
                "value": [float(n) for n in range(30)],
            }
        ),
        data / "orders.parquet",
    )
    micro = timedelta(microseconds=1)
    asked = [noon + delta for noon in noons for delta in (-micro, 0 * micro, HOUR, HOUR + micro)]
    pq.write_table(
        pa.table(
            {
                "id": range(120),
                "shop": ["a"] * 120,
                "asked": pa.array(asked, stamp),
                "answered": pa.array([moment + HOUR for moment in asked], stamp),
                "answer": [number % 2 for number in range(120)],
            }
        ),
        data / "asks.parquet",
    )
    for name, text in {**FILES, **{f"{name}.sql": text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    (folder / "project.yaml").write_text(contract)
    return Project.load(folder / "project.yaml")


def build_small(project: Project):
    as_of = project.contract.resolve_as_of()
    return build(project, Folder(project.root / "data"), "v", as_of)


def rows_of(project: Project) -> list[dict]:
    return pq.read_table(Path(build_small(project).location) / TRAINING_SET).to_pylist()


def test_a_value_counts_from_its_moment_to_its_ttl_both_included(tmp_path):
    rows = rows_of(small(tmp_path))
    assert len(rows) == 120
    for row in rows:
        day, case = divmod(row["id"], 4)
        # Just before: yesterday's is too old. At, and an hour after: today's. Beyond: too old.
        expected = sum(range(day + 1)) if case in (1, 2) else None
        assert row["sales__total"] == expected
        assert row["sales__orders"] == (day + 1 if expected is not None else None)


def test_a_table_shows_nothing_before_it_was_known(tmp_path):
    project = small(tmp_path)
    as_of = DAY + timedelta(days=29, hours=12)
    built = build(project, Folder(project.root / "data"), "v", as_of)
    assert (
        pc.max(pq.read_table(Path(built.location) / "sales.parquet")["known_at"]).as_py() == as_of
    )
    rows = pq.read_table(Path(built.location) / TRAINING_SET)
    assert pc.max(rows["answered"]).as_py() <= as_of


def test_a_finished_version_is_reused_and_never_written_again(tmp_path):
    project = small(tmp_path)
    first = build_small(project)
    manifest = Path(first.location) / MANIFEST
    before = manifest.stat().st_mtime_ns
    second = build_small(project)
    assert (first.reused, second.reused) == (False, True)
    assert second.views == first.views
    assert manifest.stat().st_mtime_ns == before


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    project = small(tmp_path, sales="select 1 as nonsense")
    with pytest.raises(UserError):
        build_small(project)
    features = Path(project.home.features_uri)
    assert not features.exists() or not list(features.iterdir())


def test_the_version_changes_with_data_contract_sql_and_moment(tmp_path):
    project = small(tmp_path / "one")
    other = small(tmp_path / "two", sales=FILES["sales.sql"] + "\n")
    ids = {
        feature_version(project, "v", DAY),
        feature_version(project, "w", DAY),
        feature_version(project, "v", DAY + HOUR),
        feature_version(other, "v", DAY),
    }
    assert len(ids) == 4


def with_sales(columns: str, source: str = "facts") -> dict[str, str]:
    return {"sales": f"select {columns} from {source}"}


def target(old: str, new: str) -> dict[str, str]:
    return {"target": FILES["target.sql"].replace(old, new)}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sales": "select shop, known_at, total fro facts"}, ["sales.sql", "syntax error"]),
        (
            {"facts": "select placed, shop, value from orders"},
            ["facts.sql", "no column 'known_at'"],
        ),
        (
            {"facts": "select placed::timestamp as known_at from orders"},
            ["known_at", "timezone('UTC'"],
        ),
        ({"target": "select id, shop from asks"}, ["target.sql", "no column", "'answer'"]),
        (with_sales("shop, known_at, value as total"), ["sales.sql", "no column 'orders'"]),
        (
            with_sales("shop, known_at, value as total, 1 as orders, 2 as more"),
            ["sales.sql", "'more'", "features"],
        ),
        (
            with_sales("shop, known_at, value as total, 'x' as orders"),
            ["'orders' is VARCHAR", "says int"],
        ),
        (
            with_sales("shop, known_at, value as total, value as orders"),
            ["'orders' is DOUBLE", "says int"],
        ),
        (
            with_sales(
                "shop, date_trunc('month', known_at) as known_at, 1.0 as total, 1 as orders"
            ),
            ["more than once", "shop: a"],
        ),
        (
            with_sales("nullif(shop, 'a') as shop, known_at, 1.0 as total, 1 as orders"),
            ["'shop' is null in 30 rows"],
        ),
        (
            with_sales(
                "shop, if(value < 3, null, known_at) as known_at, 1.0 as total, 1 as orders"
            ),
            ["'known_at' is null in 3 rows"],
        ),
        (
            with_sales("shop, known_at, value - 5 as total, 1 as orders"),
            ["'total' lies outside [0.0, 1000.0] in 5 rows"],
        ),
        (
            with_sales("shop, known_at, 'nan'::double as total, 1 as orders"),
            ["'total' is NaN or infinite in 30 rows"],
        ),
        (
            with_sales("shop, known_at, value as total, (2::hugeint ** 70)::hugeint as orders"),
            ["sales.sql", "out of range"],
        ),
        # What is not a table is out of a view's reach, by whatever name.
        (
            with_sales("shop, placed as known_at, value as total, 1 as orders", "orders"),
            ["orders", "facts"],
        ),
        (
            with_sales("shop, asked as known_at, 1.0 as total, answer as orders", "target"),
            ["target"],
        ),
        (with_sales("*", "read_parquet('{data}/orders.parquet')"), ["Permission"]),
        (with_sales("*", "'{data}/orders.parquet'"), ["sales.sql"]),
        (with_sales("*", "project"), ["project does not exist"]),
        # What peeks is caught in the act, whichever way it peeks.
        (
            with_sales(
                "shop, known_at, sum(value) over (partition by shop order by known_at "
                "rows between current row and 1 following) as total, 1 as orders"
            ),
            ["sales.sql", "sees its own future"],
        ),
        (
            with_sales("shop, known_at, value / max(value) over () as total, 1 as orders"),
            ["sees its own future"],
        ),
        (
            {
                "sales": "select shop, date_trunc('week', known_at) as known_at, "
                "sum(value) as total, count(*) as orders from facts group by all"
            },
            ["sees its own future"],
        ),
        (target("answers.answer\n", "null::int as answer\n"), ["null in all 120 rows"]),
        (target("answers.answer\n", "answers.answer + 1 as answer\n"), ["not 0 or 1", "'2'"]),
        (target("answers.answer\n", "'yes' as answer\n"), ["'answer' is VARCHAR"]),
        (target("answers.answered", "asked - interval 1 second as answered"), ["before 'asked'"]),
        (target("asks.id", "asks.id // 2 as id"), ["keys of the target", "more than once"]),
        (target("(id)", "(id) where asked < '2024-01-19'"), ["test window", "split"]),
    ],
)
def test_what_is_wrong_with_the_sql_is_said_with_its_file(tmp_path, files, words):
    data = tmp_path / "data" / "v"
    files = {name: text.replace("{data}", str(data)) for name, text in files.items()}
    with pytest.raises(UserError) as error:
        build_small(small(tmp_path, **files))
    for word in words:
        assert word in str(error.value)


def test_classes_become_their_place_in_the_contract_and_a_stranger_is_refused(tmp_path):
    contract = CONTRACT.replace("task: binary", "task: multiclass\n  classes: [never, later, soon]")
    label = "['soon', 'later', 'never'][1 + id % 3] as answer\n"
    target = FILES["target.sql"].replace("answers.answer\n", label)
    rows = rows_of(small(tmp_path / "good", contract, target=target))
    assert {(row["id"] % 3, row["answer"]) for row in rows} == {(0, 2), (1, 1), (2, 0)}
    with pytest.raises(UserError, match="not one of 'never', 'later', 'soon' in 40 rows"):
        build_small(small(tmp_path / "bad", contract, target=target.replace("soon", "now")))


def test_a_regression_label_is_a_float_and_must_be_finite(tmp_path):
    contract = CONTRACT.replace("task: binary", "task: regression")
    target = FILES["target.sql"].replace("answers.answer\n", "id / 4 as answer\n")
    rows = rows_of(small(tmp_path / "good", contract, target=target))
    assert all(row["answer"] == row["id"] / 4 for row in rows)
    with pytest.raises(UserError, match="not a finite number in 10 rows"):
        build_small(
            small(tmp_path / "bad", contract, target=target.replace("id / 4", "exp(id * 6.5)"))
        )


def test_a_boolean_label_and_whole_sums_are_cast(tmp_path):
    target = FILES["target.sql"].replace("answers.answer\n", "answers.answer = 1 as answer\n")
    sales = FILES["sales.sql"].replace("count(*) over", "sum(1) over")  # a HUGEINT
    project = small(tmp_path, target=target, sales=sales)
    table = pq.read_table(Path(build_small(project).location) / TRAINING_SET)
    assert table.schema.field("answer").type == pa.int64()
    assert table.schema.field("sales__orders").type == pa.int64()


def test_a_join_in_parts_is_the_join_in_one(tmp_path, monkeypatch):
    whole = rows_of(small(tmp_path / "one"))
    monkeypatch.setattr("feature_repo.training_set.ROWS_AT_ONCE", 7)
    assert rows_of(small(tmp_path / "two")) == whole


def test_facts_of_the_step_are_what_the_report_needs(real, tmp_path):
    from components.features.step import describe

    contract = real.project.contract
    facts = json.loads(
        json.dumps(describe(contract, contract.resolve_as_of(), real.training_set), allow_nan=False)
    )
    assert [month["month"] for month in facts["months"]] == [f"2013-{m:02}" for m in range(1, 13)]
    assert sum(month["rows"] for month in facts["months"]) == 327_181
    assert facts["windows"]["test"]["label_mean"] == pytest.approx(0.250, abs=0.001)
    assert facts["features"] == len(facts["null_share"]) == len(input_features(contract))
    shift = {item["feature"]: item["psi"] for item in facts["drift"]}
    assert shift["weather__temp"] > 0.2  # it is winter in the test window
    assert shift["scheduled_at.minute_of_day"] < 0.02
    assert all(math.isfinite(value) for value in shift.values())


def test_sources_and_features_may_lie_in_an_object_store(tmp_path, monkeypatch):
    project = small(tmp_path)
    local = build_small(project)
    monkeypatch.setenv("SLIPWAY_FEATURES_URI", "s3://shelf/features")
    with s3_server(monkeypatch, "shelf") as s3:
        sources = DataStore("s3://shelf/data")
        manifest, _ = sources.write(
            {
                file.stem: SourceData(pq.read_table(file), file.name)
                for file in (tmp_path / "data" / "v").iterdir()
            }
        )
        as_of = project.contract.resolve_as_of()
        remote = build(project, sources, manifest.id, as_of)
        again = build(project, sources, manifest.id, as_of)
        remote.fetch_training_set(tmp_path / "fetched.parquet")
        s3.delete_object(Bucket="shelf", Key=f"features/{remote.id}/{MANIFEST}")
        without_manifest = build(project, sources, manifest.id, as_of)
    assert remote.location == f"s3://shelf/features/{remote.id}"
    assert (remote.reused, again.reused, without_manifest.reused) == (False, True, False)
    expected = Path(local.location) / TRAINING_SET
    assert (tmp_path / "fetched.parquet").read_bytes() == expected.read_bytes()
