"""Every Prometheus name that Slipway exposes; rules, dashboards and alerts use no other."""

from __future__ import annotations

REQUESTS = "slipway_requests_total"
"""Answered predictions; labels: protocol (v1, v2), code (HTTP status), model, version."""

LATENCY = "slipway_request_seconds"
"""From the first byte of a prediction's request to its answer; labels: protocol, model, version."""

LATENCY_BUCKETS = (
    *(0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 10.0),
)
"""Seconds. A small model answers in tenths of a millisecond: default buckets would not see it."""

FEATURES_MISSING = "slipway_features_missing_total"
"""Rows whose entity the online store does not know; labels: model, view."""

FEATURES_STALE = "slipway_features_stale_total"
"""Rows whose features were older than the view's TTL, so null; labels: model, view."""

MODEL_INFO = "slipway_model_info"
"""Always 1; labels: role (predictor, transformer), model, version, task."""
