"""A server of the runtime as a child process on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.settings import Role
from slipway.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 15
LOG_LINES = 15


@dataclass(frozen=True)
class Endpoint:
    """A running server of a model."""

    name: str
    role: Role
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def check(self) -> None:
        """Raises `UserError`, with the end of its log, if the process has ended."""
        if self.process.poll() is not None:
            raise UserError(
                f"The {self.role} ended with code {self.process.returncode}; {self._tail()}"
            )

    def wait_until_ready(self) -> None:
        """Return when it answers. Raises `UserError` if it does not within 90 s."""
        import httpx

        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url, trust_env=False, timeout=5) as client:
            while True:
                self.check()
                try:
                    if client.get("/v2/health/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline:
                    raise UserError(
                        f"The {self.role} is not ready after {START_SECONDS} s; {self._tail()}"
                    )
                time.sleep(0.05)

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "\n  ".join([f"its log {self.log} ends so:", *lines])


@contextmanager
def serving(
    name: str, package: Path, folder: Path, role: Role, *flags: str | Path, port: int = 0
) -> Iterator[Endpoint]:
    """Serve `package` as `name` inside this block; the log goes to `folder`.

    `flags` are more of `python -m serving`'s; a port of 0 is any free one. The process starts when
    the block begins and is ready after `wait_until_ready`; what takes time, like filling the online
    store, can be done in between. It is gone when the block ends, and ends by itself when this
    process does, however it ends. Raises `UserError` for a port that is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(port)
    log = folder / f"{role}.log"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "serving",
        "--role",
        role,
        "--until_stdin_closes",
    ]
    command += ["--model_name", name, "--model_dir", package, "--http_port", str(port), *flags]
    command += ["--log_format", "text"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            # The child stops when this pipe closes: also when we are killed and cannot stop it.
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches a whole group; we stop our children ourselves.
            start_new_session=True,
        )
    try:
        yield Endpoint(name, role, port, process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, any free one for 0. Raises `UserError`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise UserError(
                f"Port {wanted} on {HOST} cannot be used: {error.strerror}.", "Choose another port."
            ) from None
        return int(probe.getsockname()[1])
