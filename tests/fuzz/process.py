"""A predictor as its users run it: a process of its own, with HTTP and gRPC on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from serving.endpoint import HOST, Endpoint, free_port, serving


@dataclass(frozen=True)
class Predictor:
    endpoint: Endpoint
    grpc: int

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def http(self) -> int:
        return self.endpoint.port

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.endpoint.process.pid)

    @property
    def log(self) -> Path:
        return self.endpoint.log

    @property
    def folder(self) -> Path:
        """Where the server was started for."""
        return self.log.parent.parent

    @property
    def grpc_address(self) -> str:
        return f"{HOST}:{self.grpc}"

    def memory(self) -> int:
        """Bytes that the process holds. Raises if it is not there any more."""
        return int(self.process.memory_info().rss)

    def check(self) -> None:
        """Raises `UserError`, with the end of its log, if the process has ended."""
        self.endpoint.check()


@contextmanager
def predictor(name: str, package: Path, folder: Path) -> Iterator[Predictor]:
    """Ready when the block begins, gone when it ends."""
    grpc = free_port()
    flags = ("--grpc_port", str(grpc))
    with serving(name, package, folder / f"{name}-server", "predictor", *flags) as endpoint:
        endpoint.wait_until_ready()
        yield Predictor(endpoint, grpc)
