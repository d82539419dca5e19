"""Parquet files of a payload log: whole or absent, and never more than fit."""

from __future__ import annotations

import logging
import os
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from serving.metrics import Metrics

if TYPE_CHECKING:
    import pyarrow as pa

ABANDONED_SECONDS = 60
"""From this age an unfinished file is one of a writer that was killed."""
log = logging.getLogger("serving")


class Segments:
    """The segments in `folder`, which writers of other processes fill as well.

    folder_bytes: what all of them may take; the oldest are removed, by what this writer adds at
    the latest after a thirty-second of it. For one thread.
    """

    def __init__(self, folder: Path, metrics: Metrics, folder_bytes: int) -> None:
        self._folder, self._metrics, self._folder_bytes = folder, metrics, folder_bytes
        self._writer, self._number = secrets.token_hex(4), 0
        self._unbounded = 0
        self._failing = False

    def write(self, batches: list[pa.RecordBatch]) -> None:
        """One segment of rows of one day. Where that fails they are dropped and counted; the log
        says so once, and again when it works."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(batches)
        first: datetime = table["time"][0].as_py()
        day = self._folder / f"date={first:%Y-%m-%d}"
        name = f"{first:%Y%m%dT%H%M%S.%fZ}-{self._writer}-{self._number:06}.parquet"
        self._number += 1
        temporary = day / f".{name}.tmp"
        try:
            day.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary, compression="zstd", compression_level=1)
            # A machine that loses its power must not leave an empty file that no one can read.
            _sync(temporary)
            size = temporary.stat().st_size
            temporary.rename(day / name)
        except OSError as error:
            self._metrics.dropped(len(table), "write")
            if not self._failing:
                log.error("the payload log drops rows: %s", error)
            self._failing = True
            _remove(temporary)
            return
        if self._failing:
            log.info("the payload log writes again")
        self._failing = False
        self._metrics.logged(len(table))
        self._unbounded += size
        if self._unbounded >= self._folder_bytes // 32:
            self.clean()

    def clean(self) -> None:
        """Remove what killed writers left, and the oldest segments beyond the limit."""
        self._unbounded = 0
        for path in self._folder.glob("date=*/.*.tmp"):
            try:
                abandoned = time.time() - path.stat().st_mtime >= ABANDONED_SECONDS
            except FileNotFoundError:
                continue  # its writer has just finished
            if abandoned:
                _remove(path)
        held = 0
        # Newest first, by the names; two writers may remove at once.
        for path in sorted(self._folder.glob("date=*/*.parquet"), reverse=True):
            try:
                held += path.stat().st_size
            except FileNotFoundError:
                continue
            if held > self._folder_bytes and _remove(path):
                self._metrics.removed(1)


def _remove(path: Path) -> bool:
    """Whether there was such a file and it is gone."""
    try:
        path.unlink()
        path.parent.rmdir()
    except FileNotFoundError:
        return False
    except OSError:
        return not path.exists()  # the folder holds more, or may not be written
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
