"""Rows of numbers as one matrix that can still be read by column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


class Matrix(Mapping[str, list[Any]]):
    """Named columns over `matrix`, float [n, len(names)]; a null is NaN there and None here."""

    __slots__ = ("matrix", "names")

    def __init__(self, names: tuple[str, ...], matrix: npt.NDArray[np.floating[Any]]) -> None:
        self.names = names
        self.matrix = matrix

    def __getitem__(self, name: str) -> list[Any]:
        try:
            at = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return [None if value != value else value for value in self.matrix[:, at].tolist()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
