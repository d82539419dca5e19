"""What a training job is told, what it reads, how it reports: the seam of Ray and engines."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from components.train.exchange import nearby

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """One engine to train with one group of settings."""

    engine: str
    settings: dict[str, Any]
    task: str
    classes: int
    """Number of classes; 0 unless multiclass."""
    categories: tuple[int, ...]
    """For each encoded column its number of categories, 0 for a number."""
    data: str
    """Path or URI of a folder with `train_x.npy`, `train_y.npy`, `validate_x.npy`,
    `validate_y.npy`."""
    seed: int
    threads: int
    gpu: bool

    def load(self, window: str, rank: int = 0, world: int = 1) -> tuple[Array, Array]:
        """Features float32 [n, columns] and labels float32 [n] of this worker's share of rows.

        All shares are equal, up to `world` - 1 last rows being in none: a worker with one batch
        more than the others would wait for them forever.
        """
        folder = nearby(self.data)
        x, y = (np.load(folder / f"{window}_{kind}.npy", mmap_mode="r") for kind in "xy")
        end = len(x) - len(x) % world
        return np.array(x[rank:end:world]), np.array(y[rank:end:world])


@dataclass(frozen=True)
class Trained:
    """What an engine hands back; the model itself lies in the folder it was given."""

    loss: float
    """Of the kept model on the validation window: log loss, or RMSE."""
    curve: list[dict[str, float]]
    """`step`, `train` and `validate` loss, one entry for each epoch or each few rounds."""
    resumed_from: int | None
    """The step after which a checkpoint was picked up, if one was."""
    settings: dict[str, Any]
    """What it was trained with, as the search or the contract says."""
    seconds: dict[str, float]
    """`imports` of the engine's library, `data`, `training`, `export`; of the last attempt."""


class Clock:
    """Seconds of each part of a job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def ends(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._last, 2)
        self._last = now


class Reporter(Protocol):
    """How an engine speaks while it trains; Ray Train and Ray Tune each have one."""

    rank: int
    world: int

    def restore(self) -> Path | None:
        """Folder of the last checkpoint of this engine's run, if there is one."""

    def report(self, step: int, loss: float, save: Callable[[Path], None]) -> None:
        """Tell the validation loss after `step`; `save` writes a checkpoint into a folder."""


class TrainReporter:
    """Reports to Ray Train: a checkpoint with every report, and resumption from the last one."""

    def __init__(self, engine: str) -> None:
        import ray.train

        self._train = ray.train
        self._engine = engine
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()

    def restore(self) -> Path | None:
        checkpoint = self._train.get_checkpoint()
        if checkpoint is None:
            return None
        folder = Path(checkpoint.to_directory())
        state = json.loads((folder / "job.json").read_text())
        return folder if state["engine"] == self._engine else None

    def report(self, step: int, loss: float, save: Callable[[Path], None]) -> None:
        metrics = {"engine": self._engine, "step": step, "loss": loss}
        _die_here(self._engine, step)
        if self.rank:
            self._train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            (Path(folder) / "job.json").write_text(json.dumps(metrics))
            self._train.report(metrics, checkpoint=self._train.Checkpoint.from_directory(folder))


class TuneReporter:
    """Reports to Ray Tune: the best loss so far, by which trials are stopped."""

    rank, world = 0, 1

    def __init__(self) -> None:
        self._best = float("inf")

    def restore(self) -> Path | None:
        return None

    def report(self, step: int, loss: float, save: Callable[[Path], None]) -> None:
        from ray import tune

        self._best = min(self._best, loss)
        tune.report({"loss": self._best, "step": step})


def _die_here(engine: str, step: int) -> None:
    """Fault injection: kill this worker once, where `SLIPWAY_KILL_WORKER=engine:step:marker` says.

    The proof that a lost worker loses no work needs a worker that dies at a known moment.
    """
    wanted = os.environ.get("SLIPWAY_KILL_WORKER", "")
    if wanted.startswith(f"{engine}:{step}:"):
        marker = Path(wanted.split(":", 2)[2])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
