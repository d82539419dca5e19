"""The one encoder: raw features by name to the float32 matrix that every model reads.

Training fits it on the train window and stores it in the model package; the serving runtime loads
that file. There is no second implementation to drift from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slipway.contract.model import Contract

ARROW_TYPES: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
Columns = Mapping[str, "pa.ChunkedArray | pa.Array | Sequence[Any]"]


@dataclass(frozen=True)
class InputFeature:
    """One raw feature of a model, in the order of its signature."""

    name: str
    """`view__feature` for an online feature, its own name for a request feature."""
    type: str
    source: str
    """`request`, or the feature view that it comes from."""
    on_null: str
    low: float | None = None
    high: float | None = None
    parts: tuple[str, ...] = ()


def input_features(contract: Contract) -> tuple[InputFeature, ...]:
    """The model's raw features: the request's, then each view's, in the contract's order."""
    request = [
        InputFeature(
            name,
            item.type,
            "request",
            item.on_null,
            *(item.range or (None, None)),
            item.parts or (),
        )
        for name, item in contract.request.items()
    ]
    online = [
        InputFeature(
            f"{view}__{name}", item.type, view, item.on_null, *(item.range or (None, None))
        )
        for view, features in contract.views.items()
        for name, item in features.features.items()
    ]
    return (*request, *online)


@dataclass(frozen=True)
class EncodedColumn:
    """One column of the matrix: a number, a category's code, or a part of a timestamp."""

    name: str
    feature: str
    part: str = ""
    categories: tuple[str, ...] = ()
    """Codes 1, 2, …; 0 stands for null and for what the train window did not hold."""

    @property
    def categorical(self) -> bool:
        return bool(self.categories)


@dataclass(frozen=True)
class Encoder:
    features: tuple[InputFeature, ...]
    columns: tuple[EncodedColumn, ...]
    timezone: str

    @classmethod
    def fit(cls, contract: Contract, train: pa.Table) -> Encoder:
        """Learn the categories from the train window's rows."""
        columns: list[EncodedColumn] = []
        features = input_features(contract)
        for feature in features:
            if feature.type == "string":
                found = pc.unique(train[feature.name]).drop_null().to_pylist()
                # A column without a single value still is a category: unknown.
                columns.append(
                    EncodedColumn(feature.name, feature.name, "", tuple(sorted(found)) or ("",))
                )
            elif feature.parts:
                columns += [
                    EncodedColumn(f"{feature.name}.{part}", feature.name, part)
                    for part in feature.parts
                ]
            else:
                columns.append(EncodedColumn(feature.name, feature.name))
        return cls(features, tuple(columns), contract.timezone)

    def encode(self, rows: Columns | pa.Table) -> npt.NDArray[np.float32]:
        """Raw columns by name, n rows each, to float32 [n, len(columns)].

        A null is NaN in a number and 0 in a category. Raises `KeyError` for a missing column and
        `pyarrow.ArrowInvalid` for values that are not of the feature's type.
        """
        arrays = {
            feature.name: _as_array(rows[feature.name], ARROW_TYPES[feature.type])
            for feature in self.features
        }
        count = len(next(iter(arrays.values())))
        matrix = np.empty((count, len(self.columns)), np.float32)
        for at, column in enumerate(self.columns):
            array = arrays[column.feature]
            if column.categorical:
                codes = pc.index_in(array, value_set=pa.array(column.categories, pa.string()))
                matrix[:, at] = pc.fill_null(pc.add(codes, 1), 0).to_numpy(zero_copy_only=False)
            else:
                number = _part(array, column.part, self.timezone) if column.part else array
                matrix[:, at] = pc.cast(number, pa.float64()).to_numpy(zero_copy_only=False)
        return matrix

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        raw = json.loads(text)
        return cls(
            tuple(
                InputFeature(**item | {"parts": tuple(item["parts"])}) for item in raw["features"]
            ),
            tuple(
                EncodedColumn(**item | {"categories": tuple(item["categories"])})
                for item in raw["columns"]
            ),
            raw["timezone"],
        )


def _as_array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values if values.type == kind else values.cast(kind)
    return pa.array(values, kind)


def _part(moments: pa.Array, part: str, timezone: str) -> pa.Array:
    local = moments.cast(pa.timestamp("us", tz=timezone))
    if part == "minute_of_day":
        return pc.add(pc.multiply(pc.hour(local), 60), pc.minute(local))
    if part == "hour":
        return pc.hour(local)
    if part == "day_of_week":
        return pc.day_of_week(local, count_from_zero=False)
    return pc.day_of_year(local)
