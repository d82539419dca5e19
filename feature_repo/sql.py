"""The SQL files of a project: their columns and types, checked against the contract."""

# ruff: noqa: S608 (what is put into SQL here is the contract's own, and quoted)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.duck import quote
from slipway.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TYPES = {"int": "bigint", "float": "double", "string": "varchar", "bool": "boolean"}
MOMENT = "TIMESTAMP WITH TIME ZONE"
WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
)
WHOLE += ("UBIGINT", "UHUGEINT")
_FITS = {
    "int": WHOLE,
    "float": (*WHOLE, "FLOAT", "DOUBLE", "DECIMAL"),
    "string": ("VARCHAR", "ENUM"),
    "bool": ("BOOLEAN",),
    "timestamp": (MOMENT,),
}


def subquery(text: str) -> str:
    """A file's one SELECT, to stand after `from`. What else a file may hold does not parse here."""
    return f"({text.rstrip().removesuffix(';')}\n)"


def run(connection: DuckDBPyConnection, statement: str, file: str, fix: str = "") -> list[tuple]:
    """The rows of `statement`. What is wrong with the SQL of `file` becomes a `UserError`."""
    import duckdb

    try:
        return connection.execute(statement).fetchall()
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.PermissionException) as error:
        raise UserError(f"{file}: {error}", fix) from None
    except duckdb.OutOfMemoryException as error:
        raise UserError(
            f"{file}: DuckDB needs more memory: {error}", "Raise SLIPWAY_MEMORY_LIMIT, like 4GB."
        ) from None


def columns_of(
    connection: DuckDBPyConnection, query: str, file: str, fix: str = ""
) -> dict[str, str]:
    """Name and DuckDB type of the columns that `query` (after `from`) has."""
    return {name: kind for name, kind, *_ in run(connection, f"describe from {query}", file, fix)}


def check_type(file: str, column: str, found: str, wanted: str) -> None:
    """Raises `UserError` where the contract's type does not hold every value of the SQL's."""
    if any(found.startswith(kind) for kind in _FITS[wanted]):
        return
    fix = (
        f"Name its zone: timezone('UTC', {column})."
        if wanted == "timestamp" and found.startswith("TIMESTAMP")
        else "Cast it in the SQL, or write `type:` as it is in the contract."
    )
    raise UserError(f"{file}: column '{column}' is {found}, the contract says {wanted}.", fix)


def check_columns(file: str, found: Iterable[str], wanted: Iterable[str]) -> None:
    """Raises `UserError` where the SQL lacks a column."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"{file}: the SELECT has no column {', '.join(map(repr, missing))}.",
            f"It has {', '.join(found)}; add what is missing, or take it out of the contract.",
        )


def check_values(
    connection: DuckDBPyConnection,
    file: str,
    relation: str,
    ranges: Mapping[str, tuple[float | None, float | None] | None],
    floats: Iterable[str],
    filled: Iterable[str],
) -> None:
    """Raises `UserError` for a null, infinite or out-of-range value in `relation`.

    `ranges`: bounds (both included) by column. `floats`: columns that may not hold NaN or infinity.
    `filled`: columns that may not be null.
    """
    rules: list[tuple[str, str, str]] = []
    for name in filled:
        rules.append((f"{quote(name)} is null", f"'{name}' is null", "Leave such rows out."))
    for name in floats:
        rules.append(
            (
                f"not isfinite({quote(name)})",
                f"'{name}' is NaN or infinite",
                "Make it null, for example by nullif() on what it is divided by.",
            )
        )
    for name, bounds in ranges.items():
        low, high = bounds or (None, None)
        outside = [f"{quote(name)} < {low}"] if low is not None else []
        outside += [f"{quote(name)} > {high}"] if high is not None else []
        if outside:
            rules.append(
                (
                    " or ".join(outside),
                    f"'{name}' lies outside {[low, high]}",
                    "Mend the SQL, or widen `range` in the contract.",
                )
            )
    counts = ", ".join(f"count(*) filter ({rule})" for rule, _, _ in rules)
    if not rules:
        return
    [broken] = connection.execute(f"select {counts} from {relation}").fetchall()
    for count, (rule, problem, fix) in zip(broken, rules, strict=True):
        if count:
            example = _example(connection, relation, rule)
            raise UserError(f"{file}: {problem} in {count:,} rows, like {example}.", fix)


def check_unique(
    connection: DuckDBPyConnection, file: str, relation: str, key: Iterable[str], what: str
) -> None:
    """Raises `UserError` where two rows of `relation` share `key`."""
    columns = ", ".join(map(quote, key))
    twice = (
        f"(select {columns}, count(*) as rows from {relation} group by {columns} "
        "having count(*) > 1)"
    )
    [[count]] = connection.execute(f"select count(*) from {twice}").fetchall()
    if count:
        raise UserError(
            f"{file}: {count:,} {what} stand more than once, like "
            f"{_example(connection, twice, 'true')}.",
            "Aggregate or filter the rows in the SQL, so that one is left of each.",
        )


def _example(connection: DuckDBPyConnection, relation: str, rule: str) -> str:
    query = connection.execute(f"select * from {relation} where {rule} order by all limit 1")
    names = [item[0] for item in query.description]
    [row] = query.fetchall()
    return "{" + ", ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True)) + "}"


def write_parquet(
    connection: DuckDBPyConnection, query: str, path: Path, file: str, compression: str = "zstd"
) -> None:
    """Write the rows of the SELECT `query` to `path`; `file` is whose SQL it runs."""
    options = f"format parquet, compression {compression}"
    run(connection, f"copy ({query}) to '{path}' ({options})", file)
