"""Make databases and their users on a MariaDB or MySQL server.

    python -m ops databases /etc/slipway/databases.yaml --passwords /run/secrets/mariadb

The folder of passwords has one file for each user, `USER-password`, and one for the
administrator. Makes what is missing, and gives a user that cannot log in the password of its file.
Databases and users that the file does not name are left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.wait import NotYet, wait_for
from slipway.errors import UserError

if TYPE_CHECKING:
    from pymysql import Connection

_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
_DENIED = (1045, 1698)
"""The server's codes for a wrong password; the second where it tried a plugin without one."""


class Database(BaseModel):
    """A database, and the user that may do everything in it and nothing outside."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: _Name
    user: _Name


class Spec(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str
    port: int = 3306
    admin: _Name = "root"
    databases: tuple[Database, ...]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops databases", description=__doc__)
    parser.add_argument("spec", type=Path, help="the YAML file that lists them")
    parser.add_argument("--passwords", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=300, help="wait so long for the server")
    args = parser.parse_args(argv)
    spec = load(args.spec)
    users = dict.fromkeys(database.user for database in spec.databases)
    passwords = {name: _password(args.passwords, name) for name in (spec.admin, *users)}
    connections: list[Connection] = []

    def connect() -> None:
        connections.append(_connect(spec, spec.admin, passwords[spec.admin]))

    if not wait_for({f"{spec.host}:{spec.port}": connect}, args.seconds):
        return 1
    with connections[0] as connection:
        for database in spec.databases:
            _database(connection, database.name)
        for user in users:
            _user(connection, spec, user, passwords[user])
        for database in spec.databases:
            _grant(connection, database)
    print(f"{len(spec.databases)} databases are in place")
    return 0


def load(path: Path) -> Spec:
    """The list in a file. Raises `UserError` for one that is not right."""
    try:
        return Spec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({error}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg'].lower()}.") from None


def _password(folder: Path, user: str) -> str:
    file = folder / f"{user}-password"
    if not file.exists():
        raise UserError(
            f"{file}: there is no password for the user {user}.",
            f"Add the key {file.name} to the secret that is mounted here.",
        )
    return file.read_text().removesuffix("\n")


def _connect(spec: Spec, user: str, password: str) -> Connection:
    import pymysql

    try:
        return pymysql.connect(
            host=spec.host, port=spec.port, user=user, password=password,
            connect_timeout=5, read_timeout=60, charset="utf8mb4", autocommit=True,
        )  # fmt: skip
    except pymysql.err.OperationalError as error:
        if error.args[0] in _DENIED:
            raise UserError(
                f"{spec.host}:{spec.port} refuses the user {user} with the password given.",
                f"Put the right one into the key {user}-password of the secret.",
            ) from None
        raise NotYet(error.args[1]) from None


def _database(connection: Connection, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", [name])
        if cursor.fetchone() is None:
            # IF NOT EXISTS: another Job, or the program itself, may make it at this moment.
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4")
            print(f"database {name}: made", flush=True)


def _user(connection: Connection, spec: Spec, user: str, password: str) -> None:
    try:
        _connect(spec, user, password).close()
    except UserError:
        with connection.cursor() as cursor:
            cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", [user, password])
            cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", [user, password])
        print(f"user {user}: made, or given the password of the secret", flush=True)


def _grant(connection: Connection, database: Database) -> None:
    name = database.name.replace("_", r"\_")  # in a grant, `_` stands for any character
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT ALL PRIVILEGES ON `{name}`.* TO %s@'%%'", [database.user])
