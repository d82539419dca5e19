"""Keeping out what a library takes along wherever it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any


class _Absent(MetaPathFinder):
    def __init__(self, module: str) -> None:
        self._module = module

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == self._module:
            raise ModuleNotFoundError(f"{name} is kept out here", name=name)


@contextmanager
def without(module: str) -> Iterator[None]:
    """Inside this block importing `module` fails, as if it were not installed.

    One that is loaded already stays.
    """
    finder = _Absent(module)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def untyped() -> Iterator[None]:
    """Inside this block `typeguard.typechecked` leaves functions as they are.

    It parses the source of each decorated function anew, at import.
    """
    import typeguard

    def unchanged(target: Any = None, **_: Any) -> Any:
        return unchanged if target is None else target

    original = typeguard.typechecked
    typeguard.typechecked = unchanged
    try:
        yield
    finally:
        typeguard.typechecked = original


def import_feast() -> None:
    """Import Feast without torch (3 s and 600 MB, of which we use nothing) and without the run-time
    type checks of its constructors (3 s; what we pass them is made from a checked contract)."""
    with without("torch"), untyped():
        import feast
        import feast.infra.online_stores.sqlite
        import feast.infra.passthrough_provider  # noqa: F401


def import_pyarrow() -> None:
    """Import pyarrow without pandas, which it would look for once, with its first array."""
    with without("pandas"):
        import pyarrow as pa

        pa.array([0])
