"""`ops buckets` on an S3 server: what is missing is made, once."""

import socket

import pytest

from ops.__main__ import main
from tests.local.servers import s3_server


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch) as client:
        yield client


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_missing_buckets_are_made_and_others_kept(s3, region, monkeypatch, capsys):
    monkeypatch.setenv("AWS_REGION", region)
    s3.create_bucket(Bucket="mlflow")
    s3.put_object(Bucket="mlflow", Key="model", Body=b"kept")
    for made in (2, 0):
        assert main(["buckets", "--seconds", "10", "mlflow", "slipway", "backups"]) == 0
        assert capsys.readouterr().out.count(": made") == made
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert there == {"mlflow", "slipway", "backups"}
    assert s3.get_object(Bucket="mlflow", Key="model")["Body"].read() == b"kept"


def test_an_s3_that_never_comes_is_waited_for_and_named(s3, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert main(["buckets", "--seconds", "1", "slipway"]) == 1
    assert "gave up after 1 s: s3://slipway (Could not connect" in capsys.readouterr().out


def test_a_name_that_no_s3_takes_is_refused(s3, capsys):
    assert main(["buckets", "Slipway_Data"]) == 2
    assert "is no name for a bucket" in capsys.readouterr().err


def test_missing_keys_are_a_sentence(s3, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert main(["buckets", "--seconds", "5", "slipway"]) == 2
    assert "Set AWS_ACCESS_KEY_ID" in capsys.readouterr().err
