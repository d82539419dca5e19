"""Every Prometheus metric that Slipway exposes: rules, dashboards and alerts use no other.

`str(names.REQUESTS)` is the name; a histogram's series end in `_bucket`, `_sum` and `_count`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Family:
    """One metric: its name, what it means, and its labels.

    Counters and histograms of several workers are added, also of workers that ended; a gauge is
    added over the live ones, or its largest value shown, as `over_workers` says.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    over_workers: Literal["sum", "max"] = "sum"

    def __str__(self) -> str:
        return self.name


PROTOCOLS = ("v1", "v2", "grpc")

_SECONDS = (
    *(0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 10.0),
)
"""A small model answers in tenths of a millisecond: default buckets would not see it."""

_POWERS = tuple(digit * 10.0**exponent / 100 for exponent in range(9) for digit in (1, 2, 5))[:25]
"""0.01, 0.02, 0.05, 0.1 … 1,000,000: the same for all models and versions, so that two versions of
a model can be compared, and no bound is learnt from data."""

REQUESTS = Family(
    "slipway_requests_total",
    "counter",
    "Answered predictions and explanations. code: the HTTP status, also for gRPC (200 is OK). "
    "version is empty for a request that reached no model.",
    ("protocol", "code", "model", "version"),
)
LATENCY = Family(
    "slipway_request_seconds",
    "histogram",
    "Seconds from a request's first byte to its answer.",
    ("protocol", "model", "version"),
    _SECONDS,
)
PHASE = Family(
    "slipway_phase_seconds",
    "histogram",
    "Seconds that a request spent in a phase: features (the online store), inference.",
    ("phase", "model", "version"),
    (0.00001, 0.000025, 0.00005, *_SECONDS),
)
ROWS = Family("slipway_rows_total", "counter", "Predicted rows.", ("model", "version"))
IN_FLIGHT = Family("slipway_in_flight", "gauge", "Requests that are being answered.", ("model",))
QUEUED = Family("slipway_queued", "gauge", "Requests that wait for their turn.", ("model",))

SCORE = Family(
    "slipway_prediction_score",
    "histogram",
    "Predicted probabilities of a binary model.",
    ("model", "version"),
    tuple(step / 20 for step in range(1, 21)),
)
VALUE = Family(
    "slipway_prediction_value",
    "histogram",
    "Predicted values of a regression model. Without _sum and _count: values may be negative.",
    ("model", "version"),
    (*(-bound for bound in reversed(_POWERS)), 0.0, *_POWERS),
)
CLASSES = Family(
    "slipway_prediction_class_total",
    "counter",
    "Rows by the likeliest class of a multiclass model.",
    ("class", "model", "version"),
)

FEATURES_MISSING = Family(
    "slipway_features_missing_total",
    "counter",
    "Rows whose entity the online store does not know.",
    ("view", "model", "version"),
)
FEATURES_STALE = Family(
    "slipway_features_stale_total",
    "counter",
    "Rows whose features were older than the view's TTL, so null.",
    ("view", "model", "version"),
)
STORE_FAILURES = Family(
    "slipway_store_failures_total",
    "counter",
    "Reads of the online store that failed, whether refused or answered with nulls.",
    ("model",),
)
STORE_AGE = Family(
    "slipway_store_age_seconds",
    "gauge",
    "Seconds since the online store was filled, absent before that.",
    ("model",),
    over_workers="max",
)

PAYLOAD_ROWS = Family(
    "slipway_payload_rows_total", "counter", "Rows written to the payload log.", ("model",)
)
PAYLOAD_DROPPED = Family(
    "slipway_payload_dropped_total",
    "counter",
    "Rows that the payload log lost. reason: queue (full), write (a segment could not be written).",
    ("reason", "model"),
)
PAYLOAD_REMOVED = Family(
    "slipway_payload_removed_total",
    "counter",
    "Oldest segments of the payload log removed, to stay within its size.",
    ("model",),
)

MODEL_INFO = Family(
    "slipway_model_info",
    "gauge",
    "1 for the version that is served now, 0 for earlier ones. "
    "role: predictor, transformer or combined.",
    ("role", "model", "version", "task"),
    over_workers="max",
)
WORKERS = Family("slipway_workers", "gauge", "Live worker processes of the server.", ("model",))
CPU = Family(
    "process_cpu_seconds_total",
    "counter",
    "Total user and system CPU time spent in seconds, over all workers.",
    (),
)

FAMILIES = (
    *(REQUESTS, LATENCY, PHASE, ROWS, IN_FLIGHT, QUEUED),
    *(SCORE, VALUE, CLASSES),
    *(FEATURES_MISSING, FEATURES_STALE, STORE_FAILURES, STORE_AGE),
    *(PAYLOAD_ROWS, PAYLOAD_DROPPED, PAYLOAD_REMOVED),
    *(MODEL_INFO, WORKERS, CPU),
)

PROCESS: dict[str, Callable[[Iterable[float]], float]] = {
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": min,
    "process_start_time_seconds": min,
}
"""prometheus-client's own gauges of a process, and how those of several workers become one."""

PYTHON = "python_info"
"""prometheus-client's own: version and implementation."""
