"""What every pipeline step does around its work: time it, report it, and fail in one sentence."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from slipway import code
from slipway.errors import UserError
from slipway.files import write_json
from slipway.project import Project

PROGRESS = "slipway: "
FAILURE = "slipway-error: "
TERMINATION_LOG = Path("/dev/termination-log")
"""What a container writes here is the reason of its end that Kubernetes shows."""


@dataclass
class Step:
    """One running step: its project, and the facts it leaves for the report."""

    name: str
    project: Project
    facts: dict[str, Any] = field(default_factory=dict)
    import_seconds: float = 0.0

    def say(self, text: str) -> None:
        """A line of progress for whoever watches the run."""
        print(f"{PROGRESS}{text}", flush=True)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Counts the time spent in this block as import of heavy libraries."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.import_seconds += time.perf_counter() - started


@contextmanager
def running(
    name: str, project: str, project_version: str, code_version: str, facts_path: str
) -> Iterator[Step]:
    """Run a step's work inside this block.

    `project` is the path of the contract, the versions are what the pipeline was compiled or
    submitted with; a difference is an error, because cached steps would mix two projects, or two
    states of the code. Facts and timings are written to `facts_path` when the work ends well. A
    `UserError` ends the process with code 2 and one sentence.
    """
    entered = time.time()
    _die_with_parent()
    _hush()
    try:
        loaded = Project.load(project)
        if project_version != loaded.version:
            raise UserError(
                f"{project}: the pipeline was submitted for project version {project_version}, "
                f"this code holds {loaded.version}.",
                "Submit it again with the project that is installed here.",
            )
        if code_version != code.code_version():
            raise UserError(
                f"the pipeline was submitted for code version {code_version}, this image holds "
                f"{code.code_version()}.",
                "Build the images of the code that you submit: `make images`.",
            )
        step = Step(name, loaded)
        yield step
    except UserError as error:
        _fail(name, error)
    ended = time.time()
    write_json(
        Path(facts_path),
        {
            "step": name,
            "started": _process_start(),
            "ended": ended,
            "seconds": {
                "startup": round(entered - _process_start(), 3),
                "imports": round(step.import_seconds, 3),
                "work": round(ended - entered - step.import_seconds, 3),
            },
            "facts": step.facts,
        },
    )


def _fail(name: str, error: UserError) -> NoReturn:
    told = f"{FAILURE}{json.dumps({'step': name, 'message': str(error)})}"
    print(told, flush=True)
    # KFP's launcher turns every exit code into 1. By this line the workflow knows a mistake, which
    # another attempt would only repeat, from a fault. Outside of a pod there is no such file.
    with suppress(OSError), TERMINATION_LOG.open("r+", encoding="utf-8") as file:
        file.write(told)
    sys.exit(2)


def _process_start() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _hush() -> None:
    """No library of ours phones home."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="1",
        GX_ANALYTICS_ENABLED="false",
    )


def _die_with_parent() -> None:
    """End this process when the local runner is gone, so that a killed run leaves no orphan."""
    pid = os.environ.get("SLIPWAY_RUNNER_PID")
    if not pid:
        return
    import psutil

    def alive(runner: psutil.Process) -> bool:
        return runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            runner = psutil.Process(int(pid))
            while alive(runner):
                time.sleep(0.3)
        me = psutil.Process()
        for process in [*me.children(recursive=True), me]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    threading.Thread(target=watch, daemon=True).start()
