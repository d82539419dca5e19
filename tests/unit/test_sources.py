"""Values become what the contract says, or stay what they were; URIs keep their secrets."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.contract.model import Column, Source
from slipway.errors import UserError
from slipway.sources import public_uri, read_source
from slipway.sources.columns import conform, strangers
from slipway.sources.uris import parse_uri

NEW_YORK = "America/New_York"


def cast(values: list, kind: str, type_: pa.DataType | None = None, **column) -> pa.ChunkedArray:
    return conform(
        pa.chunked_array([pa.array(values, type_)]), Column(type=kind, **column), NEW_YORK
    )


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "texts", "values"),
    [
        ("int", ["1", None, "-2"], [1, None, -2]),
        ("int", [" 7", "8.0", "+9"], [7, 8, 9]),
        ("int", ["9007199254740993.0"], [9007199254740993]),
        ("float", ["1", "2.5", "1e3", "NaN", None], [1.0, 2.5, 1000.0, None, None]),
        ("bool", ["true", "False", "1", "0", None], [True, False, True, False, None]),
        ("string", ["1", "", None], ["1", "", None]),
        ("timestamp", ["2013-01-01T10:00:00Z"], [utc(2013, 1, 1, 10)]),
        ("timestamp", ["2013-01-01T05:00:00-05:00"], [utc(2013, 1, 1, 10)]),
        ("timestamp", ["2013-01-01", None], [utc(2013, 1, 1, 5), None]),
        ("timestamp", ["2013-07-01", "2013-07-01 05Z"], [utc(2013, 7, 1, 4), utc(2013, 7, 1, 5)]),
        ("timestamp", ["2013-01-01T10:00:00.1234567Z"], [utc(2013, 1, 1, 10, 0, 0, 123456)]),
        ("timestamp", ["2013-11-03 01:30"], [utc(2013, 11, 3, 5, 30)]),  # the clock shows it twice
        ("timestamp", ["2013-03-10 02:30"], [utc(2013, 3, 10, 7)]),  # the clock never shows it
    ],
)  # fmt: skip
def test_text_becomes_the_value_that_it_says(kind, texts, values):
    assert cast(texts, kind, pa.string()).to_pylist() == values


@pytest.mark.parametrize(
    ("kind", "texts", "strange"),
    [
        ("int", ["1", "2.5", "x"], ["2.5", "x"]),
        ("int", ["1", "99999999999999999999"], ["99999999999999999999"]),
        ("float", ["1", "1,5"], ["1,5"]),
        ("bool", ["true", "yes", "2"], ["yes", "2"]),
        ("timestamp", ["2013-02-28", "2013-02-29"], ["2013-02-29"]),
        ("timestamp", ["2013-01-01", "01/02/2013"], ["01/02/2013"]),
        ("timestamp", ["1357034400"], ["1357034400"]),
    ],
)
def test_a_column_with_a_stranger_stays_text_and_the_strangers_are_known(kind, texts, strange):
    column = Column(type=kind)
    kept = cast([*texts, None], kind, pa.string())
    assert kept.to_pylist() == [*texts, None]
    assert strangers(kept, column, NEW_YORK).to_pylist() == strange


def test_moments_in_a_format_of_their_own_are_read_by_it():
    found = cast(["05.07.2013 14:30"], "timestamp", format="%d.%m.%Y %H:%M")
    assert found.to_pylist() == [utc(2013, 7, 5, 18, 30)]
    kept = cast(["05.07.2013", "2013-07-05"], "timestamp", format="%d.%m.%Y")
    column = Column(type="timestamp", format="%d.%m.%Y")
    assert strangers(kept, column, NEW_YORK).to_pylist() == ["2013-07-05"]


@pytest.mark.parametrize(
    ("kind", "type_", "values", "expected"),
    [
        ("int", pa.float64(), [1.0, None], [1, None]),
        ("int", pa.decimal128(12, 2), [Decimal("5.00")], [5]),
        ("int", pa.uint8(), [7], [7]),
        ("int", pa.null(), [None], [None]),
        ("float", pa.int32(), [3], [3.0]),
        ("float", pa.float64(), [float("nan"), 1.0], [None, 1.0]),
        ("bool", pa.int64(), [0, 1, None], [False, True, None]),
        ("string", pa.int64(), [15], ["15"]),
        ("string", pa.large_string(), ["a"], ["a"]),
        ("timestamp", pa.date32(), [dt.date(2013, 1, 1)], [utc(2013, 1, 1, 5)]),
        ("timestamp", pa.timestamp("ns"), [dt.datetime(2013, 7, 1)], [utc(2013, 7, 1, 4)]),
        ("timestamp", pa.timestamp("s", "Asia/Tokyo"), [utc(2013, 7, 1)], [utc(2013, 7, 1)]),
        ("timestamp", pa.null(), [None], [None]),
    ],
)
def test_typed_values_keep_their_meaning(kind, type_, values, expected):
    assert cast(values, kind, type_).to_pylist() == expected


@pytest.mark.parametrize(
    ("kind", "type_", "values", "text"),
    [
        ("int", pa.float64(), [1.5], "1.5"),
        ("float", pa.int64(), [2**53 + 1], "9007199254740993"),
        ("bool", pa.int64(), [2], "2"),
        ("timestamp", pa.int64(), [1357034400], "1357034400"),
        ("int", pa.timestamp("us"), [dt.datetime(2013, 1, 1)], "2013-01-01 00:00:00.000000"),
    ],
)
def test_typed_values_are_never_bent_into_another_type(kind, type_, values, text):
    assert cast(values, kind, type_).to_pylist() == [text]


def test_nested_values_are_refused():
    with pytest.raises(TypeError, match="list"):
        cast([[1]], "int")


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_any_integer_survives_being_written_down(values):
    texts = [None if value is None else str(value) for value in values]
    assert cast(texts, "int", pa.string()).to_pylist() == values


@given(st.lists(st.sampled_from(["1", "2.0", "x", "", "3.5", "-4", "y z", None]), max_size=40))
def test_strangers_are_exactly_those_that_do_not_cast_alone(texts):
    column = Column(type="int")
    found = strangers(pa.chunked_array([pa.array(texts, pa.string())]), column, "UTC").to_pylist()
    alone = [
        t for t in dict.fromkeys(texts) if t is not None and cast([t], "int").type != pa.int64()
    ]
    assert found == alone


# --- URIs


def test_credentials_are_filled_in_and_never_shown(monkeypatch):
    monkeypatch.setenv("DB_USER", "shop")
    monkeypatch.setenv("DB_PASSWORD", "p@ss:w/rd")
    uri = parse_uri("postgresql://${DB_USER}:${DB_PASSWORD}@host:5432/db?sslmode=require")
    assert uri.full == "postgresql://shop:p%40ss%3Aw%2Frd@host:5432/db?sslmode=require"
    assert uri.public == "postgresql://${DB_USER}:${DB_PASSWORD}@host:5432/db?***"
    for leak in (uri.full, "password p@ss:w/rd", "p%40ss%3Aw%2Frd"):
        told = uri.conceal(leak)
        assert "p@ss" not in told
        assert "p%40ss" not in told


def test_a_password_in_the_contract_itself_is_masked():
    source = Source(
        uri="mysql://u:hunter2@h/db", query="select 1", columns={"a": Column(type="int")}
    )
    assert public_uri(source) == "mysql://u:***@h/db"
    assert parse_uri(source.uri).conceal("Access denied: hunter2") == "Access denied: ***"


def test_a_whole_uri_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FEED", "https://u:geheim@host/data.csv?sig=abc")
    uri = parse_uri("${FEED}")
    assert (uri.full, uri.public) == ("https://u:geheim@host/data.csv?sig=abc", "${FEED}")
    assert "geheim" not in uri.conceal("Could not resolve u:geheim@host")


def test_an_unset_variable_is_named():
    with pytest.raises(UserError, match="export SLIPWAY_NO_SUCH="):
        parse_uri("s3://${SLIPWAY_NO_SUCH}/a.csv")


# --- files


def read(folder: Path, text: str | bytes, **fields) -> pa.Table:
    (folder / "a.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    columns = fields.pop("columns", {"a": Column(type="int"), "b": Column(type="string")})
    return read_source("s", Source(uri="a.csv", columns=columns, **fields), folder, "UTC")


def test_csv_as_spreadsheets_write_it(tmp_path):
    table = read(tmp_path, b'\xef\xbb\xbfb,x,a\r\n"one, ""two""\nthree",1,7\r\n,2,\r\n')
    assert table.to_pydict() == {"a": [7, None], "b": ['one, "two"\nthree', None]}


def test_null_values_are_those_of_the_contract(tmp_path):
    assert read(tmp_path, "a,b\nNA,NA\n", null_values=("NA",))["b"].to_pylist() == [None]
    assert read(tmp_path, "a,b\n1,NA\n")["b"].to_pylist() == ["NA"]


def test_the_line_of_a_ragged_row_counts_line_breaks_inside_quotes(tmp_path):
    with pytest.raises(UserError, match="line 4 has 1 values where the header has 2"):
        read(tmp_path, 'a,b\n1,"x\ny"\n3\n')


def test_bytes_that_are_not_utf8_are_placed(tmp_path):
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        read(tmp_path, b"a,b\n1,\xff\n")


def test_an_unknown_kind_of_source_is_refused(tmp_path):
    source = Source(uri="ftp://host/a.csv", columns={"a": Column(type="int")})
    with pytest.raises(UserError, match="not a kind of source"):
        read_source("s", source, tmp_path, "UTC")
