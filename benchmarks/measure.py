"""A command as a whole: seconds, and the largest memory of all its processes together."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent


class Measured(NamedTuple):
    seconds: float
    peak_mb: float
    """Sum over the process tree, shared pages counted once (PSS), sampled twice a second."""


def measured(command: list[str], environment: dict[str, str]) -> Measured:
    """Run `command` in the repository; exits with its output if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        me = psutil.Process(process.pid)
        while not done.wait(0.5):
            peak = max(peak, _memory(me))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}:\n{output}")
    return Measured(seconds, peak / 2**20)


def _memory(root: psutil.Process) -> float:
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.uss)
    return total
