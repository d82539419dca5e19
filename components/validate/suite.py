"""The contract of a source as a Great Expectations suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import great_expectations.expectations as gxe
from great_expectations import ExpectationSuite

from slipway.contract import Contract
from slipway.contract.model import Bound, Column

_PANDAS_TYPES = {
    "int": ["int64", "float64", "Int64Dtype"],
    "float": ["float64"],
    "bool": ["bool", "BooleanDtype"],
    "timestamp": ["datetime64[ns]", "datetime64[us]"],
}
"""The contract's types as `components.validate.frame` hands them to Great Expectations. Any text is
a string, so that type has no rule to break."""


def make_suite(contract: Contract, source_name: str, types: Mapping[str, str]) -> ExpectationSuite:
    """Every rule of a source. `types` are the columns that are there, and their types.

    Rules about the values of a column that is missing, or of another type, are left out: they have
    no answer, and the rule that says so is critical. Each expectation's `meta` names its rule.
    """
    source = contract.sources[source_name]
    sound = {name for name, column in source.columns.items() if types.get(name) == column.type}
    rules: list[gxe.Expectation] = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=source.min_rows, severity="critical", meta={"rule": "min_rows"}
        )
    ]
    for name, column in source.columns.items():
        rules.append(
            gxe.ExpectColumnToExist(column=name, severity="critical", meta={"rule": "exists"})
        )
        if name in types:
            rules += _any_values(name, column)
        if name in sound:
            rules += _typed_values(name, column, contract)
    if source.key and set(source.key) <= sound:
        rules.append(_unique(list(source.key)))
    if source.ordered_by and set(source.ordered_by) <= sound:
        rules.append(
            # Each row that breaks the order is spelt out in a column of its own: Great Expectations
            # knows the order of one column only.
            gxe.ExpectColumnValuesToBeNull(
                column=order_column(source.ordered_by),
                severity="critical",
                meta={"rule": "ordered_by"},
            )
        )
    return ExpectationSuite(source_name, expectations=rules)


def order_column(columns: tuple[str, ...]) -> str:
    return f"order by {', '.join(columns)}"


def _any_values(name: str, column: Column) -> Iterator[gxe.Expectation]:
    if column.type in _PANDAS_TYPES:
        yield gxe.ExpectColumnValuesToBeInTypeList(
            column=name,
            type_list=_PANDAS_TYPES[column.type],
            severity="critical",
            meta={"rule": "type"},
        )
    if column.nulls < 1:
        yield gxe.ExpectColumnValuesToNotBeNull(
            column=name,
            mostly=1 - column.nulls,
            severity=column.severity,
            meta={"rule": "nulls"},
        )


def _typed_values(name: str, column: Column, contract: Contract) -> Iterator[gxe.Expectation]:
    if column.range and column.range != (None, None):
        low, high = (_bound(bound, contract) for bound in column.range)
        yield gxe.ExpectColumnValuesToBeBetween(
            column=name,
            min_value=low,
            max_value=high,
            severity=column.severity,
            meta={"rule": "range"},
        )
    if column.values:
        yield gxe.ExpectColumnValuesToBeInSet(
            column=name,
            value_set=list(column.values),
            severity=column.severity,
            meta={"rule": "values"},
        )


def _bound(bound: Bound, contract: Contract) -> Bound:
    if isinstance(bound, datetime):
        return contract.localize(bound).astimezone(UTC).replace(tzinfo=None)
    return bound


def _unique(key: list[str]) -> gxe.Expectation:
    if len(key) == 1:
        return gxe.ExpectColumnValuesToBeUnique(
            column=key[0], severity="critical", meta={"rule": "key"}
        )
    return gxe.ExpectCompoundColumnsToBeUnique(
        column_list=key, severity="critical", meta={"rule": "key"}
    )
