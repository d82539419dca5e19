"""A server on its core: started, asked until it answers, watched, ended."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from benchmarks.serving import load
from benchmarks.serving.cases import (
    Case,
    Protocol,
    Question,
    WrongAnswer,
    check,
    read_grpc,
    read_http,
)
from benchmarks.serving.peers import Peer, Place

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 15
STALLED = 200


@dataclass
class Running:
    """A server that answers."""

    peer: Peer
    place: Place
    processes: list[psutil.Popen]
    load_core: int
    log: Path

    def warm(self, case: Case, seconds: float) -> None:
        """Ask one question after the other. Raises `WrongAnswer`."""
        question = self.place.files.questions[case.protocol, case.rows][0]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.ask(case.protocol, case.rows, question)

    def measure(self, case: Case, seconds: int) -> load.Load:
        """Raises `WrongAnswer`, also for a wrong answer before or after the load."""
        questions = self.place.files.questions[case.protocol, case.rows]
        sizes = [self.ask(case.protocol, case.rows, question) for question in questions]
        url = self._url(case.protocol, case.rows)
        started, before = time.perf_counter(), self._cpu_seconds()
        if case.protocol == "grpc":
            result = load.grpc(
                *(self.load_core, url, questions[0], sizes[0]),
                *(case.connections, seconds, self.place.folder),
            )
        else:
            result = load.http(
                *(self.load_core, url, questions, case.connections, seconds, self.place.folder)
            )
        # Per second of the whole run, because a load generator also loads before it measures.
        spent = (self._cpu_seconds() - before) / (time.perf_counter() - started)
        self.ask(case.protocol, case.rows, questions[0])
        return result._replace(cpu_us=spent / result.rate * 1e6)

    def measure_stalled(self, case: Case, seconds: int) -> tuple[load.Load, load.Load]:
        """Alone, and beside `STALLED` clients that began a request and do not go on.

        Raises `WrongAnswer`.
        """
        alone = self.measure(case, seconds)
        body = self.place.files.questions[case.protocol, case.rows][0].body
        path = self.peer.paths[case.protocol].format(rows=case.rows)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with ExitStack() as stalled:
            for _ in range(STALLED):
                client = socket.create_connection((HOST, self.place.port), timeout=20)
                stalled.enter_context(client)
                client.sendall(head.encode() + body[: len(body) // 2])
            return alone, self.measure(case, seconds)

    def ask(self, protocol: Protocol, rows: int, question: Question) -> int:
        """The size of the right answer. Raises `WrongAnswer`."""
        if protocol == "grpc":
            return self._call(question)
        connection = http.client.HTTPConnection(HOST, self.place.port, timeout=20)
        try:
            path = self.peer.paths[protocol].format(rows=rows)
            connection.request("POST", path, question.body, dict(question.headers))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise WrongAnswer(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise WrongAnswer(f"{answer.status}: {body[:300]!r}")
        check(question, read_http(answer.headers, body))
        return len(body)

    def memory_mb(self) -> float:
        """Resident memory of all its processes; what they share is counted for each."""
        return sum(process.memory_info().rss for process in self._tree()) / 2**20

    def check_alive(self) -> None:
        """Raises `WrongAnswer`, with the end of its log, if a process has ended."""
        for process in self.processes:
            if process.poll() is not None:
                text = " ".join(self.log.read_text(errors="replace").split())
                raise WrongAnswer(f"ended with code {process.returncode}: …{text[-400:]}")

    def stop(self) -> None:
        tree = self._tree()
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(tree, STOP_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, STOP_SECONDS)

    def _tree(self) -> list[psutil.Process]:
        found = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                found += [process, *process.children(recursive=True)]
        return found

    def _cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self._tree()]
        return sum(item.user + item.system for item in times)

    def _url(self, protocol: Protocol, rows: int) -> str:
        port = self.place.spare[0] if protocol == "grpc" else self.place.port
        return f"http://{HOST}:{port}{self.peer.paths[protocol].format(rows=rows)}"

    def _call(self, question: Question) -> int:
        with grpc.insecure_channel(f"{HOST}:{self.place.spare[0]}") as channel:
            call = channel.unary_unary(self.peer.paths["grpc"])
            try:
                message = call(question.body, timeout=20)
            except grpc.RpcError as error:
                raise WrongAnswer(f"{error.code()}: {error.details()}") from None
        check(question, read_grpc(message))
        return len(message)


@contextmanager
def running(peer: Peer, place: Place, cores: tuple[int, int]) -> Iterator[tuple[Running, float]]:
    """The server on the first core, and the seconds until its first right answer; load will come
    from the second. Raises `WrongAnswer` if it does not answer within two minutes."""
    started = time.perf_counter()
    log = place.folder / "server.log"
    server = Running(peer, place, [], cores[1], log)
    try:
        with log.open("wb") as file:
            for command in peer.commands(place):
                process = psutil.Popen(
                    [*load.pinned(cores[0]), *command.words],
                    cwd=ROOT,
                    env=os.environ | dict(command.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C in a terminal reaches a whole group; we stop our children ourselves.
                    start_new_session=True,
                )
                server.processes.append(process)
        _wait(server, started + START_SECONDS)
        yield server, time.perf_counter() - started
    finally:
        server.stop()


def _wait(server: Running, deadline: float) -> None:
    protocol = next(iter(server.peer.paths))
    question = server.place.files.questions[protocol, 1][0]
    while True:
        server.check_alive()
        try:
            server.ask(protocol, 1, question)
            return
        except WrongAnswer:
            if time.perf_counter() > deadline:
                raise
        time.sleep(0.02)
