"""What one server was told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["predictor", "transformer", "combined"]


@dataclass(frozen=True)
class Limits:
    """Beyond these a request is refused, so that one client cannot take what others need."""

    body: int = 16 * 2**20
    """Bytes of a request."""
    buffered: int = 256 * 2**20
    """Bytes of requests that are not answered yet, of all clients of one process."""
    rows: int = 10_000
    """Rows of a request."""
    explained_rows: int = 100
    """Rows of a request for explanations, each a few hundred times the work of a prediction."""
    connections: int = 4096
    """Clients at once in one process."""
    concurrency: int = 512
    """Requests at once in one process."""
    queue: int = 16
    """Large batches that wait for the worker thread."""
    seconds: float = 30.0
    """From a request's arrival to its answer."""
    reading: float = 10.0
    """Seconds for a request to arrive whole."""
    idle: float = 65.0
    """Seconds that a kept connection may be unused; more than the usual 60 of a proxy."""
    head: int = 64 * 2**10
    """Bytes of a request's line and headers."""


@dataclass(frozen=True)
class Settings:
    role: Role
    name: str
    package: Path
    http_port: int
    host: str
    grpc_port: int | None = None
    predictor: str = ""
    """HOST:PORT."""
    predictor_protocol: Literal["v1", "v2"] = "v2"
    feature_store: Path | None = None
    clock: Literal["wall", "store"] = "wall"
    payload_log: Path | None = None
    workers: int = 1
    log_format: Literal["json", "text"] = "json"
    drain_seconds: float = 10.0
    """How long connections may finish what they do after SIGTERM."""
    limits: Limits = Limits()
