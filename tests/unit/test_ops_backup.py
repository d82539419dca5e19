"""Files of a backup are what was written, byte by byte, whatever their names end in."""

import io

import pytest

from ops.backup import _put, listed
from ops.dump import Server
from ops.restore import checked, fetch
from ops.stores import BUCKETS, Stores
from slipway.errors import UserError
from slipway.storage import locate
from tests.local.servers import s3_server


@pytest.mark.parametrize("name", ["a.sql.gz", "model.onnx", "deep/er/b.bz2"])
def test_what_is_put_comes_back_as_it_was(tmp_path, name):
    fact = _put(io.BytesIO(b"not packed at all"), locate(str(tmp_path)) / name)
    assert (tmp_path / name).read_bytes() == b"not packed at all"
    assert checked(locate(str(tmp_path)) / name, fact) == b"not packed at all"


def test_a_changed_file_is_refused(tmp_path):
    place = locate(str(tmp_path)) / "a.sql.gz"
    fact = _put(io.BytesIO(b"right"), place)
    (tmp_path / "a.sql.gz").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.sql\.gz is damaged"):
        checked(place, fact)


def test_a_manifest_does_not_choose_where_its_files_are_put(tmp_path):
    place = locate(str(tmp_path / "backup"))
    names = ["databases/mlflow.sql.gz", "online/../../outside/shop.jsonl.gz", "models/age.json"]
    files = {name: _put(io.BytesIO(name.encode()), place / name) for name in names}
    scratch = tmp_path / "restore" / "scratch"
    scratch.mkdir(parents=True)
    fetch(place, files, scratch)
    found = {str(file.relative_to(scratch)) for file in scratch.rglob("*") if file.is_file()}
    assert found == {"databases/mlflow.sql.gz", "online/shop.jsonl.gz"}
    assert not (tmp_path / "restore" / "outside").exists()
    assert (scratch / "online" / "shop.jsonl.gz").read_bytes() == names[1].encode()


def test_a_bucket_that_is_missing_is_no_silent_gap(monkeypatch):
    with s3_server(monkeypatch, *BUCKETS) as client:
        client.put_object(Bucket="slipway", Key="data/a.parquet", Body=b"12345")
        store = locate("s3://slipway").filesystem
        there = Stores(Server("", 0, "", ""), store, None)
        assert list(listed(there)) == [("slipway/data/a.parquet", 5)]
        client.delete_bucket(Bucket="payloads")
        with pytest.raises(OSError, match="payloads"):
            list(listed(there))
