"""What one serving process counts, rendered for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from slipway import names


class Metrics:
    """Counters of one model in one process. Names and meaning: `slipway.names`."""

    def __init__(
        self, role: str, model: str, version: str, task: str, views: Iterable[str] = ()
    ) -> None:
        # They double the series, and nothing reads them.
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._model, self._version = model, version
        labels = ("protocol", "model", "version")
        self._requests = Counter(
            names.REQUESTS, "Answered predictions", ("code", *labels), registry=self._registry
        )
        self._seconds = Histogram(
            names.LATENCY,
            "Seconds to answer a prediction",
            labels,
            buckets=names.LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._missing = Counter(
            names.FEATURES_MISSING,
            "Rows whose entity the online store does not know",
            ("model", "view"),
            registry=self._registry,
        )
        self._stale = Counter(
            names.FEATURES_STALE,
            "Rows whose features were older than their TTL",
            ("model", "view"),
            registry=self._registry,
        )
        info = Gauge(
            names.MODEL_INFO,
            "The model that is served",
            ("role", "model", "version", "task"),
            registry=self._registry,
        )
        info.labels(role, model, version, task).set(1)
        # A rate over a series that does not exist yet misses its first increase.
        for view in views:
            self.features(view, missing=0, stale=0)

    def answered(self, protocol: str, code: int, seconds: float) -> None:
        self._requests.labels(str(code), protocol, self._model, self._version).inc()
        self._seconds.labels(protocol, self._model, self._version).observe(seconds)

    def features(self, view: str, missing: int, stale: int) -> None:
        self._missing.labels(self._model, view).inc(missing)
        self._stale.labels(self._model, view).inc(stale)

    def render(self) -> bytes:
        return generate_latest(self._registry)
