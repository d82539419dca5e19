"""A path is a place, wherever it points, and what cannot be reached says so."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
from pyarrow.fs import GcsFileSystem, LocalFileSystem, S3FileSystem

from slipway.errors import UserError
from slipway.storage import explained, locate


def test_relative_paths_start_at_the_project_and_absolute_ones_do_not(tmp_path):
    assert locate("data/a.csv", tmp_path).path == str(tmp_path / "data/a.csv")
    assert locate("/srv/a.csv", tmp_path).path == "/srv/a.csv"
    assert locate("file:///srv/a%20b.csv", tmp_path).path == "/srv/a b.csv"
    assert isinstance(locate("a.csv").filesystem, LocalFileSystem)
    assert locate("a.csv").local == Path.cwd() / "a.csv"


def test_object_stores_are_reached_without_a_scheme_in_the_path(monkeypatch):
    """Parsing alone; tests/local reads and writes through both, as far as servers run there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    s3, gs = locate("s3://bucket/a b/c.csv?d#e/"), locate("gs://bucket/a")
    assert (s3.path, s3.local, type(s3.filesystem)) == ("bucket/a b/c.csv?d#e", None, S3FileSystem)
    assert s3.filesystem.region == "eu-central-1"
    assert (gs.path, gs.local, type(gs.filesystem)) == ("bucket/a", None, GcsFileSystem)
    assert (gs / "x.json").uri == "gs://bucket/a/x.json"


@pytest.mark.parametrize("uri", ["ftp://host/a", "s3:///a"])
def test_a_place_that_cannot_be_is_refused(uri):
    with pytest.raises(UserError):
        locate(uri)


def test_an_object_store_that_is_gone_is_an_error_and_not_an_empty_store(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(UserError, match="cannot be read"):
        locate("s3://bucket/a").exists()


def test_only_whole_folders_are_found(tmp_path):
    for name in ("b/m.json", "a/m.json", ".a.tmp/m.json", "c/other", "d/e/m.json", "m.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert locate(str(tmp_path)).folders_with("m.json") == ["a", "b"]
    assert locate(str(tmp_path / "none")).folders_with("m.json") == []
    assert locate(str(tmp_path / "m.json")).size() == 2
    assert locate(str(tmp_path / "none")).size() is None


def test_a_file_is_written_whole_and_found_among_its_like(tmp_path):
    folder = locate(str(tmp_path / "new" / "folder"))
    assert folder.files(".json") == []
    (folder / "b.json").write_text("1")
    (folder / "b.json").write_text("2")
    (folder / "a.json").write_text("ä")
    for name in (".hidden.json", "c.txt", "d.json/e.json"):
        (folder / name).write_text("")
    assert [file.uri for file in folder.files(".json")] == [
        str(tmp_path / "new" / "folder" / name) for name in ("a.json", "b.json")
    ]
    assert [file.read_bytes().decode() for file in folder.files(".json")] == ["ä", "2"]


def test_bytes_are_read_as_they_are_whatever_the_name_says(tmp_path):
    for content in (b"not packed", gzip.compress(b"packed")):
        (tmp_path / "a.gz").write_bytes(content)
        assert locate(str(tmp_path / "a.gz")).read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x\.json: cannot be written"):
        locate(str(tmp_path / "file" / "x.json")).write_text("{}")


def test_how_long_an_object_store_is_tried_is_the_environment_s(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    seconds = []
    for attempts in ("1", "4"):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
        started = time.monotonic()
        with pytest.raises(UserError, match="cannot be read"):
            locate("s3://bucket/a").exists()
        seconds.append(time.monotonic() - started)
    assert seconds[1] > seconds[0]


def test_a_refusal_of_the_system_is_one_sentence():
    with (
        pytest.raises(UserError, match=r"x: cannot be written \(no space\)"),
        explained("x", "written"),
    ):
        raise OSError("no space")
