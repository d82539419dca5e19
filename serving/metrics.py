"""What a server counts. Names, labels and meanings: `slipway.names`.

Counting costs a fraction of a microsecond: plain numbers in plain dicts, made into metrics only
when `/metrics` is asked. The thread of the event loop counts, except where a method says otherwise.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import math
import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.snapshots import Key, Series, Snapshot, Snapshots, add
from slipway import names
from slipway.names import Family

SNAPSHOT_SECONDS = 0.25
_LATENCY, _PHASE = names.LATENCY.buckets, names.PHASE.buckets
_FAMILIES = {family.name: family for family in names.FAMILIES}
FEW = 64
"""Up to so many predictions a loop counts them faster than numpy."""
log = logging.getLogger("serving")


def _empty(family: Family) -> Callable[[], list[float]]:
    """What makes a histogram without observations: counts by bucket, then the sum."""
    size = len(family.buckets) + 2
    return lambda: [0] * size


class Tally:
    """The counters of one model version."""

    def __init__(
        self, model: str, version: str, task: str, views: Iterable[str], classes: Sequence[str]
    ) -> None:
        self._labels = (model, version)
        self._classes = tuple(classes)
        self._rows = 0
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._latency: defaultdict[str, list[float]] = defaultdict(_empty(names.LATENCY))
        self._phases: defaultdict[str, list[float]] = defaultdict(_empty(names.PHASE))
        self._score_family = names.VALUE if task == "regression" else names.SCORE
        self._edges = np.array(self._score_family.buckets)
        self._scores = _empty(self._score_family)()
        self._by_class = [0] * len(classes)
        # A rate over a series that does not exist yet misses its first increase.
        self._missing = defaultdict(int, dict.fromkeys(views, 0))
        self._stale = defaultdict(int, dict.fromkeys(views, 0))
        for protocol in names.PROTOCOLS:
            self._requests[protocol, 200] = self._requests[protocol, 500] = 0

    def answered(self, protocol: str, code: int, seconds: float) -> None:
        """One answer of `code`, an HTTP status, `seconds` after the request's first byte."""
        self._requests[protocol, code] += 1
        series = self._latency[protocol]
        series[bisect_left(_LATENCY, seconds)] += 1
        series[-1] += seconds

    def phase(self, name: str, seconds: float) -> None:
        """`name`: features or inference."""
        series = self._phases[name]
        series[bisect_left(_PHASE, seconds)] += 1
        series[-1] += seconds

    def inferred(self, predictions: npt.NDArray[np.float32], seconds: float) -> None:
        """One run of the model."""
        self.phase("inference", seconds)
        self.rows(len(predictions))
        self.scores(predictions)

    def rows(self, n: int) -> None:
        self._rows += n

    def scores(self, predictions: npt.NDArray[np.float32]) -> None:
        """Predictions of n rows as the model gives them: [n], or [n, classes]."""
        if self._classes:
            self._count_classes(predictions)
            return
        series, bounds = self._scores, self._score_family.buckets
        if len(predictions) <= FEW:
            for value in predictions.tolist():
                series[bisect_left(bounds, value)] += 1
                series[-1] += value
        else:
            places = np.searchsorted(self._edges, predictions.astype(np.float64))
            for at, count in enumerate(np.bincount(places).tolist()):
                series[at] += count
            series[-1] += float(predictions.sum(dtype=np.float64))

    def features(self, view: str, missing: int, stale: int) -> None:
        """Rows whose entity `view` does not know, and rows that it knows only too old."""
        self._missing[view] += missing
        self._stale[view] += stale

    def series(self) -> Series:
        """All of it, by metric and labels."""
        found: Series = {(names.ROWS.name, self._labels): self._rows}
        for (protocol, code), count in list(self._requests.items()):
            found[names.REQUESTS.name, (protocol, str(code), *self._labels)] = count
        for family, histograms in ((names.LATENCY, self._latency), (names.PHASE, self._phases)):
            for label, values in list(histograms.items()):
                found[family.name, (label, *self._labels)] = values.copy()
        for family, counts in (
            (names.FEATURES_MISSING, self._missing),
            (names.FEATURES_STALE, self._stale),
        ):
            for view, count in list(counts.items()):
                found[family.name, (view, *self._labels)] = count
        for label, count in zip(self._classes, self._by_class, strict=True):
            found[names.CLASSES.name, (label, *self._labels)] = count
        if not self._classes:
            found[self._score_family.name, self._labels] = self._scores.copy()
        return found

    def _count_classes(self, predictions: npt.NDArray[np.float32]) -> None:
        if len(predictions) <= FEW:
            for row in predictions.tolist():
                self._by_class[row.index(max(row))] += 1
        else:
            for at, count in enumerate(np.bincount(predictions.argmax(axis=1)).tolist()):
                self._by_class[at] += count


class Metrics:
    """Everything that one worker process counts; `render` shows the sum over all workers.

    shared: a folder, new for each start of a server, in which its workers leave what they counted;
    none for a server of one process. Made in the worker itself, after any fork.
    """

    def __init__(
        self,
        role: str,
        model: str,
        task: str,
        views: Iterable[str] = (),
        shared: Path | None = None,
    ) -> None:
        self.in_flight = 0
        """Requests that are being answered."""
        self.queued = 0
        """Requests that wait for their turn."""
        self.served: str | None = None
        """The version that is served now; to be set whenever it changes, None after an unload."""
        self.store_age: Callable[[], float | None] | None = None
        """Seconds since the online store was filled. Other threads call it too, so it must be
        cheap and must not raise."""
        self._role, self._model, self._task, self._views = role, model, task, tuple(views)
        self._tallies: dict[str, Tally] = {}
        self._refused: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._counts: dict[tuple[Family, tuple[str, ...]], int] = {
            (names.STORE_FAILURES, ()): 0,
            (names.PAYLOAD_ROWS, ()): 0,
            (names.PAYLOAD_REMOVED, ()): 0,
            (names.PAYLOAD_DROPPED, ("queue",)): 0,
            (names.PAYLOAD_DROPPED, ("write",)): 0,
        }
        self._registry = CollectorRegistry()
        self._registry.register(_Live(self))
        PlatformCollector(registry=self._registry)
        self._snapshots = Snapshots(shared) if shared else None
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._complained = False
        if self._snapshots:
            self._write(self._snapshots)
            threading.Thread(
                target=self._keep_writing, args=[self._snapshots], name="metrics", daemon=True
            ).start()
            atexit.register(self.close)

    def of(self, version: str, classes: Sequence[str] = ()) -> Tally:
        """The counters of a version, which stay when another one is served.

        `classes`: names of the columns of a multiclass model's predictions.
        """
        if (self._task == "multiclass") != bool(classes):
            raise ValueError(f"classes of a {self._task} model: {classes}")
        if version not in self._tallies:
            self._tallies[version] = Tally(
                self._model, version, self._task, self._views, tuple(classes)
            )
        return self._tallies[version]

    def refused(self, protocol: str, code: int) -> None:
        """One answer that reached no model version: an unknown model, overload before routing."""
        self._refused[protocol, code] += 1

    def store_failed(self) -> None:
        """One read of the online store that failed."""
        self._counts[names.STORE_FAILURES, ()] += 1

    def logged(self, rows: int) -> None:
        """Rows written to the payload log. For its writer's thread."""
        self._counts[names.PAYLOAD_ROWS, ()] += rows

    def dropped(self, rows: int, reason: str) -> None:
        """Rows that the payload log lost; `reason` is queue (for the loop's thread) or write (for
        the writer's)."""
        self._counts[names.PAYLOAD_DROPPED, (reason,)] += rows

    def removed(self, segments: int) -> None:
        """Oldest segments of the payload log that were removed. For its writer's thread."""
        self._counts[names.PAYLOAD_REMOVED, ()] += segments

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The answer of `/metrics` and its content type; OpenMetrics where `accept` names it."""
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        text = generate_latest(self._registry)
        return text, CONTENT_TYPE_PLAIN_0_0_4

    def close(self) -> None:
        """Leave the last snapshot: what this worker counted stays in the server's sums."""
        if self._snapshots and not self._ended.is_set():
            atexit.unregister(self.close)
            self._ended.set()
            self._write(self._snapshots)
            self._snapshots.close()

    def collect(self) -> Snapshot:
        """The counts of the whole server, and of which processes."""
        if not self._snapshots:
            return self._snapshot()
        # A worker is killed at any moment: no one must have seen counts that are not in its file,
        # because a counter that falls looks like one that started anew.
        all_workers = self._write(self._snapshots)
        others, ended = self._snapshots.others()
        add(all_workers.totals, ended)
        for other in others:
            all_workers.pids += other.pids
            add(all_workers.totals, other.totals)
            for key, value in other.gauges.items():
                held = all_workers.gauges.get(key, 0.0)
                most = _FAMILIES[key[0]].over_workers == "max"
                all_workers.gauges[key] = max(held, value) if most else held + value
        return all_workers

    def _snapshot(self) -> Snapshot:
        model = self._model
        totals: Series = {(names.CPU.name, ()): time.process_time()}
        for tally in list(self._tallies.values()):
            totals |= tally.series()
        for (protocol, code), count in list(self._refused.items()):
            totals[names.REQUESTS.name, (protocol, str(code), model, "")] = count
        for (family, labels), count in self._counts.items():
            totals[family.name, (*labels, model)] = count
        gauges: dict[Key, float] = {
            (names.IN_FLIGHT.name, (model,)): float(self.in_flight),
            (names.QUEUED.name, (model,)): float(self.queued),
            (names.WORKERS.name, (model,)): 1.0,
        }
        for version in list(self._tallies):
            labels = (self._role, model, version, self._task)
            gauges[names.MODEL_INFO.name, labels] = float(version == self.served)
        age = self.store_age() if self.store_age else None
        if age is not None:
            gauges[names.STORE_AGE.name, (model,)] = age
        return Snapshot([os.getpid()], totals, gauges)

    def _write(self, snapshots: Snapshots) -> Snapshot:
        with self._writing:
            snapshot = self._snapshot()
            try:
                snapshots.write(snapshot)
            except OSError as error:
                if not self._complained:
                    log.error("the other workers do not see what this one counts: %s", error)
                self._complained = True
            else:
                self._complained = False
        return snapshot

    def _keep_writing(self, snapshots: Snapshots) -> None:
        while not self._ended.wait(SNAPSHOT_SECONDS):
            self._write(snapshots)


class _Live(Collector):
    """Metrics as prometheus-client renders them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pid = 0
        self._process = ProcessCollector(pid=lambda: self._pid, registry=None)

    def collect(self) -> Iterator[Metric]:
        state = self._metrics.collect()
        families: dict[str, list[tuple[tuple[str, ...], Any]]] = defaultdict(list)
        for (name, labels), value in (state.totals | state.gauges).items():
            families[name].append((labels, value))
        for family in names.FAMILIES:
            if family.name in families:
                yield _metric(family, families[family.name])
        yield from self._processes(state.pids)

    def _processes(self, pids: list[int]) -> Iterator[Metric]:
        """What prometheus-client says of a process, over all workers. Their CPU time is ours to
        count, because that of workers that ended stays in it."""
        found: dict[str, list[Metric]] = defaultdict(list)
        for self._pid in pids:
            for metric in self._process.collect():
                found[metric.name].append(metric)
        for name, over_workers in names.PROCESS.items():
            if name in found:
                value = over_workers(metric.samples[0].value for metric in found[name])
                yield GaugeMetricFamily(name, found[name][0].documentation, value)


def _metric(family: Family, series: list[tuple[tuple[str, ...], Any]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        ends = [floatToGoString(end) for end in (*family.buckets, math.inf)]  # type: ignore[no-untyped-call]
        for labels, (*counts, total) in series:
            cumulative = itertools.accumulate(counts)
            histogram.add_metric(labels, list(zip(ends, cumulative, strict=True)), total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in series:
        metric.add_metric(labels, value)
    return metric
