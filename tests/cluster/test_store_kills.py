"""A store that is killed comes back by itself, with everything that it had said yes to."""

import base64
import secrets
import threading
import time
from contextlib import contextmanager

import boto3
import pymysql
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.cluster import ClusterError, wait
from tests.cluster.sigkill import sigkill

BUCKET = "backups"


@pytest.fixture(scope="module")
def password(cluster):
    def password(name, key):
        found = cluster.one("secret", name, "storage")
        if not found:
            pytest.skip("the stores are not here: install charts/foundation and charts/storage")
        return base64.b64decode(found["data"][key]).decode()

    return password


class Database:
    """Numbers in a table."""

    name, port = "mariadb", 3306
    lost = (pymysql.err.Error,)

    def __init__(self, password):
        self.password = password("mariadb", "root-password")

    @contextmanager
    def opened(self, address):
        host, port = address.split(":")
        connection = pymysql.connect(
            host=host, port=int(port), user="root", password=self.password,
            database="feast", autocommit=True, connect_timeout=5, read_timeout=10,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS slipway_test (n INT PRIMARY KEY)")
            yield cursor

    def write(self, cursor, number):
        cursor.execute("INSERT INTO slipway_test VALUES (%s)", [number])

    def read(self, cursor):
        cursor.execute("SELECT n FROM slipway_test")
        return {row[0] for row in cursor.fetchall()}

    def clean(self, cursor):
        cursor.execute("DROP TABLE slipway_test")


class OnlineStore:
    """Numbers in a hash."""

    name, port = "valkey", 6379
    lost = (redis.RedisError,)

    def __init__(self, password):
        self.password = password("valkey", "password")
        self.key = f"test:{secrets.token_hex(3)}"

    @contextmanager
    def opened(self, address):
        host, port = address.split(":")
        once = Retry(NoBackoff(), 0)  # else it writes on as soon as the store is back
        with redis.Redis(
            host, int(port), password=self.password, socket_timeout=10, retry=once
        ) as client:
            yield client

    def write(self, client, number):
        client.hset(self.key, str(number), "1")

    def read(self, client):
        return {int(number) for number in client.hkeys(self.key)}

    def clean(self, client):
        client.delete(self.key)


class ObjectStore:
    """Numbers as objects."""

    name, port = "seaweedfs", 9000
    lost = (BotoCoreError, ClientError)

    def __init__(self, password):
        self.keys = {
            "aws_access_key_id": password("s3", "accesskey"),
            "aws_secret_access_key": password("s3", "secretkey"),
        }
        self.prefix = f"test-{secrets.token_hex(3)}/"

    @contextmanager
    def opened(self, address):
        yield boto3.client(
            "s3", endpoint_url=f"http://{address}", region_name="us-east-1", **self.keys,
            config=Config(retries={"max_attempts": 0}, read_timeout=10),
        )  # fmt: skip

    def write(self, client, number):
        client.put_object(Bucket=BUCKET, Key=f"{self.prefix}{number}", Body=b"%d" % number * 999)

    def read(self, client):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=self.prefix)
        numbers = {
            int(found["Key"].removeprefix(self.prefix))
            for page in pages
            for found in page.get("Contents", [])
        }
        for number in numbers:
            body = client.get_object(Bucket=BUCKET, Key=f"{self.prefix}{number}")["Body"].read()
            assert body == b"%d" % number * 999
        return numbers

    def clean(self, client):
        for number in self.read(client):
            client.delete_object(Bucket=BUCKET, Key=f"{self.prefix}{number}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Database, OnlineStore, ObjectStore])
def test_a_killed_store_comes_back_with_all_that_it_confirmed(cluster, password, kind):
    store = kind(password)
    restarts = pod(cluster, store)["restartCount"]
    confirmed: list[tuple[float, int]] = []
    failed = threading.Event()

    def writes():
        """Numbers, until the store is gone."""
        with cluster.forward("storage", store.name, store.port) as address:
            try:
                with store.opened(address) as client:
                    for number in range(1_000_000):
                        store.write(client, number)
                        confirmed.append((time.monotonic(), number))
            except store.lost:
                failed.set()

    writer = threading.Thread(target=writes, daemon=True)
    writer.start()
    for _ in wait(30, 0.1):
        if confirmed and confirmed[-1][0] - confirmed[0][0] > 3:
            break
    assert len(confirmed) > 20, "too few writes to lose one"
    sigkill(cluster, "storage", f"{store.name}-0")
    assert failed.wait(30)
    writer.join(30)
    for _ in wait(120, 0.5):
        state = pod(cluster, store)
        if state["ready"] and state["restartCount"] == restarts + 1:
            break
    assert pod(cluster, store)["restartCount"] == restarts + 1

    # Valkey syncs its file each second; what is a second old must be there, and all of the others'.
    safe = confirmed[-1][0] - (2 if kind is OnlineStore else 0)
    with open_again(cluster, store) as client:
        there = store.read(client)
        assert {number for at, number in confirmed if at <= safe} <= there
        store.write(client, 1_000_001)
        assert store.read(client) == there | {1_000_001}
        store.clean(client)


def pod(cluster, store):
    found = cluster.one("pod", f"{store.name}-0", "storage")
    assert found
    return found["status"]["containerStatuses"][0]


@contextmanager
def open_again(cluster, store):
    """A Service takes a moment to know that its pod is back."""
    last = None
    for _ in wait(30, 1):
        try:
            with (
                cluster.forward("storage", store.name, store.port) as address,
                store.opened(address) as client,
            ):
                store.read(client)
        except (*store.lost, ClusterError) as error:
            last = error
        else:
            break
    else:
        raise AssertionError(f"{store.name} does not answer: {last}")
    with (
        cluster.forward("storage", store.name, store.port) as address,
        store.opened(address) as client,
    ):
        yield client
