"""A source's table as the pandas frame that Great Expectations is quick with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.validate.suite import order_column
from slipway.arrow import ARROW_TYPES
from slipway.contract.model import Column, Source
from slipway.errors import UserError
from slipway.profile import plain
from slipway.sources.columns import strangers

_OF_TYPE = {
    "int": np.int64(0),
    "float": np.float64(0),
    "bool": np.bool_(False),
    "timestamp": np.datetime64(0, "us"),
}


def make_frame(table: pa.Table, source: Source, zone: str) -> pd.DataFrame:
    """One pandas column a column of the table, and one for `ordered_by`.

    In forms that Great Expectations is quick with: texts as categories, integers beside nulls as
    floats, moments in UTC that do not say so. A column that was kept as text for strangers in it
    holds those as text, and some value of the right type elsewhere, so that the type rule counts
    the strangers alone. Raises `UserError` for a table that this contract cannot have made.
    """
    columns = {
        name: _column(table[name], name, source.columns[name], zone)
        for name in table.column_names
        if name in source.columns
    }
    if source.ordered_by and set(source.ordered_by) <= set(table.column_names):
        columns[order_column(source.ordered_by)] = _disorder(table, source.ordered_by)
    return pd.DataFrame(columns, copy=False)


def _column(values: pa.ChunkedArray, name: str, column: Column, zone: str) -> pd.Series:
    if values.type == ARROW_TYPES[column.type]:
        return _typed(values)
    if pa.types.is_string(values.type):
        found = strangers(values, column, zone)
        if len(found):
            return _mixed(values, pc.is_in(values, value_set=found), _OF_TYPE[column.type])
    raise UserError(
        f"column '{name}' is stored as {values.type}, the contract says {column.type}: this data "
        "version was made with another contract.",
        "Run the pipeline from its start.",
    )


def _typed(values: pa.ChunkedArray) -> pd.Series:
    if pa.types.is_string(values.type):
        return values.to_pandas(strings_to_categorical=True)
    if pa.types.is_timestamp(values.type):
        naive = values.cast(pa.timestamp("us"))
        try:
            return naive.cast(pa.timestamp("ns")).to_pandas()
        except pa.ArrowInvalid:  # before 1677 or after 2262
            return naive.to_pandas()
    if values.null_count and pa.types.is_integer(values.type):
        try:
            return values.cast(pa.float64()).to_pandas()
        except pa.ArrowInvalid:  # beyond 2**53, where floats have gaps
            return values.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    if values.null_count and pa.types.is_boolean(values.type):
        return values.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return values.to_pandas()


def _mixed(texts: pa.ChunkedArray, strange: pa.ChunkedArray, stand_in: np.generic) -> pd.Series:
    found = np.array([stand_in] * len(texts), dtype=object)
    found[texts.is_null().to_numpy()] = None
    at = strange.to_numpy()
    found[at] = texts.to_numpy()[at]
    return pd.Series(found)


def _disorder(table: pa.Table, columns: tuple[str, ...]) -> pd.Series:
    """Null where a row comes in order, else `(2013, 2, 1) after (2013, 3, 1)`.

    Columns are compared from the first to the last; a null is neither before nor after anything,
    which leaves it to the `nulls` rule.
    """
    tied = np.ones(max(table.num_rows - 1, 0), dtype=bool)
    broken = np.zeros_like(tied)
    for name in columns:
        values = table[name].combine_chunks()
        before, after = values[:-1], values[1:]
        broken |= tied & _flags(pc.less(after, before))
        tied &= _flags(pc.equal(after, before))
    told = np.full(table.num_rows, None, dtype=object)
    for at in np.flatnonzero(broken) + 1:
        told[at] = f"{_row(table, columns, at)} after {_row(table, columns, at - 1)}"
    return pd.Series(pd.Categorical(told))


def _flags(values: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return flags


def _row(table: pa.Table, columns: tuple[str, ...], at: int) -> str:
    return f"({', '.join(str(plain(table[name][int(at)].as_py())) for name in columns)})"
