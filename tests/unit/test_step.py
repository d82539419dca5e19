"""What every step does around its work."""

import json
from pathlib import Path

import pytest

from slipway import step as steps
from slipway.code import code_version
from slipway.errors import UserError
from slipway.files import read_json
from slipway.project import Project
from slipway.step import FAILURE, running

CONTRACT = Path(__file__).parents[2] / "project.yaml"
VERSION = Project.load(CONTRACT).version


def test_a_step_leaves_its_facts_and_where_its_time_went(tmp_path):
    with running("work", str(CONTRACT), VERSION, code_version(), str(tmp_path / "facts")) as step:
        with step.importing():
            pass
        step.facts["rows"] = 3
    record = read_json(tmp_path / "facts")
    assert record["facts"] == {"rows": 3}
    assert set(record["seconds"]) == {"startup", "imports", "work"}
    assert record["started"] <= record["ended"]


def test_a_mistake_ends_a_step_with_code_2_and_one_sentence(tmp_path, capsys, monkeypatch):
    reason = tmp_path / "termination-log"
    reason.touch()
    monkeypatch.setattr(steps, "TERMINATION_LOG", reason)

    def work():
        with running("work", str(CONTRACT), VERSION, code_version(), str(tmp_path / "facts")):
            raise UserError("the file is empty.", "Export it again.")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 2
    told = json.loads(capsys.readouterr().out.split(FAILURE)[1])
    assert told == {"step": "work", "message": "the file is empty. Export it again."}
    assert not (tmp_path / "facts").exists()
    assert json.loads(reason.read_text().removeprefix(FAILURE)) == told


def test_a_step_of_another_project_version_is_refused(tmp_path, capsys):
    def work():
        with running("work", str(CONTRACT), "0" * 16, code_version(), str(tmp_path / "facts")):
            pytest.fail("it ran all the same")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 2
    assert "Submit it again" in capsys.readouterr().out


def test_a_step_of_other_code_is_refused(tmp_path, capsys):
    def work():
        with running("work", str(CONTRACT), VERSION, "0" * 12, str(tmp_path / "facts")):
            pytest.fail("it ran all the same")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == 2
    assert "make images" in capsys.readouterr().out
