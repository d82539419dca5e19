"""Corrupted data stops the run before training, and the message names column, rule and count."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from events_project import HEADER, ROWS, csv_text, event_rows, make_project, make_step

from components.ingest.step import ingest
from components.validate.step import validate
from slipway.data import DataStore
from slipway.errors import UserError
from slipway.files import write_json
from slipway.project import Project

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.local


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SLIPWAY_DATA_URI", raising=False)


def check(folder: Path, rows: list[list[str]], header: list[str] | None = None) -> dict:
    """The facts of the gate over these rows."""
    project = make_project(folder)
    (folder / "events.csv").write_text(csv_text(rows, header))
    step = make_step(project, "validate")
    version = ingest(make_step(project))
    assert validate(step, version, folder / "docs.html") == version
    write_json(folder / "facts.json", step.facts)  # refuses NaN and whatever is no JSON
    return step.facts


def test_sound_data_passes_and_is_profiled(tmp_path):
    facts = check(tmp_path, event_rows())
    assert facts["passed"] is True
    assert facts["failures"] == []
    assert facts["checks"] == 24
    profile = {column["column"]: column for column in facts["profile"]}
    assert profile["items"]["nulls"] == 0.05
    assert (profile["id"]["min"], profile["id"]["max"], profile["id"]["mean"]) == (0, 199, 99.5)
    assert profile["at"]["min"] == "2024-01-01T08:00:00Z"
    assert profile["kind"]["distinct"] == 2


def spoil(column: str, changes: dict[int, str]) -> list[list[str]]:
    rows = event_rows()
    for at, value in changes.items():
        rows[at][HEADER.index(column)] = value
    return rows


def swapped(first: int, second: int) -> list[list[str]]:
    rows = event_rows()
    rows[first], rows[second] = rows[second], rows[first]
    return rows


CORRUPTIONS = {
    "an integer that is text": (
        spoil("id", {5: "five", 6: "six", 7: "6.5"}),
        "events.id breaks `type`: 3 of 200 rows (1.5 %) are not of type int, "
        "for example five; six; 6.5",
    ),
    "a number that is text": (
        spoil("amount", {5: '"12,50"', 9: "n/a"}),
        "events.amount breaks `type`: 2 of 200 rows (1 %) are not of type float, "
        "for example 12,50; n/a",
    ),
    "a truth that is text": (
        spoil("done", {1: "perhaps"}),
        "events.done breaks `type`: 1 of 200 rows (0.5 %) are not of type bool, "
        "for example perhaps",
    ),
    "days that do not exist": (
        spoil("at", {20: "2024-02-30T08:00:00Z", 21: "yesterday"}),
        "events.at breaks `type`: 2 of 200 rows (1 %) are not of type timestamp, "
        "for example 2024-02-30T08:00:00Z; yesterday",
    ),
    "nulls": (
        spoil("amount", dict.fromkeys(range(50), "")),
        "events.amount breaks `nulls`: 50 of 200 rows (25 %) are null, where 0 % may be",
    ),
    "nulls of a text": (
        spoil("kind", {3: ""}),
        "events.kind breaks `nulls`: 1 of 200 rows (0.5 %) are null, where 0 % may be",
    ),
    "a number out of range": (
        spoil("amount", {9: "-3", 10: "1e9"}),
        "events.amount breaks `range`: 2 of 200 rows (1 %) are outside 0..1000, "
        "for example -3.0; 1000000000.0",
    ),
    "a moment out of range, in the project's time zone": (
        # New York's year begins five hours after this.
        spoil("at", {0: "2024-01-01T04:59:59Z"}),
        "events.at breaks `range`: 1 of 200 rows (0.5 %) are outside "
        "2024-01-01T00:00:00..2024-12-31T00:00:00, for example 2024-01-01T04:59:59Z",
    ),
    "a value that is not allowed": (
        spoil("kind", {2: "broken", 7: "lost"}),
        "events.kind breaks `values`: 2 of 200 rows (1 %) are none of new, used, "
        "for example broken; lost",
    ),
    "a duplicate key": (
        [*event_rows(), [*event_rows()[-1][:2], *event_rows()[0][2:]]],
        "events.id breaks `key`: 2 of 201 rows (0.995 %) share their key with another, "
        "for example 199",
    ),
    "time disorder": (
        swapped(30, 90),
        "events.at, id breaks `ordered_by`: 2 of 200 rows (1 %) come out of order, for example "
        "(2024-02-04T08:00:00Z, 31) after (2024-04-07T08:00:00Z, 90); "
        "(2024-02-03T08:00:00Z, 30) after (2024-04-06T08:00:00Z, 89)",
    ),
    "disorder within equal times": (
        [
            *event_rows()[:40],
            ["41", "2024-02-14T08:00:00Z", *event_rows()[41][2:]],
            ["40", "2024-02-14T08:00:00Z", *event_rows()[40][2:]],
            *event_rows()[42:],
        ],
        "events.at, id breaks `ordered_by`: 1 of 200 rows (0.5 %) come out of order, for example "
        "(2024-02-14T08:00:00Z, 40) after (2024-02-14T08:00:00Z, 41)",
    ),
    "too few rows": (
        event_rows(60),
        "events breaks `min_rows`: 60 rows, where at least 100 must come",
    ),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_corrupted_values_stop_the_run(tmp_path, what):
    rows, told = CORRUPTIONS[what]
    with pytest.raises(UserError) as caught:
        check(tmp_path, rows)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert told in lines
    assert len(lines) == 3, "one corruption, one line"
    assert str(tmp_path / "docs.html") in lines[-1]
    assert "✗" in (tmp_path / "docs.html").read_text()


def test_a_missing_column_stops_the_run(tmp_path):
    rows = [[*row[:2], *row[3:]] for row in event_rows()]
    with pytest.raises(UserError) as caught:
        check(tmp_path, rows, [*HEADER[:2], *HEADER[3:]])
    told = "events.amount breaks `exists`: the column is missing in all 200 rows"
    assert told in str(caught.value)


def test_a_key_of_several_columns_is_checked_as_one(tmp_path):
    project = make_project(tmp_path)
    contract = project.path.read_text().replace(
        "key: [id]\n    ordered", "key: [kind, id]\n    ordered"
    )
    project.path.write_text(contract)
    rows = [*event_rows(), event_rows()[-1]]
    (tmp_path / "events.csv").write_text(csv_text(rows))
    project = Project.load(project.path)
    with pytest.raises(UserError, match="share their key") as caught:
        validate(make_step(project), ingest(make_step(project)), tmp_path / "docs.html")
    assert "for example kind new, id 199" in str(caught.value)


def test_every_broken_rule_is_told_at_once(tmp_path):
    rows = spoil("amount", {9: "-3"})
    rows[5][HEADER.index("id")] = "five"
    rows[6][HEADER.index("kind")] = "broken"
    with pytest.raises(UserError) as caught:
        check(tmp_path, rows)
    assert re.findall(r"breaks `(\w+)`", str(caught.value)) == ["type", "range", "values"]


def test_a_warning_is_told_and_does_not_stop_the_run(tmp_path, capsys):
    facts = check(tmp_path, spoil("items", {1: "0", 2: "-5"}))
    (failure,) = facts["failures"]
    assert failure == {
        "source": "events",
        "column": "items",
        "rule": "range",
        "severity": "warning",
        "failed": 2,
        "rows": ROWS,
        "share": 0.01,
        "examples": [0.0, -5.0],
        "message": "events.items breaks `range`: 2 of 200 rows (1 %) are outside 1.., "
        "for example 0.0; -5.0",
    }
    assert f"warning: {failure['message']}" in capsys.readouterr().out


def test_the_type_of_a_warning_column_is_critical_all_the_same(tmp_path):
    with pytest.raises(UserError, match=r"events\.items breaks `type`: 1 of 200 rows"):
        check(tmp_path, spoil("items", {1: "many"}))


def test_an_unknown_data_version_is_refused(tmp_path):
    with pytest.raises(UserError, match="no data version 'ffff'"):
        validate(make_step(make_project(tmp_path)), "ffff", tmp_path / "docs.html")


def test_a_data_version_of_another_contract_is_refused(tmp_path):
    project = make_project(tmp_path)
    (tmp_path / "events.csv").write_text(csv_text(event_rows()))
    version = ingest(make_step(project))
    changed = project.path.read_text().replace("items: {type: int", "items: {type: float")
    project.path.write_text(changed)
    with pytest.raises(UserError, match="made with another contract"):
        validate(make_step(Project.load(project.path)), version, tmp_path / "docs.html")


def test_the_data_docs_need_no_network_and_keep_markup_out(tmp_path):
    hostile = "<script>alert(1)</script>"
    with pytest.raises(UserError):
        check(tmp_path, spoil("kind", {2: hostile}))
    page = (tmp_path / "docs.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert not re.findall(r"https?://|url\(|@import", page)
    assert hostile not in page
    assert "&lt;script&gt;alert" in page


def test_the_reference_data_pass_with_the_one_warning_they_deserve(tmp_path):
    """The weather has one real blunder: a wind of 1,048 miles an hour."""
    project = Project.load(ROOT / "project.yaml")
    step = make_step(project, "validate")
    version = ingest(make_step(project))
    validate(step, version, tmp_path / "docs.html")
    (failure,) = step.facts["failures"]
    assert (failure["source"], failure["column"]) == ("weather", "wind_speed")
    assert (failure["failed"], failure["examples"]) == (1, [1048.36058])
    stored = DataStore(project.home.data_uri).manifest(version)
    columns = sum(len(source.columns) for source in stored.sources)
    assert len(step.facts["profile"]) == columns == 35
