"""Facts and feature views: the contract's SQL, run so that nothing can see what it must not."""

# ruff: noqa: S608 (what is put into SQL here is the contract's own, and quoted)

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo import sql
from feature_repo.duck import connect, instant, parquet_view, quote
from slipway.contract.model import FeatureView
from slipway.errors import UserError
from slipway.project import Project
from slipway.storage import locate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def write_tables(
    connection: DuckDBPyConnection, project: Project, as_of: datetime, folder: Path
) -> None:
    """Write the facts known at `as_of` as `<table>.parquet`. `connection` shows the sources."""
    for name, table in project.contract.tables.items():
        query = sql.subquery(project.sql(table.sql))
        fix = f"It sees the sources: {', '.join(project.contract.sources)}."
        columns = sql.columns_of(connection, query, table.sql, fix)
        sql.check_columns(table.sql, columns, [table.known_at])
        sql.check_type(table.sql, table.known_at, columns[table.known_at], "timestamp")
        known = f"{quote(table.known_at)} <= {instant(as_of)}"
        sql.write_parquet(
            connection,
            f"select * from {query} where {known}",
            folder / f"{name}.parquet",
            table.sql,
            "lz4_raw",
        )


def write_views(
    project: Project, as_of: datetime, tables: Path, folder: Path, spill: Path
) -> list[dict[str, Any]]:
    """Write each feature view as `<view>.parquet` into `folder`, sorted by entities and time.

    `tables` is the folder of the facts, the only thing that a view's SQL reaches. Returns
    `{name, rows, entities, first, last}` of each view. Raises `UserError` for a view that is not
    what the contract says, or that sees its own future.
    """
    found = []
    with connect(spill, [tables, folder]) as connection:
        _show_tables(connection, project, tables)
        for name, view in project.contract.views.items():
            path = folder / f"{name}.parquet"
            _write_view(connection, project, view, as_of, path)
            found.append({"name": name, **_check_view(connection, view, path)})
    for name, view in project.contract.views.items():
        _check_future(project, name, view, tables, folder / f"{name}.parquet", spill)
    return found


def _show_tables(
    connection: DuckDBPyConnection, project: Project, tables: Path, cut: datetime | None = None
) -> None:
    for name, table in project.contract.tables.items():
        where = f"{quote(table.known_at)} <= {instant(cut)}" if cut else ""
        parquet_view(connection, name, locate(f"{tables / name}.parquet"), where)


def _select(
    connection: DuckDBPyConnection, project: Project, view: FeatureView, as_of: datetime
) -> str:
    """The view's rows up to `as_of`, in the contract's columns and types."""
    query = sql.subquery(project.sql(view.sql))
    fix = f"A view sees only the tables: {', '.join(project.contract.tables)}."
    columns = sql.columns_of(connection, query, view.sql, fix)
    entities = project.contract.entities
    wanted = {name: entities[name].type for name in view.entities}
    wanted |= {view.event_timestamp: "timestamp"}
    wanted |= {name: feature.type for name, feature in view.features.items()}
    sql.check_columns(view.sql, columns, wanted)
    extra = [name for name in columns if name not in wanted]
    if extra:
        raise UserError(
            f"{view.sql}: the contract does not know column {', '.join(map(repr, extra))}.",
            "List it under the view's features, or take it out of the SELECT.",
        )
    for name, kind in wanted.items():
        sql.check_type(view.sql, name, columns[name], kind)
    cast = ", ".join(
        f"{quote(name)}::{sql.TYPES.get(kind, 'timestamptz')} as {quote(name)}"
        for name, kind in wanted.items()
    )
    stamp = quote(view.event_timestamp)
    return f"select {cast} from {query} where {stamp} is null or {stamp} <= {instant(as_of)}"


def _write_view(
    connection: DuckDBPyConnection, project: Project, view: FeatureView, as_of: datetime, path: Path
) -> None:
    order = ", ".join(map(quote, (*view.entities, view.event_timestamp)))
    query = f"{_select(connection, project, view, as_of)} order by {order}"
    sql.write_parquet(connection, query, path, view.sql)


def _check_view(connection: DuckDBPyConnection, view: FeatureView, path: Path) -> dict[str, Any]:
    relation = f"read_parquet('{path}')"
    key = (*view.entities, view.event_timestamp)
    sql.check_values(
        connection,
        view.sql,
        relation,
        {name: feature.range for name, feature in view.features.items()},
        [name for name, feature in view.features.items() if feature.type == "float"],
        key,
    )
    sql.check_unique(connection, view.sql, relation, key, f"pairs of {', '.join(key)}")
    stamp = quote(view.event_timestamp)
    [[rows, first, last]] = connection.execute(
        f"select count(*), min({stamp}), max({stamp}) from {relation}"
    ).fetchall()
    return {
        "rows": rows,
        "entities": list(view.entities),
        "first": first and first.isoformat(),
        "last": last and last.isoformat(),
    }


def _check_future(
    project: Project, name: str, view: FeatureView, tables: Path, path: Path, spill: Path
) -> None:
    """Take every fact after a moment away and see whether the view's rows up to it stay the same.

    The moment is where a quarter of the view's rows lie behind it: late enough for windows to have
    filled, early enough for the second run to cost a quarter of the first.
    """
    stamp = quote(view.event_timestamp)
    with connect(spill, [tables, path.parent]) as connection:
        parquet_view(connection, "all facts", locate(str(path)))
        [[cut]] = connection.execute(
            f'select quantile_disc({stamp}, 0.25) from "all facts"'
        ).fetchall()
        if cut is None:
            return
        _show_tables(connection, project, tables, cut)
        connection.execute(
            f'create table "facts so far" as {_select(connection, project, view, cut)}'
        )
        key = [*view.entities, view.event_timestamp]
        same = [_same(column, view.features[column].type) for column in view.features]
        [[changed]] = connection.execute(
            f"""select count(*)
            from (from "all facts" where {stamp} <= {instant(cut)}) a
            full join "facts so far" b
            on {" and ".join(f"a.{quote(column)} = b.{quote(column)}" for column in key)}
            where a.{stamp} is null or b.{stamp} is null or not ({" and ".join(same)})"""
        ).fetchall()
    if changed:
        raise UserError(
            f"{view.sql}: view '{name}' sees its own future: {changed:,} of its rows up to "
            f"{cut.isoformat()} change when the facts known later are taken away.",
            "Let its windows end at the current row, and stamp a row when all of it is known.",
        )


def _same(column: str, kind: str) -> str:
    a, b = f"a.{quote(column)}", f"b.{quote(column)}"
    equal = f"{a} is not distinct from {b}"
    if kind == "float":
        # A sum in another order may differ in its last bits.
        return f"({equal} or coalesce(abs({a} - {b}) <= 1e-9 * greatest(1, abs({a})), false))"
    return equal
