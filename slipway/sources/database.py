"""The rows of a query to an Arrow table, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from slipway.contract.model import Source
from slipway.errors import UserError
from slipway.sources.columns import as_text

_ROWS = 50_000  # fetched at a time
_TIMEOUTS = {
    "postgresql": "connect_timeout",
    "mysql": "connect_timeout",
    "mariadb": "connect_timeout",
}


def read_query(uri: str, source: Source, root: Path) -> pa.Table:
    """The contract's columns of the query's result. A relative SQLite path starts at `root`."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        url = make_url(uri)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg2")  # the driver that is installed here
        backend = url.get_backend_name()
        if backend == "sqlite":
            url = url.set(database=str(_existing(root, url.database)))
        timeout = _TIMEOUTS.get(backend)
        engine = create_engine(url, connect_args={timeout: 10} if timeout else {})
    except (NoSuchModuleError, ImportError) as error:
        raise UserError(
            f"the database's driver is missing ({error}).",
            "Install it, or name another one, like dialect+driver://...",
        ) from None
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"the database URI is wrong ({error}).", "Write dialect://user:password@host/database."
        ) from None
    try:
        with engine.connect() as connection:
            streaming = connection.execution_options(stream_results=True, max_row_buffer=_ROWS)
            result = streaming.execute(text(source.query or ""))
            names = list(result.keys())
            wanted = [name for name in source.columns if name in names]
            if not wanted:
                raise UserError(
                    f"the query gives none of the contract's columns; it gives {', '.join(names)}.",
                    "Name them in the SELECT.",
                )
            places = [names.index(name) for name in wanted]
            batches: list[list[pa.Array]] = [[] for _ in wanted]
            for rows in result.partitions(_ROWS):
                for batch, place in zip(batches, places, strict=True):
                    batch.append(_array([row[place] for row in rows]))
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(
            f"the database answers: {reason}.",
            "Check the query and the URI, and that the server can be reached.",
        ) from None
    finally:
        engine.dispose()
    return pa.table({name: _joined(batch) for name, batch in zip(wanted, batches, strict=True)})


def _existing(root: Path, database: str | None) -> Path:
    """SQLite makes the file that is missing; a source must be there."""
    path = root / (database or "")
    if not path.is_file():
        raise UserError(f"there is no SQLite file {path}.", "Correct the path.")
    return path


def _array(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # Types of the database's own, or several in one column, which SQLite allows.
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _joined(batches: list[pa.Array]) -> pa.ChunkedArray:
    """One column of batches whose types may differ: text if they have no type in common."""
    if not batches:
        return pa.chunked_array([], pa.string())
    schemas = [pa.schema([("column", batch.type)]) for batch in batches]
    try:
        kind = pa.unify_schemas(schemas, promote_options="permissive").field("column").type
        return pa.chunked_array([batch.cast(kind) for batch in batches])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.chunked_array(
            [chunk for batch in batches for chunk in as_text(pa.chunked_array([batch])).chunks]
        )
