"""The training set: labelled rows of the three windows, with what was known when each was asked."""

# ruff: noqa: S608 (what is put into SQL here is the contract's own, and quoted)

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo import sql
from feature_repo.asof import TimedView, join
from feature_repo.duck import connect, instant, literal, quote
from slipway.contract import Contract
from slipway.errors import UserError
from slipway.project import Project

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS_AT_ONCE = 500_000
"""Rows joined in one go: what bounds the memory of the join."""


def write_rows(
    connection: DuckDBPyConnection, project: Project, as_of: datetime, path: Path
) -> None:
    """Write the labelled rows of the windows to `path`, sorted, without features.

    `connection` shows sources and tables. Raises `UserError` for a target that is not what the
    contract says, for a label that is null, unknown or too early, and for an empty window.
    """
    contract, target = project.contract, project.contract.target
    query = sql.subquery(project.sql(target.sql))
    seen = (*contract.sources, *contract.tables)
    found = sql.columns_of(connection, query, target.sql, f"It sees {', '.join(seen)}.")
    kinds = _columns(contract)
    sql.check_columns(target.sql, found, kinds)
    for name, kind in kinds.items():
        if kind:
            sql.check_type(target.sql, name, found[name], kind)
    cast = [f"{quote(n)}::{_type(kinds[n], found[n])} as {quote(n)}" for n in kinds]
    stamp = quote(target.event_timestamp)
    sql.run(
        connection,
        f'create table target as select {", ".join(cast)}, {quote(target.label)} as "raw label" '
        f"from {query} where {stamp} is null or {stamp} <= {instant(as_of)}",
        target.sql,
    )
    connection.execute('create view labelled as from target where "raw label" is not null')
    [[asked, labelled]] = connection.execute(
        "select (select count(*) from target), (select count(*) from labelled)"
    ).fetchall()
    if not labelled:
        raise UserError(
            f"{target.sql}: '{target.label}' is null in all {asked:,} rows up to "
            f"{as_of.isoformat()}.",
            "Join the facts that hold the label, or move `as_of`.",
        )
    _check_rows(connection, contract)
    label = _label(connection, contract, found[target.label])
    windows = contract.windows(as_of)
    order = ", ".join(map(quote, dict.fromkeys([target.event_timestamp, *target.key])))
    columns = ", ".join(
        f"{label} as {quote(name)}" if name == target.label else quote(name) for name in kinds
    )
    sql.write_parquet(
        connection,
        f"""from (select {_window(contract, windows)} as "window", {columns} from labelled)
        where "window" is not null order by {order}""",
        path,
        target.sql,
        "lz4_raw",
    )
    _check_windows(connection, target.sql, path, windows)


def _columns(contract: Contract) -> dict[str, str]:
    """The target's columns that the training set keeps, and their types where the contract says."""
    target = contract.target
    used = {entity for view in contract.views.values() for entity in view.entities}
    kinds = dict.fromkeys(target.key, "")
    kinds |= {target.event_timestamp: "timestamp", target.label_timestamp: "timestamp"}
    kinds |= {target.label: ""}
    kinds |= {name: item.type for name, item in contract.entities.items() if name in used}
    kinds |= {name: item.type for name, item in contract.request.items()}
    return kinds


def _type(kind: str, found: str) -> str:
    """What a column is cast to; a key that the contract has no type for keeps what it is."""
    if not kind:
        return "bigint" if found in sql.WHOLE else found
    return sql.TYPES.get(kind, "timestamptz")


def _check_rows(connection: DuckDBPyConnection, contract: Contract) -> None:
    target = contract.target
    sql.check_values(
        connection,
        target.sql,
        "labelled",
        {name: item.range for name, item in contract.request.items() if item.type != "timestamp"},
        [name for name, item in contract.request.items() if item.type == "float"],
        (*target.key, target.event_timestamp, target.label_timestamp),
    )
    sql.check_unique(connection, target.sql, "labelled", target.key, "keys of the target")
    early = f"{quote(target.label_timestamp)} < {quote(target.event_timestamp)}"
    [[count]] = connection.execute(f"select count(*) from labelled where {early}").fetchall()
    if count:
        raise UserError(
            f"{target.sql}: '{target.label_timestamp}' is before '{target.event_timestamp}' in "
            f"{count:,} rows: their label was known before the prediction was asked for.",
            "Leave such rows out, or mend the timestamp.",
        )


def _label(connection: DuckDBPyConnection, contract: Contract, kind: str) -> str:
    """SQL of the label as the training set holds it."""
    target = contract.target
    raw = '"raw label"'
    if target.task == "multiclass":
        classes = ", ".join(map(literal, target.classes or ()))
        wrong, wanted = f"{raw}::varchar not in ({classes})", f"one of {classes}"
        result = f"list_position([{classes}], {raw}::varchar)::bigint - 1"
    elif target.task == "binary":
        if kind != "BOOLEAN":
            sql.check_type(target.sql, target.label, kind, "float")
        wrong, wanted = f"{raw}::double not in (0, 1)", "0 or 1"
        result = f"{raw}::bigint"
    else:
        sql.check_type(target.sql, target.label, kind, "float")
        wrong, wanted, result = f"not isfinite({raw}::double)", "a finite number", f"{raw}::double"
    [[count, example]] = connection.execute(
        f"select count(*), min({raw}::varchar) from labelled where {wrong}"
    ).fetchall()
    if count:
        raise UserError(
            f"{target.sql}: the label '{target.label}' is not {wanted} in {count:,} rows, like "
            f"'{example}'.",
            "Mend the SQL, or `task` and `classes` in the contract.",
        )
    return result


def _window(contract: Contract, windows: Mapping[str, tuple[datetime, datetime]]) -> str:
    asked, known = (
        quote(contract.target.event_timestamp),
        quote(contract.target.label_timestamp),
    )
    cases = [
        f"when {asked} >= {instant(start)} and {asked} < {instant(end)} "
        f"and {known} <= {instant(end)} then {literal(name)}"
        for name, (start, end) in windows.items()
    ]
    return f"case {' '.join(cases)} end"


def _check_windows(
    connection: DuckDBPyConnection,
    file: str,
    path: Path,
    windows: Mapping[str, tuple[datetime, datetime]],
) -> None:
    found = dict(
        connection.execute(
            f"select \"window\", count(*) from read_parquet('{path}') group by all"
        ).fetchall()
    )
    for name, (start, end) in windows.items():
        if not found.get(name):
            raise UserError(
                f"{file}: no labelled row falls into the {name} window, "
                f"{start.isoformat()} to {end.isoformat()}.",
                "Move `as_of`, or change `split` in the contract.",
            )


def timed_views(contract: Contract, locations: Mapping[str, str]) -> list[TimedView]:
    """The contract's views for the join; `locations` is the SQL relation of each."""
    return [
        TimedView(
            relation=locations[name],
            keys={entity: entity for entity in view.entities},
            timestamp=view.event_timestamp,
            features={feature: f"{name}__{feature}" for feature in view.features},
            ttl=view.ttl,
        )
        for name, view in contract.views.items()
    ]


def write_training_set(project: Project, rows: Path, views: Path, path: Path, spill: Path) -> None:
    """Join each of `rows` with the views in the folder `views`, and write the training set."""
    import pyarrow.parquet

    contract = project.contract
    asked = contract.target.event_timestamp
    relations = {name: f"read_parquet('{views / name}.parquet')" for name in contract.views}
    views_in_time = timed_views(contract, relations)
    writer = None
    with connect(spill, [rows.parent, views]) as connection:
        # A row's place in the sorted file is its id.
        connection.execute(
            f"""create view "all rows" as
            select file_row_number as row_id, * exclude file_row_number
            from read_parquet({literal(str(rows))}, file_row_number = true)"""
        )
        [[count]] = connection.execute('select count(*) from "all rows"').fetchall()
        try:
            for start in range(0, count, ROWS_AT_ONCE):
                chunk = f'"all rows" where row_id between {start} and {start + ROWS_AT_ONCE - 1}'
                [span] = connection.execute(
                    f"select min({quote(asked)}), max({quote(asked)}) from {chunk}"
                ).fetchall()
                joined = join(f"(from {chunk})", "row_id", asked, views_in_time, span)
                table = connection.sql(joined).to_arrow_table()
                writer = writer or pyarrow.parquet.ParquetWriter(
                    path, table.schema, compression="zstd"
                )
                writer.write_table(table, row_group_size=ROWS_AT_ONCE // 4)
        finally:
            if writer:
                writer.close()
