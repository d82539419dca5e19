"""Files of a backup are what was written, byte by byte, whatever their names end in."""

import io

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from ops.backup import _put, listed
from ops.dump import Server
from ops.restore import checked
from ops.stores import BUCKETS, Stores
from slipway.errors import UserError
from slipway.storage import locate


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


def test_a_bucket_that_is_missing_is_no_silent_gap():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        s3 = S3FileSystem(
            access_key="a",
            secret_key="b",
            endpoint_override=f"http://{host}:{port}",
            region="us-east-1",
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
        )
        for bucket in BUCKETS:
            s3.create_dir(bucket)
        with s3.open_output_stream("slipway/data/a.parquet", compression=None) as file:
            file.write(b"12345")
        there = Stores(Server("", 0, "", ""), s3)
        assert list(listed(there)) == [("slipway/data/a.parquet", 5)]
        s3.delete_dir("payloads")
        with pytest.raises(OSError, match="payloads"):
            list(listed(there))
    finally:
        server.stop()
