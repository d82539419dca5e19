"""The same pipeline in local processes, through `kfp.local`."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any

from pipelines.compile import STEPS, compile_training
from slipway.code import ROOT
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.project import Project
from slipway.step import FAILURE, PROGRESS

EXECUTING = re.compile(r"Executing task .*?'([a-z-]+)'")
CACHED = re.compile(r"Task '?([a-z-]+)'? cache hit")


@dataclass(frozen=True)
class Event:
    """Something to show while a run goes on: a step starts, is reused, or says something."""

    kind: str
    step: str
    text: str = ""


@dataclass(frozen=True)
class LocalRun:
    """What a finished run left: a record for each step, and the folders that others read."""

    records: list[dict[str, Any]]
    training_set: Path
    package: Path
    seconds: float


class StepFailed(RuntimeError):
    """A step ended for a reason that is not the user's; the log has it all."""


class _Watcher(TextIOBase):
    """Everything the run prints goes to the log; what a person wants to see becomes an event."""

    def __init__(self, log: Path, show: Callable[[Event], None]) -> None:
        self._file = log.open("w", encoding="utf-8", buffering=1)
        self._show = show
        self._partial = ""
        self.step = ""
        self.reused: list[str] = []
        self.failure: dict[str, str] | None = None

    def write(self, text: str) -> int:
        self._file.write(text)
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._read(line.strip())
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        super().close()  # it flushes
        self._file.close()

    def _read(self, line: str) -> None:
        if found := EXECUTING.search(line):
            self.step = found[1]
            self._show(Event("start", self.step))
        elif found := CACHED.search(line):
            self.reused.append(found[1])
            self._show(Event("reused", found[1]))
        elif line.startswith(PROGRESS):
            self._show(Event("says", self.step, line.removeprefix(PROGRESS)))
        elif line.startswith(FAILURE):
            self.failure = json.loads(line.removeprefix(FAILURE))


def run_training(project: Project, as_of: str, show: Callable[[Event], None]) -> LocalRun:
    """Run the training pipeline for `project` here.

    Finished steps are reused when their inputs, the contract and the code are unchanged, also
    after a run that was killed. Raises `UserError` for a user's mistake in any step, `StepFailed`
    for everything else.
    """
    home = project.home
    home.pipelines.mkdir(parents=True, exist_ok=True)
    log = home.pipelines / "run.log"
    with alone(home.pipelines), _environment(project):
        started = time.time()
        watcher = _Watcher(log, show)
        try:
            outputs = _run(project, as_of, watcher)
        except RuntimeError as error:
            if watcher.failure:
                raise UserError(watcher.failure["message"]) from None
            raise StepFailed(
                f"step {watcher.step or '(none)'} failed; see {log}, then run the same command "
                f"again: finished steps are reused\n{_tail(log)}"
            ) from error
        finally:
            watcher.close()
    records = []
    for name in STEPS:
        record = read_json(Path(outputs[name].path))
        record["reused"] = name in watcher.reused
        records.append(record)
    folders = {name: outputs[name].path for name in ("training_set", "package")}
    write_json(home.pipelines / "last.json", folders)
    return LocalRun(
        records,
        Path(folders["training_set"]),
        Path(folders["package"]),
        time.time() - started,
    )


def _run(project: Project, as_of: str, watcher: _Watcher) -> dict[str, Any]:
    with warnings.catch_warnings(), redirect_stdout(watcher), _logging_to(watcher):
        warnings.simplefilter("ignore")
        from kfp import components, local

        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(project.home.pipelines / "runs"),
            enable_caching=True,
            cache_root=str(project.home.pipelines / "cache"),
        )
        # What runs here is the file that a cluster would get, not the functions it came from.
        compiled = compile_training(
            project, str(project.path), project.home.pipelines / "training.yaml"
        )
        pipeline = components.load_component_from_file(str(compiled))
        return dict(pipeline(as_of=as_of).outputs)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One run at a time for each home: two would race for the same stores."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is at work in {folder.parent}.", "Wait for it, or stop it."
            ) from None
        yield


@contextmanager
def _environment(project: Project) -> Iterator[None]:
    """What step processes inherit. Their variables are not part of the cache key: nothing here
    may change a result."""
    before = dict(os.environ)
    os.environ.update(
        SLIPWAY_RUNNER_PID=str(os.getpid()),
        SLIPWAY_HOME=str(project.home.path),
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        PYTHONUNBUFFERED="1",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _logging_to(watcher: _Watcher) -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [logging.StreamHandler(watcher)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:])
