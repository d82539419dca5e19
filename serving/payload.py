"""What was asked and answered, as parquet segments: what drift and quality are measured on.

    <folder>/<model>/date=YYYY-MM-DD/<first row's time>-<writer>-<number>.parquet

One row per predicted row. `id`, `row` (its number in the request), `time` (UTC, when the request
came), `protocol`, `model`, `version`, `prediction` (float, or the list of a multiclass model's
probabilities), and each entity and raw feature under its name in the signature, as the model saw
it; `column` says how one is called that has one of these names. Labels join on `id` and `row`.
DuckDB reads all of it with

    read_parquet('<folder>/<model>/*/*.parquet', hive_partitioning = true, union_by_name = true)

A segment is written under a hidden name and renamed, so that a file that can be seen is whole.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serving.metrics import Metrics
from serving.segments import Segments
from slipway.errors import UserError
from slipway.imports import import_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

OWN = ("id", "row", "time", "protocol", "model", "version", "prediction")
"""Columns of the log's own."""
DAY_SECONDS = 86_400
POLL_SECONDS = 0.25
"""Longest wait of a row before it leaves the queue."""
BLOCK = 1024
"""Rows that are converted at once: no request is answered while a few of their columns are."""
FEW = 4
"""Columns after which the event loop gets its turn."""
VALUE_BYTES = 40
"""Memory of a value in the queue, apart from a text's characters."""
log = logging.getLogger("serving")


@dataclass(frozen=True)
class Limits:
    queue_rows: int = 20_000
    queue_bytes: int = 64 * 2**20
    segment_rows: int = 100_000
    segment_bytes: int = 32 * 2**20
    segment_seconds: float = 20.0
    """So old the rows of a quiet model become before they can be read."""
    folder_bytes: int = 2**30
    """All segments of a model; the oldest are removed."""


Row = tuple[Any, ...]
"""The columns of `_schema`, apart from `model`, in their order; `time` in Unix seconds."""
Request = tuple[int, int, int, Iterable[Row]]
"""Day (since 1970), number of rows, bytes, rows."""


def column(name: str) -> str:
    """What the log calls an entity or a feature of the signature."""
    return f"_{name}" if name in OWN else name


class PayloadLog:
    """The payload log of one model package in one worker; only with it is pyarrow loaded.

    `offer` is for the thread of the event loop. A thread of the log's own converts and writes, in
    steps that are short (0.6 ms at most of Python's lock for `BLOCK` rows of 30 columns).
    Raises `UserError` for a model's name that cannot be a folder's.
    """

    def __init__(
        self,
        folder: Path,
        signature: Mapping[str, Any],
        model: str,
        metrics: Metrics,
        limits: Limits = Limits(),
    ) -> None:
        if "/" in model or model.startswith("."):
            raise UserError(f"The payload log cannot have a folder of the name '{model}'.")
        import_pyarrow()
        self._folder, self._model, self._metrics = folder / model, model, metrics
        self._limits = limits
        features = {item["name"]: item["type"] for item in signature["features"]}
        entities = {
            name: item["type"]
            for name, item in signature["entities"].items()
            if name not in features
        }
        self._features, self._entities = tuple(features), tuple(entities)
        kinds = [*features.values(), *entities.values()]
        self._texts = [place for place, kind in enumerate(kinds) if kind == "string"]
        self._row_bytes = VALUE_BYTES * (len(features) + len(entities) + len(OWN))
        self._schema = _schema(features | entities, multiclass=bool(signature["classes"]))
        self._share = round(signature["serving"]["payload_sample"] * 2**32)
        self._queue: deque[Request] = deque()
        # Each is written by one thread only: what waits is the difference.
        self._offered_rows = self._offered_bytes = self._taken_rows = self._taken_bytes = 0
        self._settled_rows = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._segments = Segments(self._folder, metrics, limits.folder_bytes)
        self._thread = threading.Thread(target=self._run, name="payload log", daemon=True)
        self._thread.start()

    def offer(
        self,
        call_id: str,
        at: float,
        protocol: str,
        version: str,
        entities: Mapping[str, list[Any]],
        features: Mapping[str, list[Any]],
        predictions: npt.NDArray[np.float32],
    ) -> None:
        """Log a request of n rows, unless the sample leaves it out; drop it if the queue is full.

        `at`: Unix seconds. `entities` and `features` by name, n values each, which must not change
        any more. An entity that is in neither, as in a predictor, is null. Raises `KeyError` for a
        feature that is missing: each model package has a log of its own.
        """
        if zlib.crc32(call_id.encode()) >= self._share:
            return
        count = len(predictions)
        columns = [features[name] for name in self._features]
        for name in self._entities:
            columns.append(entities[name] if name in entities else [None] * count)
        size = count * self._row_bytes + len(call_id)
        for place in self._texts:
            for value in columns[place]:
                if value is not None:
                    size += len(value)
        waiting = self._offered_rows - self._taken_rows
        # A request that is larger than the queue is taken alone.
        if waiting and (
            waiting + count > self._limits.queue_rows
            or self._offered_bytes - self._taken_bytes + size > self._limits.queue_bytes
        ):
            self._metrics.dropped(count, "queue")
            return
        rows: Iterable[Row]
        if count == 1:
            # One tuple of plain values, which the garbage collector need not follow, in place of
            # a list for each of them: it would take more time than all the rest.
            values = [column[0] for column in columns]
            rows = ((call_id, 0, at, protocol, version, *values, *predictions.tolist()),)
        else:
            request = repeat(call_id), range(count), repeat(at), repeat(protocol), repeat(version)
            rows = zip(*request, *columns, predictions.tolist(), strict=False)
        self._queue.append((int(at // DAY_SECONDS), count, size, rows))
        self._offered_rows += count
        self._offered_bytes += size
        if waiting >= BLOCK and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits. What is not written after `timeout` seconds is lost and counted."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            left = self._offered_rows - self._settled_rows
            self._metrics.dropped(left, "queue")
            log.error("the payload log lost %d rows: its disk is too slow", left)

    def _run(self) -> None:
        self._segments.clean()
        segment: list[pa.RecordBatch] = []
        began, day = 0.0, 0
        while True:
            closing = self._closing.is_set()
            if not closing:
                self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            for batch_day, batch in self._batches():
                if segment and (batch_day != day or self._full(segment)):
                    self._write(segment)
                if not segment:
                    began, day = time.monotonic(), batch_day
                segment.append(batch)
            old = time.monotonic() - began >= self._limits.segment_seconds
            if segment and (closing or old or self._full(segment)):
                self._write(segment)
            if closing and not self._queue:
                return

    def _write(self, segment: list[pa.RecordBatch]) -> None:
        self._segments.write(segment)
        self._settled_rows += sum(batch.num_rows for batch in segment)
        segment.clear()

    def _full(self, segment: list[pa.RecordBatch]) -> bool:
        rows: int = sum(batch.num_rows for batch in segment)
        size: int = sum(batch.nbytes for batch in segment)
        return rows >= self._limits.segment_rows or size >= self._limits.segment_bytes

    def _batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """What waits now: a day and a batch of its rows."""
        waiting = len(self._queue)
        while waiting:
            requests = [self._queue.popleft() for _ in range(min(BLOCK, waiting))]
            waiting -= len(requests)
            for day, same_day in groupby(requests, key=itemgetter(0)):
                rows = chain.from_iterable(rows for *_, rows in same_day)
                while block := list(islice(rows, BLOCK)):
                    try:
                        batch = self._batch(block)
                    except Exception:
                        # Ours to mend, and no reason to log nothing from now on.
                        self._metrics.dropped(len(block), "write")
                        self._settled_rows += len(block)
                        log.exception("the payload log cannot hold a row")
                    else:
                        yield day, batch
            # Only now: what is converted takes a fifth of the memory.
            self._taken_rows += sum(count for _, count, _, _ in requests)
            self._taken_bytes += sum(size for _, _, size, _ in requests)

    def _batch(self, block: list[Row]) -> pa.RecordBatch:
        import pyarrow as pa

        identity, number, at, *values = zip(*block, strict=True)
        micros = np.round(np.array(at) * 1e6).astype("datetime64[us]")
        columns = [identity, number, micros, values[0], [self._model] * len(block), *values[1:]]
        arrays = []
        for place, (field, column) in enumerate(zip(self._schema, columns, strict=True)):
            if place % FEW == 0:
                # Releases Python's lock, which the event loop would else wait 5 ms for.
                time.sleep(0)
            arrays.append(pa.array(column, field.type))
        return pa.record_batch(arrays, self._schema)


def _schema(kinds: Mapping[str, str], multiclass: bool) -> pa.Schema:
    import pyarrow as pa

    from slipway.arrow import ARROW_TYPES

    own = [pa.string(), pa.int32(), ARROW_TYPES["timestamp"], *[pa.string()] * 3]
    return pa.schema(
        [
            *zip(OWN, own, strict=False),
            *((column(name), ARROW_TYPES[kind]) for name, kind in kinds.items()),
            (OWN[-1], pa.list_(pa.float32()) if multiclass else pa.float32()),
        ]
    )
