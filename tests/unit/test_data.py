"""Versions are made of content alone, whole or absent, and a diff says what changed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.cli._options import Group, json_option
from slipway.cli.data import data as command
from slipway.data import DataStore, SourceData
from slipway.diff import diff_tables
from slipway.errors import UserError
from slipway.fingerprint import fingerprint
from slipway.profile import profile

MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [("id", pa.int64()), ("x", pa.float64()), ("t", pa.string()), ("b", pa.bool_()), ("m", MOMENT)]
)
ROWS = [
    {
        "id": at,
        "x": at / 2,
        "t": "ä" * at,
        "b": at % 2 == 0,
        "m": datetime(2024, 1, 1 + at, tzinfo=UTC),
    }
    for at in range(9)
] + [{"id": 9, "x": None, "t": None, "b": None, "m": None}]


def make(rows: list[dict], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(rows, schema)


def stored(store: DataStore, rows: list[dict], **fields) -> str:
    content = SourceData(make(rows), **{"uri": "a.csv", "key": ("id",)} | fields)
    return store.write({"events": content})[0].id


@pytest.fixture
def store(tmp_path) -> DataStore:
    return DataStore(str(tmp_path / "data"))


# --- identity


def test_the_fingerprint_does_not_see_how_arrow_holds_the_rows():
    table = make(ROWS)
    whole = fingerprint(table)
    assert fingerprint(pa.concat_tables([table.slice(at, 3) for at in range(0, 10, 3)])) == whole
    assert fingerprint(pa.concat_tables([table, table]).slice(10)) == whole
    # Different bytes under the nulls.
    hidden = pa.array([at / 2 for at in range(9)] + [77.0])
    masked = pa.compute.if_else(
        pa.array([True] * 9 + [False]), hidden, pa.scalar(None, pa.float64())
    )
    assert fingerprint(table.set_column(1, "x", masked)) == whole


def test_the_fingerprint_is_the_one_of_earlier_releases():
    """A change here makes every stored version a stranger: think twice before you mend this."""
    assert fingerprint(make(ROWS)) == (
        "67a77571e829443815a2da79839f5c25cc048e8ea8e8fcc3866d5de46bebb8ec"
    )


CHANGES = {
    "a value": lambda t: make([ROWS[0] | {"x": 7.0}, *ROWS[1:]]),
    "a null": lambda t: make([ROWS[0] | {"x": None}, *ROWS[1:]]),
    "an empty text instead of a null": lambda t: make([*ROWS[:9], ROWS[9] | {"t": ""}]),
    "zero instead of null": lambda t: make([*ROWS[:9], ROWS[9] | {"x": 0.0}]),
    "texts cut elsewhere": lambda t: make(
        [ROWS[0], ROWS[1] | {"t": "ää"}, ROWS[2] | {"t": "ä"}, *ROWS[3:]]
    ),
    "the order of the rows": lambda t: make(ROWS[::-1]),
    "a column's name": lambda t: t.rename_columns(["id", "y", "t", "b", "m"]),
    "a column's type": lambda t: t.set_column(0, "id", t["id"].cast(pa.float64())),
    "a row more": lambda t: make([*ROWS, ROWS[0]]),
    "a column less": lambda t: t.drop_columns(["b"]),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_sees(what):
    table = make(ROWS)
    assert fingerprint(CHANGES[what](table)) != fingerprint(table)


# --- the store


def test_a_version_is_stored_once_and_keeps_its_first_story(store, tmp_path):
    first, reused = store.write({"events": SourceData(make(ROWS), "a.csv", ("id",))})
    again, reused_again = store.write({"events": SourceData(make(ROWS), "moved.csv", ("id",))})
    assert (reused, reused_again) == (False, True)
    assert again == first == store.manifest(first.id)
    assert [manifest.id for manifest in store.list()] == [first.id]
    source = first.source("events")
    assert (source.rows, source.uri, source.key) == (10, "a.csv", ("id",))
    assert [(c.name, c.type, c.nulls) for c in source.columns] == [
        ("id", "int", 0),
        ("x", "float", 1),
        ("t", "string", 1),
        ("b", "bool", 1),
        ("m", "timestamp", 1),
    ]
    assert store.table(first.id, "events").equals(make(ROWS))
    assert store.table(first.id, "events", ["t", "id"]).column_names == ["t", "id"]
    assert store.dataset(first.id, "events").to_table().equals(make(ROWS))
    assert pq.read_table(store.location(first.id, "events")).equals(make(ROWS))


def test_an_error_while_writing_leaves_no_trace(store, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("slipway.data.write_json", full)
    with pytest.raises(UserError, match="cannot be written"):
        stored(store, ROWS)
    monkeypatch.undo()
    assert store.list() == []
    assert list(store.base.local.iterdir()) == []
    assert stored(store, ROWS) == store.list()[0].id


def test_a_version_that_was_damaged_since_is_not_reused(store):
    version = stored(store, ROWS)
    file = store.base.local / version / "events.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        stored(store, ROWS)


def test_versions_are_found_by_the_beginning_of_their_id(store):
    with pytest.raises(UserError, match="no data version 'latest'"):
        store.find("latest")
    first, second = stored(store, ROWS), stored(store, ROWS[:5])
    assert store.find(first[:6]).id == first
    assert store.find("latest").id == second
    with pytest.raises(UserError, match="no data version 'zz'"):
        store.find("zz")
    with pytest.raises(UserError, match="has no source 'other'"):
        store.location(first, "other")


def test_an_id_that_could_be_two_is_refused(store):
    ids = [stored(store, [ROWS[0] | {"id": at}]) for at in range(17)]  # of 16 first digits
    double = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
    with pytest.raises(UserError, match="could be any of"):
        store.find(double)


# --- diff


def test_a_diff_counts_rows_by_their_key_and_shows_what_moved(store):
    changed = [ROWS[1] | {"x": 100.0}, *ROWS[2:], ROWS[0] | {"id": 50}]
    found = store.diff(stored(store, ROWS), stored(store, changed)).sources["events"]
    assert (found.rows, found.added, found.removed, found.changed) == ((10, 10), 1, 1, 1)
    columns = {column.column: column for column in found.columns}
    assert set(columns) == {"id", "x"}
    assert columns["x"].cells == 1
    assert columns["x"].max == (4.0, 100.0)
    assert store.diff(stored(store, ROWS), stored(store, ROWS)).sources == {"events": None}


def test_a_diff_shows_the_schema(store):
    old = make(ROWS)
    new = old.set_column(1, "x", old["x"].cast(pa.string())).drop_columns(["b"])
    new = new.append_column("extra", old["id"])
    found = diff_tables(old, new, ["id"])
    assert (found.columns_added, found.columns_removed) == (("extra",), ("b",))
    assert found.types == (("x", "float", "string"),)
    assert (found.added, found.removed) == (0, 0)


def test_without_a_usable_key_whole_rows_are_compared():
    old, new = make([*ROWS, ROWS[0]]), make([*ROWS[1:], ROWS[0] | {"x": 9.0}])
    for key in ((), ("id",), ("none",)):
        found = diff_tables(old, new, key)
        assert (found.key, found.added, found.removed, found.changed) == ((), 1, 2, None)


keys = st.one_of(st.none(), st.integers(0, 6))
sides = st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 2)))


@settings(max_examples=50)
@given(sides, sides)
def test_a_diff_agrees_with_counting_by_hand(old, new):
    def table(side: dict) -> pa.Table:
        return make([{"id": key, "x": value} for key, value in side.items()], SCHEMA)

    both = old.keys() & new.keys()
    found = diff_tables(table(old), table(new), ["id"])
    assert found.added == len(new.keys() - old.keys())
    assert found.removed == len(old.keys() - new.keys())
    assert found.changed == sum(old[key] != new[key] for key in both)
    whole = diff_tables(table(old), table(new))
    left, right = Counter(old.items()), Counter(new.items())
    assert (whole.added, whole.removed) == ((right - left).total(), (left - right).total())


def test_a_profile_is_json_whatever_the_column_holds():
    table = pa.table({"x": [float("inf"), 1.0], "n": pa.array([None, None], pa.int64())})
    x, n = profile(table)
    assert json.dumps([x, n], allow_nan=False)
    assert (x["min"], x["max"]) == (1.0, None)
    assert (n["nulls"], n["min"], n["mean"], n["distinct"]) == (1.0, None, None, 0)
    assert profile(make(ROWS))[4]["max"] == "2024-01-09T00:00:00Z"


# --- the command


@pytest.fixture
def project(tmp_path, monkeypatch) -> list[str]:
    from pathlib import Path

    minimal = Path(__file__).parents[1] / "contract" / "minimal.yaml"
    (tmp_path / "project.yaml").write_text(minimal.read_text())
    for name in ("facts", "recent", "target"):
        (tmp_path / f"{name}.sql").write_text("select 1\n")
    monkeypatch.setenv("SLIPWAY_DATA_URI", str(tmp_path / "data"))
    return ["--project", str(tmp_path / "project.yaml")]


def test_the_command_lists_shows_and_compares(store, project):
    run = CliRunner().invoke
    assert "holds no data version yet" in run(command, ["list", *project]).output
    old, new = stored(store, ROWS), stored(store, ROWS[:5])
    listed = run(command, ["list", *project]).output
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [old, new]
    parsed = json.loads(run(command, ["list", "--json", *project]).output)
    assert [manifest["id"] for manifest in parsed] == [old, new]
    assert "from a.csv" in run(command, ["show", old[:8], *project]).output
    assert json.loads(run(command, ["show", "--json", *project]).output)["id"] == new
    compared = run(command, ["diff", old, *project])
    assert compared.exit_code == 0
    assert "10 -> 5 rows: 0 added, 5 removed, 0 changed (by id)" in compared.output
    parsed = json.loads(run(command, ["diff", old, new, "--json", *project]).output)
    assert parsed["sources"]["events"]["removed"] == 5


def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(project, tmp_path):
    run = CliRunner().invoke
    result = run(command, ["show", "none", *project])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no data version 'none'" in result.stderr
    result = run(command, ["list", "--project", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "no such contract" in result.stderr
    result = run(command, ["list"], env={"PROJECT": str(tmp_path / "other.yaml")})
    assert "other.yaml" in result.stderr


def test_a_fault_of_ours_is_not_dressed_up_as_a_mistake():
    import click

    @click.group(cls=Group)
    def main() -> None: ...

    @main.command()
    @json_option
    def breaks(as_json: bool) -> None:
        raise RuntimeError("ours")

    result = CliRunner().invoke(main, ["breaks"])
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)
