"""Values as they come, to the types that the contract names.

A column is cast only if every value of it can be: one that holds a single stranger stays text, so
that the validation gate can count the strangers and show them. Nothing is rounded or guessed.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from slipway.arrow import ARROW_TYPES
from slipway.contract.model import Column

_NAIVE = pa.timestamp("us")
_INSTANT = ARROW_TYPES["timestamp"]
_WITH_OFFSET = r"[T ]\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_REFUSALS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError)


def conform(values: pa.ChunkedArray, column: Column, zone: str) -> pa.ChunkedArray:
    """`values` as the column's Arrow type, or as text if any value is of another type.

    An integer may be written `517.0`; a moment without an offset is local time in `zone` (its first
    occurrence where the clock is set back, the moment after the gap where it is set forward); NaN
    is null. Raises `TypeError` for nested values, which have no text.
    """
    try:
        return _cast(values, column, zone)
    except _REFUSALS:
        return as_text(values)


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return values.cast(pa.string())
    except _REFUSALS:
        raise TypeError(f"values of type {values.type} are no column of a table") from None


def strangers(texts: pa.ChunkedArray, column: Column, zone: str) -> pa.Array:
    """The distinct texts that are not of the column's type."""
    found: list[pa.Array] = []
    pending = [pc.unique(texts).drop_null()]
    while pending:  # halve until a part casts or a single text is left: few strangers, few casts
        part = pending.pop()
        try:
            _cast(pa.chunked_array([part]), column, zone)
        except _REFUSALS:
            if len(part) == 1:
                found.append(part)
            else:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
    return pa.concat_arrays(found) if found else pa.array([], pa.string())


def _cast(values: pa.ChunkedArray, column: Column, zone: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    kind = ARROW_TYPES[column.type]
    if column.type == "string":
        return values.cast(kind)
    if column.type == "timestamp":
        return _instants(values, column.format, zone)
    if pa.types.is_temporal(values.type):
        raise pa.ArrowInvalid("a moment is not a number")
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        if column.type == "int":
            return _integers(values)
    if column.type == "bool" and not pa.types.is_string(values.type):
        return _truths(values)
    cast = values.cast(kind)
    if column.type == "float":
        return pc.if_else(pc.is_nan(cast), pa.scalar(None, kind), cast)
    return cast


def _integers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        # What pandas writes for integers beside a null, and a plus sign. Not by way of a float: it
        # would change integers beyond 2**53.
        plain = pc.replace_substring_regex(texts, r"^\+?(-?\d+)(\.0*)?$", r"\1")
        return plain.cast(pa.int64())


def _truths(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_boolean(values.type):
        numbers = values.cast(pa.int64())
        if not pc.all(pc.is_in(numbers.drop_null(), pa.array([0, 1]))).as_py():
            raise pa.ArrowInvalid("neither 0 nor 1")
    return values.cast(pa.bool_())


def _instants(values: pa.ChunkedArray, pattern: str | None, zone: str) -> pa.ChunkedArray:
    if pa.types.is_date(values.type):
        return _localized(values.cast(_NAIVE), zone)
    if pa.types.is_timestamp(values.type):
        # What is finer than a microsecond is cut off.
        if values.type.tz:
            return values.cast(_INSTANT, safe=False)
        return _localized(values.cast(_NAIVE, safe=False), zone)
    if pa.types.is_null(values.type):
        return values.cast(_INSTANT)
    if not pa.types.is_string(values.type):
        raise pa.ArrowInvalid("a number is not a moment: its unit is unknown")
    if pattern:
        return _with_pattern(values, pattern, zone)
    try:
        return values.cast(_INSTANT)
    except pa.ArrowInvalid:
        texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(values), r"(\.\d{6})\d+", r"\1")
        offset = pc.match_substring_regex(texts, _WITH_OFFSET)
        nothing = pa.scalar(None, pa.string())
        known = pc.if_else(offset, texts, nothing).cast(_INSTANT)
        local = _localized(pc.if_else(offset, nothing, texts).cast(_NAIVE), zone)
        return pc.coalesce(known, local)


def _localized(naive: pa.ChunkedArray, zone: str) -> pa.ChunkedArray:
    local = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest")
    return local.cast(_INSTANT)


def _with_pattern(values: pa.ChunkedArray, pattern: str, zone: str) -> pa.ChunkedArray:
    """By Python's `strptime`, each distinct text once."""
    encoded = values.combine_chunks().dictionary_encode()
    moments = [datetime.strptime(text, pattern) for text in encoded.dictionary.to_pylist()]
    local = ZoneInfo(zone)
    instants = pa.array([m if m.tzinfo else m.replace(tzinfo=local) for m in moments], _INSTANT)
    return pa.chunked_array([instants.take(encoded.indices)])
