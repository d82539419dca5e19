"""Ray, started once for a step: Ray Train for the models, Ray Tune for the search."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.train.job import Job, TuneReporter
from components.train.worker import train_job, train_jobs
from slipway.contract.model import Range, Search, Training
from slipway.errors import UserError
from slipway.storage import Location

# Read by Ray when it is imported or started.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Each of these is a process or a poll that a run of seconds only waits for.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.05",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # OpenMP threads that spin while they wait make two cores ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}


# For a Ray of our own, one process tree on this machine: without it, ray.init writes a token into
# HOME, which a hardened pod has not.
ALONE = {"RAY_AUTH_MODE": "disabled"}

SHORT = Path("/tmp")  # noqa: S108
PREFIX = "slipway-ray-"


def prepare_environment() -> None:
    """Call it before Ray is imported."""
    os.environ.update(ENVIRONMENT)
    if ray_address() == "local":
        os.environ.update(ALONE)


def ray_address() -> str:
    return os.environ.get("RAY_ADDRESS", "local")


@contextmanager
def ray_session(training: Training) -> Iterator[None]:
    """A Ray of our own for the time of the block, or the cluster that `RAY_ADDRESS` names."""
    import ray

    address = ray_address()
    if address != "local":
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Sockets lie below this folder, and their paths may have 107 characters.
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHORT)
    try:
        ray.init(
            address="local",
            # Ray counts what it is told, and its own controllers count too.
            num_cpus=max(os.cpu_count() or 1, training.workers * training.cpus_per_worker) + 1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
            _temp_dir=folder,
        )
        _require_gpus(ray.cluster_resources().get("GPU", 0), training)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _require_gpus(found: float, training: Training) -> None:
    """Ray would wait without end, and without a word, for what a machine has not got."""
    if training.use_gpu and found < training.workers:
        raise UserError(
            f"training.use_gpu: this machine has {found:.0f} GPUs for {training.workers} workers.",
            "Set use_gpu to false, take fewer workers, or name a cluster in RAY_ADDRESS.",
        )


def remove_folders_of_killed_runs() -> None:
    """Ray's session folders of processes that are no more."""
    import psutil

    for folder in SHORT.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def fit(jobs: list[Job], training: Training, name: str, storage: Location, out: Location) -> None:
    """Train jobs with Ray Train; each leaves `model.onnx`, `explainer.npz` and `trained.json` in
    `out/<engine>`.

    `name` and `storage` say where checkpoints lie: the same again resumes what was cut off.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    alone = training.workers == 1 and not training.use_gpu
    # One worker needs no process group, so one run trains all engines and starts its processes
    # once. Several workers need their engine's own group.
    groups = [jobs] if alone else [[job] for job in jobs]
    for group in groups:
        trainer: Any = DataParallelTrainer
        if not alone:
            from ray.train.torch import TorchTrainer
            from ray.train.xgboost import XGBoostTrainer

            trainer = {"torch": TorchTrainer, "xgboost": XGBoostTrainer}[group[0].engine]
        trainer(
            train_jobs,
            train_loop_config={"jobs": [asdict(job) for job in group], "out": out.uri},
            scaling_config=ScalingConfig(
                num_workers=training.workers,
                use_gpu=training.use_gpu,
                resources_per_worker={
                    "CPU": training.cpus_per_worker,
                    **({"GPU": 1} if training.use_gpu else {}),
                },
            ),
            run_config=RunConfig(
                name="-".join([name, *(job.engine for job in group)]),
                **_stored(storage),
                failure_config=FailureConfig(max_failures=training.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                worker_runtime_env={
                    "env_vars": {
                        "OMP_NUM_THREADS": str(training.cpus_per_worker),
                        "OMP_WAIT_POLICY": "PASSIVE",
                    }
                },
            ),
        ).fit()


def _stored(place: Location) -> dict[str, Any]:
    """Ray's way to say a place."""
    if place.local:
        return {"storage_path": place.path}
    return {"storage_path": place.path, "storage_filesystem": place.filesystem}


def search(
    job: Job, training: Training, wanted: Search, name: str, storage: Location
) -> list[dict[str, Any]]:
    """Try settings of one engine with Ray Tune; trials, best first.

    Each: `settings` (the searched ones), `loss` on the validation window, `seconds`, `stopped`
    (ended early because it fell behind).
    """
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    prefix = f"{job.engine}."
    space = {
        key.removeprefix(prefix): item
        for key, item in wanted.space.items()
        if key.startswith(prefix)
    }
    longest = job.settings["epochs" if job.engine == "torch" else "rounds"]
    scheduler = (
        ASHAScheduler(
            time_attr="step", max_t=longest, grace_period=max(1, longest // 8), reduction_factor=3
        )
        if wanted.early_stopping
        else FIFOScheduler()
    )
    algorithm = None
    if wanted.method == "bayesian":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        algorithm = OptunaSearch(metric="loss", mode="min", seed=job.seed)
    run = f"{name}-search-{job.engine}"
    trainable = tune.with_resources(
        _trial(asdict(job)),
        {"cpu": training.cpus_per_worker, **({"gpu": 1} if training.use_gpu else {})},
    )
    path = (storage / run).path
    filesystem = None if storage.local else storage.filesystem
    if tune.Tuner.can_restore(path, storage_filesystem=filesystem):
        tuner = tune.Tuner.restore(
            path,
            trainable,
            resume_unfinished=True,
            restart_errored=True,
            storage_filesystem=filesystem,
        )
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={
                key: _domain(item, wanted.method, job.settings[key]) for key, item in space.items()
            },
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=1 if wanted.method == "grid" else wanted.trials,
                search_alg=algorithm,
                scheduler=scheduler,
            ),
            run_config=tune.RunConfig(name=run, **_stored(storage), verbose=0),
        )
    results = tuner.fit()
    trials = [
        {
            "settings": {f"{prefix}{key}": result.config[key] for key in space},
            "loss": result.metrics["loss"],
            "seconds": round(result.metrics["time_total_s"], 2),
            "stopped": bool(result.metrics.get("done")) and result.metrics["step"] < longest,
        }
        for result in results
        if result.error is None and result.metrics and "loss" in result.metrics
    ]
    if not trials:
        raise UserError(
            f"training.search: none of the trials of {job.engine} finished: {results.errors[0]}",
            "Narrow the search space.",
        )
    return sorted(trials, key=lambda trial: trial["loss"])


def _trial(raw: dict[str, Any]) -> Any:
    def trial(chosen: dict[str, Any]) -> None:
        job = Job(**raw | {"settings": raw["settings"] | chosen})
        with tempfile.TemporaryDirectory() as folder:
            train_job(job, TuneReporter(), Path(folder))

    return trial


def _domain(item: Range | tuple[Any, ...], method: str, present: object) -> Any:
    from ray import tune

    if not isinstance(item, Range):
        return tune.grid_search(list(item)) if method == "grid" else tune.choice(list(item))
    if isinstance(present, int):
        low, high = int(item.min), int(item.max)
        return tune.lograndint(low, high + 1) if item.log else tune.randint(low, high + 1)
    return tune.loguniform(item.min, item.max) if item.log else tune.uniform(item.min, item.max)
