"""A predictor and a transformer as child processes on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.online import Clock
from slipway.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 15
LOG_LINES = 15


@dataclass(frozen=True)
class Server:
    """One serving process."""

    role: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def check(self) -> None:
        """Raises `UserError`, with the end of its log, if the process has ended."""
        if self.process.poll() is not None:
            raise UserError(
                f"The {self.role} ended with code {self.process.returncode}; {self.tail()}"
            )

    def tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n  ".join([f"its log {self.log} ends so:", *lines])


@dataclass(frozen=True)
class Endpoint:
    """A running model: clients talk to the transformer."""

    name: str
    transformer: Server
    predictor: Server

    @property
    def url(self) -> str:
        return self.transformer.url

    def check(self) -> None:
        """Raises `UserError`, with the end of its log, if one of the processes has ended."""
        self.predictor.check()
        self.transformer.check()

    def wait_until_ready(self) -> None:
        """Return when both answer. Raises `UserError` for one that does not within 90 s."""
        _wait(self.predictor)
        _wait(self.transformer)


@contextmanager
def serving(
    name: str,
    package: Path,
    feature_store: Path,
    folder: Path,
    clock: Clock,
    port: int = 0,
    predictor_port: int = 0,
) -> Iterator[Endpoint]:
    """Serve `package` as `name` inside this block; logs go to `folder`.

    A port of 0 is any free one. The processes start when the block begins and are ready after
    `wait_until_ready`; what takes time, like filling `feature_store`, can be done in between. They
    are gone when the block ends, and end by themselves when this process does, however it ends.
    Raises `UserError` for a port that is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--model_name", name, "--model_dir", str(package)]
    servers: list[Server] = []
    try:
        predictor = _start("predictor", _port(predictor_port), folder, common)
        servers.append(predictor)
        transformer = _start(
            "transformer",
            _port(port),
            folder,
            [
                *common,
                *("--predictor_host", f"{HOST}:{predictor.port}"),
                *("--feature_store", str(feature_store), "--clock", clock),
            ],
        )
        servers.append(transformer)
        yield Endpoint(name, transformer, predictor)
    finally:
        _stop(servers)


def _start(role: str, port: int, folder: Path, flags: list[str]) -> Server:
    log = folder / f"{role}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving", "--role", role, "--http_port", str(port)),
                *(*flags, "--until_stdin_closes"),
            ],
            # The child stops when this pipe closes: also when we are killed and cannot stop it.
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches a whole group; we stop our children ourselves.
            start_new_session=True,
        )
    return Server(role, port, process, log)


def _stop(servers: list[Server]) -> None:
    for server in servers:
        server.process.terminate()
    for server in servers:
        try:
            server.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        if server.process.stdin:
            server.process.stdin.close()


def _wait(server: Server) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while True:
            server.check()
            try:
                if client.get(f"{server.url}/v2/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise UserError(
                    f"The {server.role} is not ready after {START_SECONDS} s; {server.tail()}"
                )
            time.sleep(0.05)


def _port(wanted: int) -> int:
    """`wanted` if nobody listens there, any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise UserError(
                f"Port {wanted} on {HOST} cannot be used: {error.strerror}.", "Choose another port."
            ) from None
        return int(probe.getsockname()[1])
