"""Several processes behind one port: started, watched, replaced, and told what all must hear."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from serving.listeners import Listeners
from serving.settings import Settings
from slipway.errors import UserError

YOUNG_SECONDS = 10.0
"""A worker that ends within this time of its start would do so again at once."""
UNLOADED = "unloaded"
log = logging.getLogger("serving")


class Crew:
    """What the workers of one server share: a folder, and a parent that passes signals on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unloaded = folder / UNLOADED

    @property
    def unloaded(self) -> bool:
        return self._unloaded.exists()

    def tell(self, *, unloaded: bool) -> None:
        """Have all workers load the package anew, or unload it."""
        if unloaded:
            self._unloaded.touch()
        else:
            self._unloaded.unlink(missing_ok=True)
        os.kill(os.getppid(), signal.SIGHUP)


def run_workers(settings: Settings, listeners: Listeners) -> int:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="slipway-serving-") as folder:
        return _Supervisor(settings, listeners, Path(folder)).run()


class _Supervisor:
    def __init__(self, settings: Settings, listeners: Listeners, folder: Path) -> None:
        self._settings, self._listeners, self._folder = settings, listeners, folder
        self._workers: dict[SpawnProcess, float] = {}
        self._stopping = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: self._send(signal.SIGHUP))
        for _ in range(self._settings.workers):
            self._start()
        code = 0
        while self._workers:
            for sentinel in wait([worker.sentinel for worker in self._workers]):
                worker = next(item for item in self._workers if item.sentinel == sentinel)
                age = time.monotonic() - self._workers.pop(worker)
                worker.join()
                if self._stopping:
                    continue
                log.error("worker %d ended with code %s", worker.pid, worker.exitcode)
                if age < YOUNG_SECONDS:
                    code = worker.exitcode if worker.exitcode and worker.exitcode > 0 else 1
                    self._stop()
                else:
                    self._start()
        return code

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        worker = context.Process(
            target=_work, args=(self._settings, self._listeners, self._folder), daemon=False
        )
        # Until it can handle it: what a worker loads at its start is fresh anyway.
        handled = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        worker.start()
        signal.signal(signal.SIGHUP, handled)
        self._workers[worker] = time.monotonic()
        if self._stopping:
            self._send(signal.SIGTERM)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        # The workers close theirs when nobody waits any more; this one would keep the door open.
        for listener in (self._listeners.http, self._listeners.grpc):
            if listener:
                listener.close()
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, number)


def _work(settings: Settings, listeners: Listeners, folder: Path) -> None:
    from serving.run import work

    try:
        work(settings, listeners, Crew(folder))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
