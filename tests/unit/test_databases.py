"""On a real MariaDB: `ops databases` gives users their databases, and nothing else; what a backup
dumps, a restore loads."""

import getpass
import shutil
import socket
import subprocess
import time

import pymysql
import pytest
import yaml

from ops.__main__ import main
from ops.dump import Server, count, dump, load
from slipway.errors import Fault, UserError

ROOT = "r'oot\\pass"


def need(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"no {program}: install Debian's mariadb-server, or your system's")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A MariaDB on a free port of loopback, whose root may come in from anywhere."""
    daemon, install = need("mariadbd"), need("mariadb-install-db")
    folder = tmp_path_factory.mktemp("mariadb")
    me = f"--user={getpass.getuser()}"
    subprocess.run(
        [install, "--no-defaults", f"--datadir={folder}/data", "--skip-test-db", me],
        check=True,
        capture_output=True,
    )
    sql = folder / "init.sql"
    password = ROOT.replace("\\", "\\\\").replace("'", "''")
    sql.write_text(
        f"CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        daemon, "--no-defaults", me, f"--datadir={folder}/data", f"--port={port}",
        "--bind-address=127.0.0.1", "--skip-name-resolve", f"--socket={folder}/s",
        f"--pid-file={folder}/pid", f"--init-file={sql}", "--innodb-buffer-pool-size=16M",
    ]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        yield port
        process.terminate()
        process.wait(30)


@pytest.fixture
def passwords(tmp_path):
    folder = tmp_path / "passwords"
    folder.mkdir()
    for user, password in {"root": ROOT, "kfp": "k'p%s", "feast": "f"}.items():
        (folder / f"{user}-password").write_text(password)
    return folder


@pytest.fixture
def run(server, passwords, tmp_path):
    def run(*databases, **changes):
        spec = {"host": "127.0.0.1", "port": server, "databases": list(databases), **changes}
        (tmp_path / "databases.yaml").write_text(yaml.safe_dump(spec))
        args = [str(tmp_path / "databases.yaml"), "--passwords", str(passwords), "--seconds", "30"]
        return main(["databases", *args])

    return run


def login(port, user, password, database=None):
    return pymysql.connect(
        host="127.0.0.1", port=port, user=user, password=password, database=database
    )


def test_users_rule_their_databases_and_no_others(run, server, capsys):
    databases = [{"name": "ml_pipeline", "user": "kfp"}, {"name": "feast", "user": "feast"}]
    assert run(*databases) == 0
    assert "database ml_pipeline: made" in capsys.readouterr().out
    with login(server, "kfp", "k'p%s", "ml_pipeline") as kfp, kfp.cursor() as cursor:
        cursor.execute("CREATE TABLE t (word TEXT) ")
        cursor.execute("SELECT @@character_set_database")
        assert cursor.fetchone() == ("utf8mb4",)
        # What programs say at their start, though the database is there.
        cursor.execute("CREATE DATABASE IF NOT EXISTS ml_pipeline")
        for forbidden in ("feast.t (a INT)", "mlXpipeline.t (a INT)"):
            with pytest.raises(pymysql.err.OperationalError, match="denied"):
                cursor.execute(f"CREATE TABLE {forbidden}")
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE mlXpipeline")

    assert run(*databases) == 0
    assert "made" not in capsys.readouterr().out, "the second run finds everything"
    with login(server, "kfp", "k'p%s", "ml_pipeline") as kfp, kfp.cursor() as cursor:
        assert cursor.execute("SHOW TABLES") == 1


def test_a_user_whose_password_is_not_the_secrets_gets_it(run, server, passwords):
    """After a restore of another installation's database, nobody could log in."""
    assert run({"name": "feast", "user": "feast"}) == 0
    (passwords / "feast-password").write_text("another")
    assert run({"name": "feast", "user": "feast"}) == 0
    login(server, "feast", "another", "feast").close()


def test_mistakes_are_sentences(run, passwords, capsys):
    assert run({"name": "a`b", "user": "kfp"}) == 2
    assert "databases.0.name: string should match" in capsys.readouterr().err
    assert run({"name": "a", "user": "nobody"}) == 2
    assert "there is no password for the user nobody. Add the key" in capsys.readouterr().err
    (passwords / "root-password").write_text("wrong")
    assert run({"name": "feast", "user": "feast"}) == 2
    assert "refuses the user root with the password given" in capsys.readouterr().err


def test_a_server_that_never_comes_is_waited_for_and_named(passwords, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        spec = {"host": "127.0.0.1", "port": taken.getsockname()[1], "databases": []}
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(spec))
        started = time.monotonic()
        args = [str(tmp_path / "s.yaml"), "--passwords", str(passwords), "--seconds", "1"]
        assert main(["databases", *args]) == 1
    assert time.monotonic() - started < 10
    assert "gave up after 1 s: 127.0.0.1:" in capsys.readouterr().out


ODD = [
    (1, 'it\'s a \\ "line"\r\nand a next; --\0\x1a ünï 🛫', b"\x00\xff\n'", "1.10", 0.1 + 0.2),
    (2, "", b"", "-99999.99", 1e-300),
    (3, None, None, None, None),
]


@pytest.fixture
def filled(run, server):
    """Two databases with what is hard to write down."""
    assert run({"name": "one", "user": "kfp"}, {"name": "two", "user": "feast"}) == 0
    with login(server, "root", ROOT, "one") as root, root.cursor() as cursor:
        for name in ("child", "odd", "zero"):
            cursor.execute(f"DROP TABLE IF EXISTS `{name}`")
        cursor.execute(
            "CREATE TABLE odd (id INT PRIMARY KEY, word TEXT, raw BLOB, price DECIMAL(10, 2), "
            "ratio DOUBLE, at TIMESTAMP(6) NULL, day DATE, span TIME, `select` JSON, "
            "twice INT GENERATED ALWAYS AS (id * 2) STORED)"
        )
        cursor.executemany(
            "INSERT INTO odd VALUES (%s, %s, %s, %s, %s, '2013-01-31 23:59:59.123456', "
            "'2013-02-28', '-01:02:03', '{\"a\": [1, \"\\\\n\"]}', DEFAULT)",
            ODD,
        )
        # Before its parent in the alphabet; and a number that MariaDB would take for "the next".
        cursor.execute("CREATE TABLE child (odd INT, FOREIGN KEY (odd) REFERENCES odd (id))")
        cursor.execute("INSERT INTO child VALUES (2)")
        cursor.execute("CREATE TABLE zero (id INT AUTO_INCREMENT PRIMARY KEY)")
        cursor.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        cursor.execute("INSERT INTO zero VALUES (0)")
        root.commit()
    return Server("127.0.0.1", server, "root", ROOT)


def content(server):
    found = {}
    with server.connect() as connection, connection.cursor() as cursor:
        connection.select_db("one")
        for table in ("child", "odd", "zero"):
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608 (ours)
            found[table] = sorted(cursor.fetchall())
    return found


def test_what_is_dumped_is_loaded_byte_by_byte(filled, tmp_path):
    before = content(filled)
    assert [row[1:3] for row in before["odd"]] == [row[1:3] for row in ODD]
    assert dump(filled, ["one", "two"], tmp_path) == {"one": 5, "two": 0}
    with filled.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE one.later (a INT)")
        cursor.execute("DELETE FROM one.child")
        connection.commit()
    for _ in range(2):  # a restore that was interrupted is repeated
        load(filled, "one", tmp_path / "one.sql.gz")
        assert content(filled) == before
    assert count(filled, "select count(*) from one.odd") == 3
    assert count(filled, "select count(*) from one.later") == 0


def test_what_the_server_refuses_in_the_middle_is_a_fault_and_not_a_traceback(filled, tmp_path):
    with pytest.raises(Fault, match=r"^the database 127\.0\.0\.1:\d+: .*nothing"):
        dump(filled, ["nothing"], tmp_path)
    with pytest.raises(UserError, match="does not let root in"):
        count(Server("127.0.0.1", filled.port, "root", "wrong"), "select 1")
