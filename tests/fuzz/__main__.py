"""Fuzzes every way into the server, for as many inputs as asked: `make fuzz`, for the night.

    python -m tests.fuzz [--inputs 200000] [--seed N] [--folder .slipway/fuzz]

Ends with 1 if an input crashed the server, hung it, got an answer that is not a clear refusal, or
let memory grow; such inputs are in FOLDER/found: one that is mended belongs into
tests/local/fuzz_corpus, where every test run tries it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.run import LED

SHARES = {"v1": 5, "v2": 5, "binary": 5, "explain": 1, "grpc": 5, "http": 4, "http2": 4}
"""How the inputs are shared out over the cases of `tests.fuzz.cases`."""
GROWTH = 32 * 2**20
"""Bytes that a process may hold more at its end than after its warm-up, the fuzzer's own notes
among them."""
SILENT_SECONDS = 3600


@dataclass(frozen=True)
class Result:
    name: str
    inputs: int
    answered: int
    growth: int
    seconds: float
    fault: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31) or 1)
    parser.add_argument("--folder", type=Path, default=Path(".slipway/fuzz"))
    arguments = parser.parse_args()
    if LED:
        print("Led by coverage (atheris).")
    else:
        print(
            f"NOT LED BY COVERAGE: atheris is not installed; where it has no wheel (Python "
            f"{platform.python_version()} on {platform.machine()} {platform.system()}), it cannot "
            "be. The same faults come by chance alone, so rare code is reached more seldom."
        )
    print(f"{arguments.inputs} inputs, seed {arguments.seed}", flush=True)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    parts = sum(SHARES.values())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            pool.map(
                # Rounded up: the sum is never below what was asked for.
                lambda name: _run(
                    name,
                    arguments.folder / name,
                    -(-arguments.inputs * SHARES[name] // parts),
                    arguments.seed,
                ),
                SHARES,
            )
        )
    _print(results)
    return 1 if any(result.fault for result in results) else 0


def _run(name: str, folder: Path, inputs: int, seed: int) -> Result:
    folder.mkdir(parents=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, str(folder), str(inputs), str(seed)],
        capture_output=True,
        check=False,
        timeout=SILENT_SECONDS,
    )
    seconds = time.monotonic() - started
    file = folder / f"{name}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    fault = ""
    if done.returncode or found.get("inputs") != inputs:
        said = done.stderr.decode(errors="replace")
        fault = f"ended with {done.returncode}: {said[said.find('Traceback') :][:4000]}"
    elif found["growth"] > GROWTH:
        fault = f"memory grew by {found['growth'] / 2**20:.0f} MiB"
    return Result(
        name,
        found.get("inputs", 0),
        found.get("answered", 0),
        found.get("growth", 0),
        seconds,
        fault,
    )


def _print(results: list[Result]) -> None:
    print(f"{'':9}{'inputs':>9}{'answered':>10}{'memory':>10}{'seconds':>9}")
    for item in results:
        memory = f"{item.growth / 2**20:+.1f} MiB"
        print(f"{item.name:9}{item.inputs:9}{item.answered:10}{memory:>10}{item.seconds:9.0f}")
    print(f"{'all':9}{sum(item.inputs for item in results):9}")
    for item in results:
        if item.fault:
            print(f"\n{item.name}: {item.fault}")


if __name__ == "__main__":
    sys.exit(main())
