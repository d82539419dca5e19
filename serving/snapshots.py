"""What the workers of one server counted: each leaves it in a file, any of them reads all.

lock                    held shared while files are read, exclusively while they are folded
<worker>.alive          held locked by its worker, which the kernel lets go when it dies
<worker>.json           its last snapshot
ended.json              the totals of all workers that were dead when another one started
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

Value = float | list[float]
"""A number, or a histogram's counts by bucket followed by the sum of what was observed."""
Key = tuple[str, tuple[str, ...]]
"""A metric's name and the values of its labels."""
Series = dict[Key, Value]


@dataclass
class Snapshot:
    """Of one worker (or, added, of several): `totals` only grow and outlive it, `gauges` hold
    while it lives."""

    pids: list[int]
    totals: Series = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)


def add(series: Series, more: Series) -> None:
    """Add `more` to `series`, number by number."""
    for key, value in more.items():
        held = series.get(key)
        if held is None:
            series[key] = value
        elif isinstance(held, list) and isinstance(value, list):
            series[key] = [a + b for a, b in zip(held, value, strict=True)]
        elif not isinstance(held, list) and not isinstance(value, list):
            series[key] = held + value


class Snapshots:
    """The snapshots in `folder`, which must be new for each start of a server.

    Made in the worker process itself, after any fork: a lock marks it as alive.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        with self._locked(fcntl.LOCK_EX):
            self._alive = os.open(folder / f"{self._name}.alive", os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            self._fold()

    def write(self, snapshot: Snapshot) -> None:
        """Replace this worker's file. Raises `OSError` where the disk is full."""
        content = {
            "pids": snapshot.pids,
            "totals": _listed(snapshot.totals),
            "gauges": _listed(snapshot.gauges),
        }
        self._replace(self._name, content)

    def others(self) -> tuple[list[Snapshot], Series]:
        """The last snapshots of the other live workers, and the totals of those that ended."""
        with self._locked(fcntl.LOCK_SH):
            ended, folded = self._ended()
            live = []
            for name in self._names():
                snapshot = self._read(name)
                if name == self._name or name in folded or snapshot is None:
                    continue
                if self._lives(name):
                    live.append(snapshot)
                else:
                    add(ended, snapshot.totals)
            return live, ended

    def close(self) -> None:
        """This worker is over; its last snapshot stays."""
        os.close(self._alive)

    def _fold(self) -> None:
        """Move the totals of dead workers into one file, so that a crash loop does not leave
        thousands. A file that was folded, but not removed before a crash, is named in it."""
        ended, folded = self._ended()
        for name in folded:
            self._remove(name)
        dead = [name for name in self._names() if not self._lives(name)]
        for name in dead:
            snapshot = self._read(name)
            if snapshot:
                add(ended, snapshot.totals)
        if dead:
            self._replace("ended", {"totals": _listed(ended), "folded": dead})
        for name in dead:
            self._remove(name)

    def _ended(self) -> tuple[Series, list[str]]:
        try:
            content = orjson.loads((self._folder / "ended.json").read_bytes())
        except FileNotFoundError:
            return {}, []
        return _series(content["totals"]), content["folded"]

    def _names(self) -> Iterator[str]:
        return (path.stem for path in self._folder.glob("*.alive"))

    def _lives(self, name: str) -> bool:
        handle = os.open(self._folder / f"{name}.alive", os.O_RDONLY)
        try:
            # Shared, so that two that ask at once do not take each other for the worker.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _read(self, name: str) -> Snapshot | None:
        try:
            content = orjson.loads((self._folder / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return None  # it has just started, or did not get so far
        return Snapshot(content["pids"], _series(content["totals"]), _series(content["gauges"]))

    def _remove(self, name: str) -> None:
        for ending in ("json", "alive"):
            (self._folder / f"{name}.{ending}").unlink(missing_ok=True)

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        # Without fsync: the counts need not outlive the machine.
        temporary = self._folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(orjson.dumps(content))
        temporary.replace(self._folder / f"{name}.json")

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        handle = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _listed(series: Mapping[Key, Value]) -> list[tuple[str, tuple[str, ...], Value]]:
    return [(name, labels, value) for (name, labels), value in series.items()]


def _series(listed: Iterable[list[Any]]) -> dict[Key, Any]:
    return {(name, tuple(labels)): value for name, labels, value in listed}
