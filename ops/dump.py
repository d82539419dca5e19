"""Databases as files of SQL, through nothing but the protocol: the server may be anybody's.

A file is one statement a line, so that it can be read back without a parser; `mariadb < FILE` reads
it as well.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import Fault, UserError

if TYPE_CHECKING:
    from pymysql import Connection

BATCH = 500
"""Rows of one INSERT; also bounded by bytes."""
BATCH_BYTES = 1_000_000
SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A MariaDB or MySQL server, and somebody who may read and write all of ours."""

    host: str
    port: int
    user: str
    password: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Raises `UserError` where nobody is let in, `Fault` for what the server says later."""
        import pymysql

        try:
            connection = pymysql.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                charset="utf8mb4",
                connect_timeout=SECONDS,
                read_timeout=600,
                write_timeout=600,
            )
        except pymysql.MySQLError as error:
            raise UserError(
                f"the database {self.host}:{self.port} does not let {self.user} in "
                f"({_said(error)}).",
                "Look at its pod and at the secret slipway-system/slipway-passwords.",
            ) from None
        try:
            with connection:
                yield connection
        except pymysql.MySQLError as error:
            raise Fault(f"the database {self.host}:{self.port}: {_said(error)}.") from None


def _said(error: Exception) -> object:
    """The server's words, without its number."""
    return error.args[-1] if error.args else error


def dump(server: Server, databases: list[str], folder: Path) -> dict[str, int]:
    """Write NAME.sql.gz of each, all as of one moment; returns the rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    with server.connect() as connection:
        for setting in (
            "set session transaction isolation level repeatable read",
            "set session time_zone = '+00:00'",
            "start transaction with consistent snapshot",
        ):
            _run(connection, setting)
        for name in databases:
            with gzip.open(folder / f"{name}.sql.gz", "wt", encoding="utf-8", newline="\n") as file:
                rows[name] = 0
                for statement, count in _statements(connection, name):
                    file.write(f"{statement};\n")
                    rows[name] += count
    return rows


def load(server: Server, database: str, file: Path) -> None:
    """Put a dump into `database`, in place of what is there."""
    with server.connect() as connection:
        connection.select_db(database)
        for setting in (
            "set session foreign_key_checks = 0",
            "set session time_zone = '+00:00'",
            "set session sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        ):
            _run(connection, setting)
        for table in _tables(connection, database):
            _run(connection, f"drop table {_quoted(table)}")
        with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                _run(connection, line.rstrip(";\n"))
        connection.commit()


def count(server: Server, query: str) -> int:
    """The number that a query gives; 0 where its table does not exist yet."""
    import pymysql

    with server.connect() as connection, connection.cursor() as cursor:
        try:
            cursor.execute(query)
        except pymysql.err.ProgrammingError:
            return 0
        row = cursor.fetchone()
        return int(row[0]) if row else 0


def _statements(connection: Connection, database: str) -> Iterator[tuple[str, int]]:
    """SQL, and how many rows it holds."""
    connection.select_db(database)
    yield "set foreign_key_checks = 0", 0
    yield "set time_zone = '+00:00'", 0
    yield "set sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", 0
    for table in _tables(connection, database):
        [[_, create]] = _all(connection, f"show create table {_quoted(table)}")
        yield " ".join(create.splitlines()), 0
        columns = [
            name
            for name, extra in _all(
                connection,
                "select column_name, extra from information_schema.columns "
                "where table_schema = %s and table_name = %s order by ordinal_position",
                database,
                table,
            )
            if "GENERATED" not in extra.upper()
        ]
        yield from _inserts(connection, table, columns)


def _inserts(connection: Connection, table: str, columns: list[str]) -> Iterator[tuple[str, int]]:
    from pymysql.cursors import SSCursor

    names = ", ".join(map(_quoted, columns))
    head = f"insert into {_quoted(table)} ({names}) values "  # noqa: S608 (quoted)
    batch: list[str] = []
    size = 0
    with connection.cursor(SSCursor) as cursor:
        cursor.execute(f"select {names} from {_quoted(table)}")  # noqa: S608 (quoted)
        for row in cursor:
            text = f"({', '.join(_literal(connection, value) for value in row)})"
            batch.append(text)
            size += len(text)
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                yield head + ", ".join(batch), len(batch)
                batch, size = [], 0
    if batch:
        yield head + ", ".join(batch), len(batch)


def _literal(connection: Connection, value: Any) -> str:
    """A value as SQL that reads back as the same value, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, bool | int | Decimal):
        return str(int(value) if isinstance(value, bool) else value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str | datetime | date | time | timedelta):
        return str(connection.escape(value))
    raise TypeError(f"{type(value).__name__} in a database is new to the backup")


def _tables(connection: Connection, database: str) -> list[str]:
    found = _all(
        connection,
        "select table_name, table_type from information_schema.tables "
        "where table_schema = %s order by table_name",
        database,
    )
    if odd := [name for name, kind in found if kind != "BASE TABLE"]:
        raise UserError(
            f"the database {database} holds {', '.join(odd)}, and a backup holds tables alone.",
            "Use the server's own backup for it.",
        )
    return [name for name, _ in found]


def _all(connection: Connection, query: str, *values: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def _run(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
