"""What changed between two versions of a table: rows, schema, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from slipway.fingerprint import TYPE_NAMES
from slipway.profile import Value, profile


@dataclass(frozen=True)
class ColumnChange:
    """One column before and after. `cells` counts the rows, present in both, where it differs; None
    where rows cannot be matched."""

    column: str
    cells: int | None
    nulls: tuple[float, float]
    mean: tuple[Value, Value]
    min: tuple[Value, Value]
    max: tuple[Value, Value]


@dataclass(frozen=True)
class TableDiff:
    """Rows are matched by `key`. Without a key that is unique in both, whole rows are compared: a
    row that changed then counts as one removed and one added, and `changed` is None."""

    key: tuple[str, ...]
    rows: tuple[int, int]
    added: int
    removed: int
    changed: int | None
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    types: tuple[tuple[str, str, str], ...]
    """(column, type before, type after)"""
    columns: tuple[ColumnChange, ...]
    """Those whose values or distribution differ."""


def diff_tables(old: pa.Table, new: pa.Table, key: Sequence[str] = ()) -> TableDiff:
    """Compare two tables whose columns have types of the contract."""
    common = [name for name in new.column_names if name in old.column_names]
    types = tuple(
        (name, TYPE_NAMES[old.schema.field(name).type], TYPE_NAMES[new.schema.field(name).type])
        for name in common
        if old.schema.field(name).type != new.schema.field(name).type
    )
    retyped = [name for name, _, _ in types]
    usable = bool(key) and set(key) <= set(common) and not set(key) & set(retyped)
    rows = _Rows(old, new, common, retyped)
    matched = usable and rows.unique(key)
    if matched:
        added, removed, changed, cells = rows.by_key(key)
    else:
        (added, removed), changed, cells = rows.whole(), None, {}
    return TableDiff(
        key=tuple(key) if matched else (),
        rows=(old.num_rows, new.num_rows),
        added=added,
        removed=removed,
        changed=changed,
        columns_added=tuple(n for n in new.column_names if n not in common),
        columns_removed=tuple(n for n in old.column_names if n not in common),
        types=types,
        columns=tuple(_distributions(old.select(common), new.select(common), cells)),
    )


def _distributions(old: pa.Table, new: pa.Table, cells: dict[str, int]) -> list[ColumnChange]:
    found = []
    for before, after in zip(profile(old), profile(new), strict=True):
        name = before["column"]
        if cells.get(name) or before != after:
            pairs = {what: (before[what], after[what]) for what in ("nulls", "mean", "min", "max")}
            found.append(ColumnChange(name, cells.get(name), **pairs))
    return found


class _Rows:
    """Both tables in DuckDB. Columns go by their position, so that no name can clash; those whose
    type changed are compared as text."""

    def __init__(self, old: pa.Table, new: pa.Table, common: list[str], retyped: list[str]) -> None:
        import duckdb

        self.names = common
        self.connection = duckdb.connect()
        self.connection.execute("set timezone='UTC'").fetchall()
        for side, table in (("old", old), ("new", new)):
            columns = {
                f"c{at}": table[name].cast(pa.string()) if name in retyped else table[name]
                for at, name in enumerate(common)
            }
            self.connection.register(side, pa.table(columns))

    def unique(self, key: Sequence[str]) -> bool:
        by = ", ".join(self._places(key))
        return all(
            self._first(f"select count(*) = count(distinct ({by},)) from {side}")[0]  # noqa: S608 (c0, c1)
            for side in ("old", "new")
        )

    def by_key(self, key: Sequence[str]) -> tuple[int, int, int, dict[str, int]]:
        """Rows added, removed and changed, and per column the changed cells."""
        on = " and ".join(f"old.{c} is not distinct from new.{c}" for c in self._places(key))
        others = [name for name in self.names if name not in key]
        differs = [f"old.{c} is distinct from new.{c}" for c in self._places(others)]
        counts = ["old.here is null", "new.here is null"]
        counts += [
            f"old.here and new.here and ({condition})"
            for condition in (" or ".join(differs) or "false", *differs)
        ]
        selected = ", ".join(f"count(*) filter ({condition})" for condition in counts)
        added, removed, changed, *cells = self._first(
            f"select {selected} from (select *, true as here from old) old "  # noqa: S608 (c0, c1)
            f"full join (select *, true as here from new) new on {on}"
        )
        return added, removed, changed, dict(zip(others, cells, strict=True))

    def whole(self) -> tuple[int, int]:
        """Rows added and removed, duplicates counted."""
        return (
            self._first("select count(*) from (from new except all from old)")[0],
            self._first("select count(*) from (from old except all from new)")[0],
        )

    def _places(self, names: Sequence[str]) -> list[str]:
        return [f"c{self.names.index(name)}" for name in names]

    def _first(self, query: str) -> tuple[Any, ...]:
        rows: list[tuple[Any, ...]] = self.connection.execute(query).fetchall()
        return rows[0]
