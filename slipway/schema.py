"""What a request must hold, derived from a model's signature, and the sentence when it does not.

Two shapes of a row: `row_schema` is the model's full row of raw features, what the predictor takes;
`request_schema` is what a client knows, entity keys and request features, what the transformer
takes. A field must be present; where it may be unknown, it is null.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from functools import cached_property
from itertools import chain, starmap
from operator import itemgetter
from reprlib import Repr
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.rows import Matrix

OUTPUT = "prediction"
_INT64 = 2**63
_FLOAT32 = 3.4028234663852886e38
"""The model reads 32-bit floats; beyond it a number would become infinite."""

Columns = Mapping[str, list[Any]]
"""n values by field, as Python's own types; null is None, a timestamp knows its offset."""


class RequestError(Exception):
    """A request that is refused: an HTTP status and one sentence for the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True)
class Field:
    """One named value of a row."""

    name: str
    type: str
    nullable: bool
    low: float | None = None
    high: float | None = None
    description: str = ""

    @property
    def expected(self) -> str:
        """What a client must send, in words."""
        text = {
            "int": "an integer of 64 bits",
            "float": "a number of 32 bits",
            "string": "a string",
            "timestamp": "a time with its offset, like 2013-11-05T18:00:00-05:00",
            "bool": "true or false",
        }[self.type]
        if self.low is not None and self.high is not None:
            text += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            text += f" from {self.low:g}"
        elif self.high is not None:
            text += f" up to {self.high:g}"
        return f"{text} or null" if self.nullable else text

    def read(self, value: Any, place: str) -> Any:
        """The Python value of a JSON value. Raises `RequestError` that names `place`."""
        if value is None and self.nullable:
            return None
        read = _READERS[self.type](value)
        inside = read is not None and (
            (self.low is None or read >= self.low) and (self.high is None or read <= self.high)
        )
        if not inside:
            raise RequestError(f"{place}: expected {self.expected}, got {shown(value)}.")
        return read

    @cached_property
    def read_column(self) -> Callable[[Sequence[Any]], list[Any] | None]:
        """Reads a column at once; gives nothing if a value of it needs the words of `read`."""
        types = _TYPES[self.type] | ({type(None)} if self.nullable else set())
        read = _READERS[self.type]
        if self.type == "timestamp":

            def timestamps(values: Sequence[Any]) -> list[Any] | None:
                if not types.issuperset(map(type, values)):
                    return None
                found = [None if value is None else read(value) for value in values]
                return found if found.count(None) == values.count(None) else None

            return timestamps
        if self.type in ("string", "bool"):
            return lambda values: list(values) if types.issuperset(map(type, values)) else None
        low, high = self.bounds

        def numbers(values: Sequence[Any]) -> list[Any] | None:
            found = set(map(type, values))
            if not types >= found:
                return None
            present = [v for v in values if v is not None] if type(None) in found else values
            # Only the sum is sure to find a NaN, which binary tensors can hold.
            inside = not present or (
                low <= min(present) and max(present) <= high and math.isfinite(sum(present))
            )
            return list(values) if inside else None

        return numbers

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest number, both included."""
        low, high = (-_INT64, _INT64 - 1) if self.type == "int" else (-_FLOAT32, _FLOAT32)
        return (
            low if self.low is None else max(low, self.low),
            high if self.high is None else min(high, self.high),
        )

    def json_schema(self) -> dict[str, Any]:
        kind = {"int": "integer", "float": "number", "bool": "boolean"}.get(self.type, "string")
        schema: dict[str, Any] = {"type": [kind, "null"] if self.nullable else kind}
        if self.type == "timestamp":
            schema["format"] = "date-time"
        if self.type in ("int", "float"):
            schema["minimum"], schema["maximum"] = self.bounds
        if self.description:
            schema["description"] = self.description
        return schema


@dataclass(frozen=True)
class Schema:
    """The fields of one row, in order."""

    fields: tuple[Field, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def numeric(self) -> bool:
        """Whether a row is a row of a matrix."""
        return all(field.type in ("int", "float") for field in self.fields)

    @cached_property
    def fractional(self) -> bool:
        """Whether some field is more than an integer."""
        return any(field.type != "int" for field in self.fields)

    def from_instances(self, body: Any, may_hold_bools: bool = True) -> Columns:
        """Columns of a V1 request `{"instances": [{name: value} | [values in order], ...]}`.

        `may_hold_bools`: whether a bool may be among numbers; to look for one takes its time.
        Raises `RequestError` for the first mistake.
        """
        rows = instances(body)
        columns = self._read_at_once(rows, may_hold_bools)
        return self._read_closely(rows) if columns is None else columns

    def _read_at_once(self, rows: list[Any], may_hold_bools: bool) -> Columns | None:
        """Columns of rows without a mistake; nothing where one may be."""
        kinds = set(map(type, rows))
        if kinds == {dict}:
            if set(map(len, rows)) != {len(self.fields)}:
                return None
            try:
                rows = list(map(self._pick, rows))
            except KeyError:
                return None
        elif kinds != {list}:
            return None
        if self._plain and not (may_hold_bools and bool in map(type, chain.from_iterable(rows))):
            # Quicker than numpy, refuses what is no number, and lets none become infinite.
            with suppress(OverflowError, struct.error):
                packed = b"".join(starmap(self._pack, rows))
                return Matrix(self.names, np.frombuffer(packed, "<f4").reshape(len(rows), -1))
        if set(map(len, rows)) != {len(self.fields)}:
            return None
        columns = {}
        for field, values in zip(self.fields, zip(*rows, strict=True), strict=True):
            column = field.read_column(values)
            if column is None:
                return None
            columns[field.name] = column
        return columns

    def matrix(
        self, values: list[Any] | npt.NDArray[Any], rows: int, may_hold_bools: bool = True
    ) -> Matrix | None:
        """Rows of any numbers of 32 bits, one after the other, where such rows are right as they
        are; nothing where a closer look is needed."""
        if not self._plain:
            return None
        if isinstance(values, list):
            if may_hold_bools and bool in map(type, values):
                return None
            try:
                packed = struct.pack(f"<{len(values)}f", *values)
            except (OverflowError, struct.error):
                return None
            matrix = np.frombuffer(packed, "<f4")
        else:
            matrix = np.asarray(values, np.float32)
            # One sum finds an infinity anywhere. It may overflow itself, too: then a closer look.
            if not math.isfinite(matrix.sum()):
                return None
        return Matrix(self.names, matrix.reshape(rows, -1))

    @cached_property
    def _pack(self) -> Callable[..., bytes]:
        return struct.Struct(f"<{len(self.fields)}f").pack

    @cached_property
    def _plain(self) -> bool:
        return all(
            field.type == "float" and not field.nullable and field.bounds == (-_FLOAT32, _FLOAT32)
            for field in self.fields
        )

    @cached_property
    def _pick(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        if len(self.fields) == 1:
            [name] = self.names
            return lambda row: (row[name],)
        return itemgetter(*self.names)

    def _read_closely(self, rows: list[Any]) -> Columns:
        names = self.names
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for at, row in enumerate(rows):
            place = f"instances[{at}]"
            if isinstance(row, dict):
                if row.keys() != columns.keys():
                    raise RequestError(f"{place}: {self.difference(row)}")
                values = [row[name] for name in names]
            elif isinstance(row, list):
                if len(row) != len(names):
                    raise RequestError(
                        f"{place}: expected {len(names)} values in the order {', '.join(names)}, "
                        f"got {len(row)}."
                    )
                values = row
            else:
                raise RequestError(f"{place}: expected an object or a list, got {shown(row)}.")
            for field, value in zip(self.fields, values, strict=True):
                columns[field.name].append(field.read(value, f"{place}.{field.name}"))
        return columns

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of a V1 request with rows as objects."""
        row = {
            "type": "object",
            "properties": {field.name: field.json_schema() for field in self.fields},
            "required": [field.name for field in self.fields],
            "additionalProperties": False,
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"instances": {"type": "array", "minItems": 1, "items": row}},
            "required": ["instances"],
        }

    def difference(self, found: Mapping[str, Any]) -> str:
        """What is missing in, or strange to, the names of a row or of tensors."""
        names = {field.name for field in self.fields}
        missing = [name for name in sorted(names) if name not in found]
        unknown = [name for name in found if name not in names]
        parts = [f"'{name}' is missing" for name in missing[:3]]
        parts += [f"{shown(name)} is not a field" for name in unknown[:3]]
        rest = len(missing) + len(unknown) - len(parts)
        more = f", and {rest} more" if rest else ""
        return f"{', '.join(parts)}{more}; expected {', '.join(f.name for f in self.fields)}."


def row_schema(signature: Mapping[str, Any]) -> Schema:
    """The model's full row: every raw feature, in the order of the signature."""
    return Schema(tuple(_feature(item) for item in signature["features"]))


def request_schema(signature: Mapping[str, Any]) -> Schema:
    """What a client sends: request features, then the entities that are not among them.

    An entity may be null: then the features that are looked up by it are missing.
    """
    fields = [_feature(item) for item in signature["features"] if item["source"] == "request"]
    sent = {field.name for field in fields}
    entities = [
        Field(name, item["type"], True, description=item["description"])
        for name, item in signature["entities"].items()
        if name not in sent
    ]
    return Schema((*fields, *entities))


def _feature(item: Mapping[str, Any]) -> Field:
    return Field(item["name"], item["type"], item["on_null"] == "keep", *item["range"])


def instances(body: Any) -> list[Any]:
    """The rows of a V1 request, at least one. Raises `RequestError`."""
    rows: list[Any] = member(body, "instances", list, "a list of rows")
    if not rows:
        raise RequestError("instances: expected at least one row, got an empty list.")
    return rows


def member(body: Any, name: str, kind: type, words: str, place: str = "") -> Any:
    """`body[name]`, which must be a `kind`; `place` is the body's own. Raises `RequestError`."""
    if type(body) is dict and type(body.get(name)) is kind:
        return body[name]
    if not isinstance(body, dict):
        raise RequestError(f"{place or 'body'}: expected a JSON object, got {shown(body)}.")
    where = f"{place}.{name}" if place else name
    if name not in body:
        raise RequestError(f"{where}: expected {words}, but it is missing.")
    raise RequestError(f"{where}: expected {words}, got {shown(body[name])}.")


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 50
_SHORT.maxlevel = _SHORT.maxlist = _SHORT.maxdict = 3


def shown(value: Any) -> str:
    """A client's value in a sentence, however large it is."""
    text = "null" if value is None else _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_int(value: Any) -> int | None:
    # Data frames turn integers into floats as soon as one is null.
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -_INT64 <= value < _INT64 else None


def _read_float(value: Any) -> float | None:
    if type(value) is not int and type(value) is not float:
        return None
    # Also false for NaN and infinity.
    return float(value) if abs(value) <= _FLOAT32 else None


def _read_string(value: Any) -> str | None:
    return value if type(value) is str else None


def _read_bool(value: Any) -> bool | None:
    return value if type(value) is bool else None


def _read_timestamp(value: Any) -> datetime | None:
    if type(value) is not str:
        return None
    try:
        moment = datetime.fromisoformat(value)
        # So that it exists in every time zone.
        inside = moment.tzinfo and MINYEAR < moment.year < MAXYEAR
        return moment.astimezone(UTC) if inside else None
    except (ValueError, OverflowError):
        return None


_TYPES: dict[str, set[type]] = {
    "int": {int},
    "float": {float, int},
    "string": {str},
    "bool": {bool},
    "timestamp": {str},
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "string": _read_string,
    "bool": _read_bool,
    "timestamp": _read_timestamp,
}
