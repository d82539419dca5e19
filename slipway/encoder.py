"""The one encoder: raw features by name to the float32 matrix that every model reads.

Training fits it on the train window and stores it in the model package; the serving runtime loads
that file. There is no second implementation to drift from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from slipway.rows import Matrix

if TYPE_CHECKING:
    import pyarrow as pa

    from slipway.contract.model import Contract

Columns = Mapping[str, Sequence[Any]]


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
        import pyarrow.compute as pc

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

        `rows` holds Python values, as a request does, or is an Arrow table with the features' Arrow
        types: faster by far for many rows, and its library is not loaded for a request. A null is
        NaN in a number and 0 in a category. Raises `KeyError` for a missing column and `ValueError`
        (`pyarrow.ArrowInvalid` is one) for values that are not of the feature's type.
        """
        if isinstance(rows, Matrix) and rows.names == self._plain:
            return rows.matrix.astype(np.float32, copy=False)
        if not isinstance(rows, Mapping):
            from slipway.arrow import encode_table

            return encode_table(self, rows)
        encoded = [
            read(rows[column.feature])
            for column, read in zip(self.columns, self._readers, strict=True)
        ]
        return np.ascontiguousarray(np.array(encoded, np.float32).T)

    @cached_property
    def _plain(self) -> tuple[str, ...]:
        """The features in order, if the matrix is just their numbers; else nothing."""
        plain = all(not column.categorical and not column.part for column in self.columns)
        return tuple(column.feature for column in self.columns) if plain else ()

    @cached_property
    def _readers(self) -> tuple[Callable[[Sequence[Any]], Sequence[Any]], ...]:
        zone = ZoneInfo(self.timezone)
        return tuple(_reader(column, zone) for column in self.columns)

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


def _reader(column: EncodedColumn, zone: ZoneInfo) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """From a feature's values to a column of numbers; numpy makes a null NaN."""
    if column.categorical:
        code = {category: at for at, category in enumerate(column.categories, 1)}.get
        return lambda values: [code(value, 0) for value in values]
    if column.part:
        part = _PARTS[column.part]
        return lambda values: [
            None if value is None else part(value.astimezone(zone)) for value in values
        ]
    return lambda values: values


_PARTS: dict[str, Callable[[datetime], int]] = {
    "minute_of_day": lambda local: local.hour * 60 + local.minute,
    "hour": lambda local: local.hour,
    "day_of_week": lambda local: local.isoweekday(),
    "day_of_year": lambda local: local.timetuple().tm_yday,
}
