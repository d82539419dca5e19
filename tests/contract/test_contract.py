"""A wrong contract is refused with file, line, field and fix; a right one is read as written."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from slipway.contract import ContractError, load_contract, parse_contract
from slipway.errors import UserError
from slipway.project import Project

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXPECTED = yaml.safe_load((HERE / "bad" / "expected.yaml").read_text())
MINIMAL = (HERE / "minimal.yaml").read_text()


def test_every_must_fail_contract_has_an_expectation():
    assert {path.stem for path in (HERE / "bad").glob("*.yaml")} - {"expected"} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_wrong_contract_names_file_line_field_and_fix(name):
    path = HERE / "bad" / f"{name}.yaml"
    expected = EXPECTED[name]
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    line = f"{path}:{expected['line']}: {expected['field']}: "
    assert f"{line}{expected['message']}; {expected['fix']}" in str(caught.value).splitlines()


def test_all_mistakes_are_told_at_once():
    text = MINIMAL.replace("ttl: 6h", "ttl: soon").replace("task: binary", "task: guess")
    with pytest.raises(ContractError) as caught:
        parse_contract(text)
    assert [problem.path[-1] for _, problem in caught.value.problems] == ["ttl", "task"]


def test_a_missing_contract_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no such contract"):
        load_contract(tmp_path / "project.yaml")


def test_a_binary_file_is_refused_without_a_traceback(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        load_contract(path)


def test_a_missing_sql_file_is_named(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(UserError, match=r"facts\.sql does not exist"):
        Project.load(path)


def test_an_edited_sql_file_is_another_project_version(tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text(MINIMAL)
    for name in ("facts.sql", "recent.sql", "target.sql"):
        (tmp_path / name).write_text("select 1")
    before = Project.load(path).version
    (tmp_path / "recent.sql").write_text("select 2")
    assert Project.load(path).version != before


@pytest.mark.parametrize(
    "path",
    ["project.yaml", "examples/gapminder/project.yaml", "examples/seattle-weather/project.yaml"],
)
def test_the_projects_of_this_repository_are_valid(path):
    assert Project.load(ROOT / path).contract.name


def test_a_contract_cannot_be_changed_behind_a_step():
    contract = parse_contract(MINIMAL)
    with pytest.raises(ValidationError):
        contract.name = "other"


def test_windows_are_calendar_months_of_the_projects_time_zone():
    contract = load_contract(ROOT / "project.yaml")
    windows = contract.windows(contract.resolve_as_of())
    assert windows == {
        "train": (datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 10, 1, 4, tzinfo=UTC)),
        "validate": (datetime(2013, 10, 1, 4, tzinfo=UTC), datetime(2013, 11, 1, 4, tzinfo=UTC)),
        "test": (datetime(2013, 11, 1, 4, tzinfo=UTC), datetime(2014, 1, 1, 5, tzinfo=UTC)),
    }


def test_a_given_as_of_moves_every_window():
    contract = load_contract(ROOT / "project.yaml")
    windows = contract.windows(contract.resolve_as_of("2013-12-01"))
    assert windows["test"][1] == datetime(2013, 12, 1, 5, tzinfo=UTC)
    assert windows["validate"][0] == datetime(2013, 9, 1, 4, tzinfo=UTC)


def test_without_as_of_a_run_ends_now():
    moment = parse_contract(MINIMAL).resolve_as_of()
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_a_span_back_from_the_end_of_a_long_month_stays_in_the_shorter_one():
    contract = parse_contract(MINIMAL.replace("test: 2 months", "test: 1 month"))
    windows = contract.windows(datetime(2024, 3, 31, tzinfo=UTC))
    assert windows["test"][0] == datetime(2024, 2, 29, tzinfo=UTC)
