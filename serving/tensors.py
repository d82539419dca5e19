"""Tensors of the Open Inference Protocol, from JSON, binary parts or gRPC, to columns of values.

A row is one value of every tensor (one tensor per field, of shape [n] or [n, 1]) or, for a model
of numbers alone, one row of a single matrix [n, fields]. Binary data knows no null: a NaN is one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.schema import Columns, Field, RequestError, Schema, shown

_INTEGERS = {
    f"{sign}INT{8 * size}": f"<{sign.lower() or 'i'}{size}"
    for sign in ("", "U")
    for size in (8, 4, 2, 1)
}
_FLOATS = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2"}
_NUMBERS = _FLOATS | _INTEGERS
DATATYPES: dict[str, tuple[str, ...]] = {
    "int": tuple(_INTEGERS),
    "float": tuple(_NUMBERS),
    "string": ("BYTES",),
    "timestamp": ("BYTES",),
    "bool": ("BOOL",),
}
"""What a field's tensor may hold, the preferred one first."""
_LENGTH = struct.Struct("<I")
_SCALARS = {float, int, bool, str}


@dataclass(slots=True)
class Tensor:
    """One input as it came."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Any
    """A flat or nested list, an array, or little-endian bytes; those of BYTES are elements
    that each come after their length in 4 bytes."""


def tensor_metadata(schema: Schema) -> list[dict[str, Any]]:
    """The `inputs` of a model's metadata: one tensor per field."""
    return [
        {"name": field.name, "datatype": DATATYPES[field.type][0], "shape": [-1]}
        for field in schema.fields
    ]


def read_tensors(schema: Schema, tensors: Sequence[Tensor], may_hold_bools: bool = True) -> Columns:
    """Columns of n rows. Raises `RequestError` for the first mistake.

    `may_hold_bools`: whether a bool may be among numbers; to look for one takes its time.
    """
    if len(tensors) == 1 and schema.numeric and len(tensors[0].shape) == 2:
        return _matrix(schema, tensors[0], may_hold_bools)
    found: dict[str, Tensor] = {}
    for at, tensor in enumerate(tensors):
        if tensor.name in found:
            raise RequestError(f"inputs[{at}]: there is a second tensor {shown(tensor.name)}.")
        found[tensor.name] = tensor
    if found.keys() != set(schema.names):
        raise RequestError(f"inputs: {schema.difference(found)}")
    columns = {field.name: _column(field, found[field.name]) for field in schema.fields}
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) > 1:
        first = schema.names[0]
        other = next(name for name in counts if counts[name] != counts[first])
        raise RequestError(
            f"inputs: expected as many rows in every tensor, got {counts[first]} in '{first}' "
            f"and {counts[other]} in '{other}'."
        )
    return columns


def _column(field: Field, tensor: Tensor) -> list[Any]:
    place = f"inputs.{field.name}"
    _check_datatype(tensor, DATATYPES[field.type], place)
    shape = list(tensor.shape)
    if not _positive(shape) or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestError(f"{place}.shape: expected [rows] or [rows, 1], got {shown(shape)}.")
    values = _python(_values(tensor, shape[0], 1, place), field.nullable)
    column = field.read_column(values)
    if column is None:
        column = [field.read(value, f"{place}.data[{at}]") for at, value in enumerate(values)]
    return column


def _matrix(schema: Schema, tensor: Tensor, may_hold_bools: bool) -> Columns:
    place = f"inputs.{tensor.name}"
    _check_datatype(tensor, DATATYPES["float" if schema.fractional else "int"], place)
    rows, width = tensor.shape
    if type(rows) is not int or rows < 1 or type(width) is not int or width != len(schema.fields):
        raise RequestError(
            f"{place}.shape: expected [rows, {len(schema.fields)}], a column for each of "
            f"{', '.join(schema.names)}, got {shown(list(tensor.shape))}."
        )
    values = _values(tensor, rows, width, place)
    plain = schema.matrix(values, rows, may_hold_bools)
    if plain is not None:
        return plain
    columns = {}
    for at, field in enumerate(schema.fields):
        mine = _python(values[at::width], field.nullable)
        column = field.read_column(mine)
        if column is None:
            column = [
                field.read(value, f"{place}.data, row {row}, {field.name}")
                for row, value in enumerate(mine)
            ]
        columns[field.name] = column
    return columns


def _check_datatype(tensor: Tensor, allowed: tuple[str, ...], place: str) -> None:
    if tensor.datatype not in allowed:
        words = " or ".join(allowed[:2])
        raise RequestError(f"{place}.datatype: expected {words}, got {shown(tensor.datatype)}.")


def _positive(shape: Sequence[Any]) -> bool:
    return all(type(size) is int and size > 0 for size in shape)


def _values(
    tensor: Tensor, rows: int, width: int, place: str
) -> list[Any] | npt.NDArray[np.generic]:
    """The rows * width values, one row after the other."""
    data = tensor.data
    if type(data) is bytes:
        return _from_bytes(tensor.datatype, data, rows * width, place)
    if isinstance(data, list) and len(data) == rows * width and type(data[0]) in _SCALARS:
        return data
    # The list may be nested as its shape says; a [rows, 1] may also be flat, and the reverse.
    listed = isinstance(data, list)
    if listed and len(data) == rows and len(tensor.shape) == 2 and set(map(type, data)) == {list}:
        at = next((at for at, row in enumerate(data) if len(row) != width), None)
        if at is not None:
            raise RequestError(f"{place}.data[{at}]: expected {width} values, got {len(data[at])}.")
        data = list(chain.from_iterable(data))
    if len(data) != rows * width:
        raise RequestError(
            f"{place}.data: expected {rows * width} values as in its shape, got {len(data)}."
        )
    if listed and bytes in set(map(type, data)):
        data = [_text(value, f"{place}.data[{at}]") for at, value in enumerate(data)]
    found: list[Any] | npt.NDArray[np.generic] = data
    return found


def _python(values: list[Any] | npt.NDArray[np.generic], nullable: bool) -> list[Any]:
    if isinstance(values, list):
        return values
    found: list[Any] = values.tolist()
    if nullable and values.dtype.kind == "f":
        return [None if value != value else value for value in found]
    return found


def _from_bytes(
    datatype: str, raw: bytes, count: int, place: str
) -> list[Any] | npt.NDArray[np.generic]:
    if datatype == "BYTES":
        return _elements(raw, count, place)
    kind = np.dtype("u1" if datatype == "BOOL" else _NUMBERS[datatype])
    if len(raw) != count * kind.itemsize:
        raise RequestError(
            f"{place}: expected {count * kind.itemsize} bytes for {count} values of {datatype}, "
            f"got {len(raw)}."
        )
    values = np.frombuffer(raw, kind)
    if datatype != "BOOL":
        return values
    if values.max() > 1:
        raise RequestError(f"{place}: expected bytes of 0 or 1, got {values.max()}.")
    return values.astype(bool)


def _elements(raw: bytes, count: int, place: str) -> list[str]:
    """Texts of a binary BYTES tensor."""
    found: list[str] = []
    at = 0
    while at < len(raw) and len(found) < count:
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else len(raw) + 1
        if at > len(raw):
            raise RequestError(
                f"{place}: element {len(found)} is cut off; expected a length in 4 bytes, then as "
                "many bytes."
            )
        found.append(_text(bytes(raw[start:at]), f"{place}, element {len(found)}"))
    if len(found) != count or at != len(raw):
        raise RequestError(f"{place}: expected {count} elements as in its shape, got others.")
    return found


def _text(value: Any, place: str) -> Any:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise RequestError(f"{place}: expected UTF-8, got {shown(value)}.") from None
