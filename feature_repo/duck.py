"""DuckDB as this repository uses it: UTC, a memory cap, and no reach beyond what it is given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from slipway.storage import Location

MEMORY_LIMIT = "2GB"


@contextmanager
def connect(
    spill: Path, folders: Iterable[str | Path] | None = (), memory_limit: str = ""
) -> Iterator[DuckDBPyConnection]:
    """A connection whose SQL reaches `folders`, and no other file, network or Python variable.
    None: every file that the process can read, for SQL of the caller's own.

    What outgrows `memory_limit` (else `SLIPWAY_MEMORY_LIMIT`, else 2GB) goes to the folder `spill`.
    Threads are the machine's cores.
    """
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": memory_limit or os.environ.get("SLIPWAY_MEMORY_LIMIT") or MEMORY_LIMIT,
            "temp_directory": str(spill),
            # A missing extension would be downloaded, a missing table be found among Python's.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )
    try:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set enable_progress_bar = false")  # it would fill the log of a pod
        if folders is not None:
            allowed = ", ".join(literal(str(folder)) for folder in folders)
            connection.execute(f"set allowed_directories = [{allowed}]")
            connection.execute("set enable_external_access = false")
        yield connection
    finally:
        connection.close()


def parquet_view(
    connection: DuckDBPyConnection, name: str, location: Location, where: str = ""
) -> None:
    """Show the parquet file or folder at `location` as `name`; `where` leaves rows out.

    A local one must lie in a folder that the connection reaches.
    """
    if location.local:
        files = location.local / "**" / "*.parquet" if location.local.is_dir() else location.local
        relation = f"read_parquet({literal(str(files))})"
    else:
        import pyarrow.dataset

        # DuckDB reads object stores by an extension that it would have to download.
        dataset = pyarrow.dataset.dataset(
            location.path, format="parquet", filesystem=location.filesystem
        )
        connection.register(f"remote {name}", dataset)
        relation = quote(f"remote {name}")
    condition = f" where {where}" if where else ""
    connection.execute(f"create or replace view {quote(name)} as from {relation}{condition}")


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def instant(when: datetime) -> str:
    """`when` as an SQL timestamp."""
    return f"timestamptz '{when.astimezone(UTC).isoformat()}'"
