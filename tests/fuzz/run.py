"""Fuzzes one way in, in a process of its own: `python -m tests.fuzz.run CASE FOLDER INPUTS SEED`.

Led by coverage where atheris is installed, otherwise by chance alone. Leaves CASE.json in FOLDER:
inputs, how many of them were answered, and the growth of memory in bytes.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.fuzz.cases import Case

LONGEST = 2**14
"""Bytes of an input."""
WARM_UP = 0.3
"""Share of the inputs after which memory must stay flat."""
LED = importlib.util.find_spec("atheris") is not None


def main(name: str, folder: Path, inputs: int, seed: int) -> None:
    logging.lastResort = None
    errors = _Errors(logging.ERROR)
    logging.getLogger().addHandler(errors)
    if LED:
        import atheris

        with atheris.instrument_imports(include=["serving", "slipway"]):
            from tests.fuzz import cases
    else:
        from tests.fuzz import cases
    case = cases.load(name, folder)
    progress = _Progress(case, inputs, folder / f"{name}.json", errors)
    for data in case.right:
        assert case.run(data), f"a right input is refused: {data!r}"
    if LED:
        _led(progress, folder / name, seed)
    rng = Random(seed)
    while True:
        progress(case.wrong(rng, rng.choice(case.right)))


def _led(progress: _Progress, corpus: Path, seed: int) -> None:
    import atheris

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = Random(number)
        choice = rng.randrange(4)
        if choice == 0:
            return bytes(atheris.Mutate(data, most))
        # What reached new code is seldom right otherwise: every second input is nearly so.
        start = data if choice == 1 else rng.choice(progress.case.right)
        return progress.case.wrong(rng, start)[:most]

    corpus.mkdir(parents=True, exist_ok=True)
    for at, data in enumerate(progress.case.right):
        (corpus / f"right{at}").write_bytes(data)
    options = [f"-max_len={LONGEST}", f"-seed={seed}", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], progress, custom_mutator=mutated)
    atheris.Fuzz()


class _Errors(logging.Handler):
    """Whatever the server logs as an error, in whichever task."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or self.format(record)


class _Progress:
    """Runs inputs until there were enough, or one of them is a fault; then ends the process."""

    def __init__(self, case: Case, inputs: int, result: Path, errors: _Errors) -> None:
        self.case = case
        self._inputs, self._result, self._errors = inputs, result, errors
        self._done = self._answered = self._memory = 0

    def __call__(self, data: bytes) -> None:
        try:
            self._answered += self.case.run(data)
            assert not self._errors.first, self._errors.first
        except BaseException:
            traceback.print_exc()
            self._end(1)
        self._done += 1
        if self._done == int(self._inputs * WARM_UP):
            self._memory = _memory()
        if self._done == self._inputs:
            self._end(0)

    def _end(self, code: int) -> None:
        found: dict[str, Any] = {
            "inputs": self._done,
            "answered": self._answered,
            "growth": _memory() - self._memory if self._memory else 0,
        }
        self._result.write_text(json.dumps(found))
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the fuzzer would take it for a fault.
        os._exit(code)


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
