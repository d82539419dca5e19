"""A killed process leaves whole files or none."""

import json

import pytest

from slipway.files import new_folder, read_json, write_json, write_text


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rubbish(tmp_path):
    path = tmp_path / "facts.json"
    write_json(path, {"rows": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"rows": float("nan")})
    assert read_json(path) == {"rows": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["facts.json"]


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "version"

    def interrupted():
        with new_folder(target) as folder:
            write_text(folder / "half", "x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_of_the_same_content_both_succeed(tmp_path):
    target = tmp_path / "version"
    with new_folder(target) as first:
        write_text(first / "data", "same")
        with new_folder(target) as second:
            write_text(second / "data", "same")
    assert (target / "data").read_text() == "same"
    assert [item.name for item in tmp_path.iterdir()] == ["version"]


def test_json_is_readable_by_everyone(tmp_path):
    write_json(tmp_path / "a.json", {"a": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None}
