"""The Great Expectations suite of a source, derived from the contract.

A rule that Great Expectations has no expectation for becomes a column: `Prepared` adds what the
rule needs to the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from slipway.contract.model import Column, Source
from slipway.encoder import ARROW_TYPES
from slipway.sources.columns import strangers

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.expectation import Expectation

ORDERED = "rows are in order"
"""Helper column: whether a row comes after the one before it."""


@dataclass(frozen=True)
class Prepared:
    """A source's rows as the suite wants them, and what is wrong with the types of columns."""

    table: pa.Table
    foreign: dict[str, list[str]]
    """For each column that is kept as text, the texts that are not of its contract's type."""

    def to_pandas(self) -> pd.DataFrame:
        """Texts as categories: three times faster to check than objects, and far smaller."""
        import pandas as pd

        return self.table.to_pandas(
            strings_to_categorical=True, types_mapper={pa.int64(): pd.Int64Dtype()}.get
        )


def prepare(table: pa.Table, source: Source, zone: str) -> Prepared:
    foreign = {
        name: strangers(table[name], column, zone).to_pylist()
        for name, column in source.columns.items()
        if name in table.column_names and table[name].type != ARROW_TYPES[column.type]
    }
    # Rows are compared with the one before them, by the first column that differs.
    if source.ordered_by and set(source.ordered_by) <= set(table.column_names):
        table = table.append_column(ORDERED, _ordered(table, source.ordered_by))
    return Prepared(table, foreign)


def suite_of(name: str, source: Source, prepared: Prepared) -> ExpectationSuite:
    """Every rule of the contract about one source. `meta.rule` is the contract's word for it."""
    import great_expectations as gx
    import great_expectations.expectations as gxe

    expectations: list[Expectation] = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=source.min_rows, severity="critical", meta={"rule": "min_rows"}
        )
    ]
    for column_name, column in source.columns.items():
        expectations.append(
            gxe.ExpectColumnToExist(
                column=column_name, severity="critical", meta={"rule": "missing column"}
            )
        )
        if column_name in prepared.table.column_names:
            expectations += _column(column_name, column, prepared.foreign.get(column_name))
    if set(source.key) <= set(prepared.table.column_names):
        meta = {"rule": "key"}
        if len(source.key) == 1:
            expectations.append(
                gxe.ExpectColumnValuesToBeUnique(
                    column=source.key[0], severity="critical", meta=meta
                )
            )
        elif source.key:
            expectations.append(
                gxe.ExpectCompoundColumnsToBeUnique(
                    column_list=list(source.key), severity="critical", meta=meta
                )
            )
    if ORDERED in prepared.table.column_names:
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=ORDERED,
                value_set=[True],
                severity="critical",
                meta={"rule": "ordered_by", "columns": list(source.ordered_by)},
            )
        )
    return gx.ExpectationSuite(name, expectations=expectations)


def _column(name: str, column: Column, foreign: list[str] | None) -> list[Expectation]:
    import great_expectations.expectations as gxe

    found: list[Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(
            column=name,
            mostly=1 - column.nulls,
            severity=column.severity,
            meta={"rule": "nulls", "allowed": column.nulls},
        )
    ]
    if foreign is not None:
        # Ranges and values of another type mean nothing: the type alone is checked.
        return [
            *found,
            gxe.ExpectColumnValuesToNotBeInSet(
                column=name,
                value_set=foreign,
                severity="critical",
                meta={"rule": "type", "type": column.type},
            ),
        ]
    if column.range:
        low, high = column.range
        found.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=name,
                min_value=low,
                max_value=high,
                severity=column.severity,
                meta={"rule": "range"},
            )
        )
    if column.values is not None:
        found.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=name,
                value_set=list(column.values),
                severity=column.severity,
                meta={"rule": "values"},
            )
        )
    return found


def _ordered(table: pa.Table, columns: tuple[str, ...]) -> pa.Array:
    later = pa.array([False] * max(len(table) - 1, 0))
    equal = pa.array([True] * max(len(table) - 1, 0))
    for name in columns:
        values = table[name].combine_chunks()
        before, after = values[:-1], values[1:]
        greater = pc.fill_null(pc.greater(after, before), False)
        later = pc.or_(later, pc.and_(equal, greater))
        equal = pc.and_(equal, pc.fill_null(pc.equal(after, before), False))
    return pa.concat_arrays([pa.array([True] * min(len(table), 1)), pc.or_(later, equal)])


def bounds_in(zone: Any, source: Source) -> Source:
    """The source with the moments of its ranges in the project's time zone."""
    from datetime import datetime

    def local(bound: Any) -> Any:
        naive = isinstance(bound, datetime) and bound.tzinfo is None
        return bound.replace(tzinfo=zone) if naive else bound

    columns = {
        name: column.model_copy(update={"range": tuple(local(b) for b in column.range)})
        if column.range
        else column
        for name, column in source.columns.items()
    }
    return source.model_copy(update={"columns": columns})
