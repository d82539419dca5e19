"""What a column holds, in a few numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slipway.fingerprint import TYPE_NAMES

Value = int | float | str | bool | None


def profile(table: pa.Table) -> list[dict[str, Any]]:
    """Per column: column, type, nulls (share of the rows), min, max, mean, distinct (nulls apart).

    All JSON-able: moments are ISO 8601 in UTC; the mean of texts and moments, and what is not
    finite, is None.
    """
    return [_column(name, table[name]) for name in table.column_names]


def _column(name: str, values: pa.ChunkedArray) -> dict[str, Any]:
    low_high = pc.min_max(values)
    number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    has_mean = number or pa.types.is_boolean(values.type)
    return {
        "column": name,
        "type": TYPE_NAMES[values.type],
        "nulls": values.null_count / len(values) if len(values) else 0.0,
        "min": plain(low_high["min"].as_py()),
        "max": plain(low_high["max"].as_py()),
        "mean": plain(pc.mean(values).as_py()) if has_mean else None,
        "distinct": pc.count_distinct(values, mode="only_valid").as_py(),
    }


def plain(value: Any) -> Value:
    """A value as JSON has it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    result: Value = value
    return result
