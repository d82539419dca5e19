"""Load on one core: wrk for HTTP/1.1, h2load for gRPC. An error answer fails the measurement."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.serving.cases import Question, WrongAnswer
from slipway.errors import UserError

POST = Path(__file__).parent / "post.lua"
PROGRAMS = {
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "taskset": "util-linux",
    "setpriv": "util-linux",
}
REDIS = {"redis-server": "redis-server"}


class Load(NamedTuple):
    rate: float
    """Answers per second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float = math.nan
    """Processor time of the server for each answer: the figure that a busy machine moves least."""


def require(programs: dict[str, str]) -> None:
    """Raises `UserError` for system programs that are missing."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed.",
            f"apt install {' '.join(dict.fromkeys(programs[name] for name in missing))}",
        )


def pinned(core: int) -> list[str]:
    """What to put before a command: it has one core, and ends when this process does."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core)]


def http(
    core: int, url: str, questions: list[Question], connections: int, seconds: int, folder: Path
) -> Load:
    """Raises `WrongAnswer` for an answer that is not 2xx, or none."""
    names = []
    for at, question in enumerate(questions):
        names.append(folder / f"body-{at}")
        names[-1].write_bytes(question.body)
    headers = "\n".join(f"{name}: {value}" for name, value in questions[0].headers.items())
    output = _run(
        [
            *(*pinned(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
            *("--timeout", "20s", "-s", str(POST), url),
        ],
        {"BENCH_BODIES": "\n".join(map(str, names)), "BENCH_HEADERS": headers},
        seconds,
    )
    found = json.loads(output.strip().splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise WrongAnswer(f"under load: {found}")
    return Load(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"])


def grpc(
    core: int,
    url: str,
    question: Question,
    answer_bytes: int,
    connections: int,
    seconds: int,
    folder: Path,
) -> Load:
    """One call at a time on each connection. `answer_bytes` is the size of the right answer's
    message. Raises `WrongAnswer` for answers that are not 200, or not of that size: a gRPC error is
    a 200 without a message."""
    body, log = folder / "body", folder / "h2load.log"
    body.write_bytes(b"\0" + len(question.body).to_bytes(4, "big") + question.body)
    log.unlink(missing_ok=True)
    output = _run(
        [
            *(*pinned(core), "h2load", "-t1", f"-c{connections}", "-m1"),
            *("-D", str(seconds), "-d", str(body), "--log-file", str(log)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers", url),
        ],
        {},
        seconds,
    )
    return read_h2load(output, log.read_text(), answer_bytes + 5, connections)


def read_h2load(output: str, log: str, frame_bytes: int, connections: int) -> Load:
    """`log` has a line for each answer: start in µs, status, µs until its end."""
    lines = np.array([line.split()[:3] for line in log.splitlines()], np.int64).reshape(-1, 3)
    if not len(lines) or (lines[:, 1] != 200).any():
        raise WrongAnswer(f"under load: statuses {sorted(set(lines[:, 1].tolist()))}")
    data = re.search(r"\((\d+)\) data$", output, re.M)
    # Answers under way when the time is over may be counted in part.
    if not data or not 0 <= int(data[1]) - len(lines) * frame_bytes <= connections * frame_bytes:
        raise WrongAnswer(
            f"under load: {len(lines)} answers of {frame_bytes} bytes expected, "
            f"got {data[1] if data else 'no'} bytes"
        )
    started, took = lines[:, 0], lines[:, 2]
    seconds = ((started + took).max() - started.min()) / 1e6
    p50, p99 = np.percentile(took, [50, 99]) / 1e3
    return Load(len(lines) / seconds, float(p50), float(p99))


def _run(command: list[str], environment: dict[str, str], seconds: int) -> str:
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise WrongAnswer(
            f"{command[len(pinned(0))]} ended with code {done.returncode}: {done.stderr[-300:]}"
        )
    return done.stdout
