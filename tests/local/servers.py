"""Servers of others on loopback, for the time of a test."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@contextmanager
def s3_server(monkeypatch, *buckets):
    """An S3 with these buckets, as the standard environment names it; gives boto3's client."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "up",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3", region_name="us-east-1")
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield client
    finally:
        # Its state is the process's: the next server would start with this one's objects.
        reset = f"http://{host}:{port}/moto-api/reset"
        urllib.request.urlopen(reset, data=b"").close()
        server.stop()


class Server:
    """A process that listens on `port`; `start` again after `kill` finds what it had written."""

    def __init__(self, name, log, command, url="", **environment):
        self._name, self._log, self._command = name, log, command
        self._url, self._environment = url, os.environ | environment
        self.process = None

    def start(self, seconds=90):
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, cwd=self._log.parent,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + seconds
        while not self._answers():
            assert self.process.poll() is None, f"{self._name} ended:\n{self._log.read_text()}"
            assert time.monotonic() < deadline, f"{self._name} is silent:\n{self._log.read_text()}"
            time.sleep(0.1)
        return self

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self):
        try:
            with urllib.request.urlopen(self._url, timeout=5) as answer:  # noqa: S310 (loopback)
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


class MariaDb(Server):
    """An empty MariaDB."""

    def __init__(self, folder):
        self.port, self._folder = free_port(), folder
        user = f"--user={getpass.getuser()}"
        install = ["mariadb-install-db", "--no-defaults", user, f"--datadir={folder / 'data'}"]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True)
        command = ["mariadbd", "--no-defaults", user, f"--datadir={folder / 'data'}"]
        command += ["--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"]
        command += [f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"]
        super().__init__("mariadbd", folder / "log", command)

    def create(self, name):
        """A database with a user of its own; returns SQLAlchemy's URL of it."""
        self._sql(
            f"create database {name} character set utf8mb4; "
            f"create user '{name}'@'127.0.0.1' identified by 'p@ss/word'; "
            f"grant all on {name}.* to '{name}'@'127.0.0.1'"
        )
        return f"mysql+pymysql://{name}:p%40ss%2Fword@127.0.0.1:{self.port}/{name}"

    def _answers(self):
        return self._sql("select 1", check=False) == 0

    def _sql(self, sql, check=True):
        command = ["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-uroot", "-e", sql]
        return subprocess.run(command, check=check, capture_output=True).returncode


@contextmanager
def mariadb(folder):
    """A running MariaDB that lives in `folder`; the test is skipped where none is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    # Debian keeps servers out of the PATH of plain users.
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("mariadb-server is not installed: what is kept in MariaDB goes untested")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
        server = MariaDb(folder)
    try:
        yield server.start()
    finally:
        server.kill()


class RedisServer(Server):
    """A Redis that keeps nothing: it is empty after each start."""

    def __init__(self, folder, *options):
        self.port = free_port()
        self.listens = ("--port", str(self.port))
        """Options; a test may change them before the start."""
        self._keeps = ["redis-server", "--bind", "127.0.0.1", "--dir", str(folder), *options]
        self._keeps += ["--save", "", "--appendonly", "no"]
        super().__init__("redis-server", folder / "redis.log", None)

    def start(self, seconds=20):
        self._command = [*self._keeps, *self.listens]
        return super().start(seconds)

    def client(self):
        import redis

        return redis.Redis(port=self.port)

    def _answers(self):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False


@contextmanager
def redis_server(folder, *options):
    """One that is not running yet; the test is skipped where none is installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: what is read from Redis goes untested")
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()


def mlflow_server(folder, *options):
    """An MLflow server that is not running yet, with its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", *options]
    server = Server(
        "mlflow", Path(folder) / "mlflow.log", command, f"{url}/health",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true",
    )  # fmt: skip
    return server, url
