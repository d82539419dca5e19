"""What a person sees while a run goes on: one line for each step, alive on a terminal."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Protocol

import click

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Event(Protocol):
    """`pipelines.local.Event`, by its shape: this package does not import pipelines."""

    @property
    def kind(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def text(self) -> str: ...


class Progress:
    """Shows steps as they start, speak and end. Without a terminal, one line when each ends."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._step = ""
        self._text = ""
        self._started = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> Progress:
        if self._live:
            threading.Thread(target=self._animate, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end("✗" if kind else "✓", "red" if kind else "green")
        self._stop.set()

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self.start(event.step)
        elif event.kind == "reused":
            if self._step == event.step:  # a cluster finds out when the step has begun
                self._step = ""
            self._end()
            self._print("↺", "cyan", event.step, "reused: nothing that it depends on changed")
        elif event.kind == "done":
            self._print("✓", "green", event.step, "", float(event.text))
        elif event.kind == "says":
            self.say(event.text)

    def start(self, step: str) -> None:
        self._end()
        with self._lock:
            self._step, self._text, self._started = step, "", time.monotonic()

    def say(self, text: str) -> None:
        with self._lock:
            self._text = text

    def _end(self, mark: str = "✓", colour: str = "green") -> None:
        with self._lock:
            step, text, seconds = self._step, self._text, time.monotonic() - self._started
            self._step = ""
        if step:
            self._print(mark, colour, step, text, seconds)

    def _print(
        self, mark: str, colour: str, step: str, text: str, seconds: float | None = None
    ) -> None:
        clear = "\r\033[K" if self._live else ""
        spent = f"{seconds:6.1f} s" if seconds is not None else " " * 8
        click.echo(f"{clear}  {click.style(mark, fg=colour)} {step:<9}{spent}  {text}", err=True)

    def _animate(self) -> None:
        turn = 0
        while not self._stop.wait(0.12):
            with self._lock:
                if not self._step:
                    continue
                seconds = time.monotonic() - self._started
                line = (
                    f"  {FRAMES[turn % len(FRAMES)]} {self._step:<9}{seconds:6.1f} s  {self._text}"
                )
            columns = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\033[K{line[: columns - 1]}")
            sys.stderr.flush()
            turn += 1
