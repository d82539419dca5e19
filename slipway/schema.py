"""What a request must hold, derived from a model's signature, and the sentence when it does not.

Two shapes of a row: `row_schema` is the model's full row of raw features, what the predictor takes;
`request_schema` is what a client knows, entity keys and request features, what the transformer
takes. A field must be present; where it may be unknown, it is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

OUTPUT = "prediction"
_INT64 = 2**63
_FLOAT32 = 3.4028234663852886e38
"""The model reads 32-bit floats; beyond it a number would become infinite."""
_INTEGERS = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (64, 32, 16, 8))
_DATATYPES = {
    "int": _INTEGERS,
    "float": ("FP64", "FP32", "FP16", *_INTEGERS),
    "string": ("BYTES",),
    "timestamp": ("BYTES",),
    "bool": ("BOOL",),
}
_PREFERRED = {kind: allowed[0] for kind, allowed in _DATATYPES.items()}


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
            raise RequestError(f"{place}: expected {self.expected}, got {_shown(value)}.")
        return read

    def json_schema(self) -> dict[str, Any]:
        kind = {"int": "integer", "float": "number", "bool": "boolean"}.get(self.type, "string")
        low, high = self.low, self.high
        if self.type == "int":
            low = -_INT64 if low is None else low
            high = _INT64 - 1 if high is None else high
        elif self.type == "float":
            low = -_FLOAT32 if low is None else low
            high = _FLOAT32 if high is None else high
        schema: dict[str, Any] = {"type": [kind, "null"] if self.nullable else kind}
        if self.type == "timestamp":
            schema["format"] = "date-time"
        if low is not None:
            schema["minimum"] = low
        if high is not None:
            schema["maximum"] = high
        if self.description:
            schema["description"] = self.description
        return schema


@dataclass(frozen=True)
class Schema:
    """The fields of one row, in order."""

    fields: tuple[Field, ...]

    def from_instances(self, body: Any) -> dict[str, list[Any]]:
        """Columns of a V1 request `{"instances": [{name: value} | [values in order], ...]}`.

        Raises `RequestError` for the first mistake.
        """
        rows = _member(body, "instances", list, "a list of rows")
        if not rows:
            raise RequestError("instances: expected at least one row, got an empty list.")
        names = [field.name for field in self.fields]
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for at, row in enumerate(rows):
            place = f"instances[{at}]"
            if isinstance(row, dict):
                if row.keys() != columns.keys():
                    raise RequestError(f"{place}: {self._difference(row)}")
                values: Iterator[Any] = (row[name] for name in names)
            elif isinstance(row, list):
                if len(row) != len(names):
                    raise RequestError(
                        f"{place}: expected {len(names)} values in the order {', '.join(names)}, "
                        f"got {len(row)}."
                    )
                values = iter(row)
            else:
                raise RequestError(f"{place}: expected an object or a list, got {_shown(row)}.")
            for field, value in zip(self.fields, values, strict=True):
                columns[field.name].append(field.read(value, f"{place}.{field.name}"))
        return columns

    def from_tensors(self, body: Any) -> dict[str, list[Any]]:
        """Columns of a V2 request: one tensor per field, shape [n] or [n, 1], data as JSON.

        Raises `RequestError` for the first mistake.
        """
        inputs = _member(body, "inputs", list, "a list of tensors")
        tensors: dict[str, Any] = {}
        for at, tensor in enumerate(inputs):
            name = _member(tensor, "name", str, "a string", f"inputs[{at}].")
            if name in tensors:
                raise RequestError(f"inputs[{at}]: there is a second tensor '{name}'.")
            tensors[name] = tensor
        if tensors.keys() != {field.name for field in self.fields}:
            raise RequestError(f"inputs: {self._difference(tensors)}")
        columns = {field.name: _tensor(field, tensors[field.name]) for field in self.fields}
        counts = {name: len(values) for name, values in columns.items()}
        if len(set(counts.values())) > 1:
            first = self.fields[0].name
            other = next(name for name in counts if counts[name] != counts[first])
            raise RequestError(
                f"inputs: expected as many rows in every tensor, got {counts[first]} in '{first}' "
                f"and {counts[other]} in '{other}'."
            )
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

    def tensors(self) -> list[dict[str, Any]]:
        """The `inputs` of V2 model metadata."""
        return [
            {"name": field.name, "datatype": _PREFERRED[field.type], "shape": [-1]}
            for field in self.fields
        ]

    def _difference(self, found: Mapping[str, Any]) -> str:
        names = {field.name for field in self.fields}
        missing = [name for name in sorted(names) if name not in found]
        unknown = [name for name in found if name not in names]
        parts = [f"'{name}' is missing" for name in missing[:3]]
        parts += [f"{_shown(name)} is not a field" for name in unknown[:3]]
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


def _member(body: Any, name: str, kind: type, words: str, place: str = "") -> Any:
    """`body[name]`, which must be a `kind`."""
    if not isinstance(body, dict):
        raise RequestError(f"{place or 'body'}: expected a JSON object, got {_shown(body)}.")
    if name not in body:
        raise RequestError(f"{place}{name}: expected {words}, but it is missing.")
    if type(body[name]) is not kind:
        raise RequestError(f"{place}{name}: expected {words}, got {_shown(body[name])}.")
    return body[name]


def _tensor(field: Field, tensor: dict[str, Any]) -> list[Any]:
    place = f"inputs.{field.name}"
    datatype = _member(tensor, "datatype", str, "a string", f"{place}.")
    if datatype not in _DATATYPES[field.type]:
        allowed = " or ".join(_DATATYPES[field.type][:2])
        raise RequestError(f"{place}.datatype: expected {allowed}, got {_shown(datatype)}.")
    shape = _member(tensor, "shape", list, "a list like [1]", f"{place}.")
    sizes = all(type(size) is int and size > 0 for size in shape)
    if not sizes or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestError(f"{place}.shape: expected [rows] or [rows, 1], got {_shown(shape)}.")
    data = _member(tensor, "data", list, "a list of values", f"{place}.")
    if len(shape) == 2 and all(isinstance(item, list) and len(item) == 1 for item in data):
        data = [item[0] for item in data]
    if len(data) != shape[0]:
        raise RequestError(
            f"{place}.data: expected {shape[0]} values as in its shape, got {len(data)}."
        )
    return [field.read(value, f"{place}.data[{at}]") for at, value in enumerate(data)]


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
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
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "string": _read_string,
    "bool": _read_bool,
    "timestamp": _read_timestamp,
}
