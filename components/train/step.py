"""Train: the contract's engines on Ray; the better one on validation is the candidate."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.train import ray_runs
from components.train.exchange import fetch, publish
from components.train.job import Array, Job, Trained
from components.train.worker import read_trained
from slipway.contract import Contract
from slipway.encoder import Encoder
from slipway.errors import UserError
from slipway.files import new_folder, write_json, write_text
from slipway.package import EXPLAINER, Model, make_signature
from slipway.scores import scores
from slipway.step import Step
from slipway.storage import Location, locate

IMPORTANCE_ROWS = 4000


def train(
    step: Step, feature_version: str, code_version: str, training_set: Path, candidate: Path
) -> None:
    """Train and write the candidate's folder: `model.onnx`, `explainer.npz`, `encoder.json`,
    `signature.json`, `training.json`.

    What is cut off, a worker or the whole step, resumes from its last checkpoint when the same
    features are trained by the same code again. `SLIPWAY_RAY=kuberay` trains on a Ray cluster that
    lives for this run, otherwise Ray starts here, or `RAY_ADDRESS` names one.
    """
    name = f"{feature_version}-{code_version}"
    if os.environ.get("SLIPWAY_RAY") == "kuberay":
        from components.train import kuberay

        kuberay.train(step, name, training_set, candidate)
    else:
        train_with_ray(step, name, training_set, candidate)


def train_with_ray(
    step: Step, name: str, training_set: Path, candidate: Path, shared: Location | None = None
) -> None:
    """Train with the Ray of this machine, or with a cluster whose machines meet in `shared`."""
    ray_runs.remove_folders_of_killed_runs()
    contract = step.project.contract
    _require_libraries(contract)
    work = step.project.home.ray / name
    out = work / "out"
    place = shared or locate(str(work))
    fetch(place / "out", out)
    missing = [engine for engine in _engines(contract) if read_trained(out, engine) is None]
    seconds = 0.0
    with ThreadPoolExecutor(1) as pool:
        # Ray's processes take seconds to come up, and mostly wait for each other.
        preparing = pool.submit(_prepare, contract, training_set, work / "data", place / "data")
        if missing:
            ray_runs.prepare_environment()
            with step.importing():
                import ray.train  # noqa: F401
                from ray.train.v2.api import data_parallel_trainer  # noqa: F401
            step.say(f"starting Ray for {' and '.join(missing)}")
            started = time.perf_counter()
            with ray_runs.ray_session(contract.training):
                jobs = [job for job in preparing.result().jobs if job.engine in missing]
                jobs = _searched(step, contract, jobs, name, place)
                step.say(f"training {' and '.join(missing)}")
                ray_runs.fit(jobs, contract.training, name, place / "ray", place / "out")
            seconds = time.perf_counter() - started
        windows, encoder, jobs = preparing.result()
    fetch(place / "out", out)

    results = {job.engine: _trained(out, job.engine) for job in jobs}
    chosen = min(results, key=lambda engine: results[engine].loss)
    with new_folder(candidate) as folder:
        for file in ("model.onnx", EXPLAINER):
            shutil.copy(out / chosen / file, folder / file)
        write_text(folder / "encoder.json", encoder.to_json())
        write_json(folder / "signature.json", make_signature(contract))
        step.facts.update(
            engine=chosen,
            seed=contract.training.seed,
            where=_where(contract, seconds),
            rows={window: len(rows) for window, rows in windows.items()},
            candidates=[
                {
                    "engine": engine,
                    "chosen": engine == chosen,
                    "loss": result.loss,
                    "metrics": _validation_scores(contract, folder, out / engine, windows),
                    "settings": result.settings,
                    "seconds": round(sum(result.seconds.values()), 2),
                    "parts": result.seconds,
                    "curve": result.curve,
                }
                for engine, result in results.items()
            ],
            search=_search_facts(contract, jobs, place),
            importance=_importance(contract, Model.load(folder), windows["validate"]),
            resumed_from=max((r.resumed_from or 0 for r in results.values()), default=0) or None,
        )
        write_json(folder / "training.json", step.facts)
    shutil.rmtree(work, ignore_errors=True)
    told = ", ".join(f"{engine} {result.loss:.4f}" for engine, result in results.items())
    unit = "RMSE" if contract.target.task == "regression" else "log loss"
    step.say(f"{chosen} is the candidate; validation {unit}: {told}")


class _Prepared(NamedTuple):
    windows: dict[str, pa.Table]
    encoder: Encoder
    jobs: list[Job]


def _require_libraries(contract: Contract) -> None:
    absent = [engine for engine in _engines(contract) if find_spec(engine) is None]
    if absent:
        raise UserError(
            f"training.engine: {contract.training.engine} needs {' and '.join(absent)}, which is "
            "not installed here.",
            "Name the other engine in the contract, or build the train image with it.",
        )


def _prepare(contract: Contract, training_set: Path, data: Path, place: Location) -> _Prepared:
    windows = _windows(contract, training_set)
    encoder = Encoder.fit(contract, windows["train"])
    _write_matrices(data, encoder, windows, contract.target.label)
    publish(data, place)
    return _Prepared(windows, encoder, _jobs(contract, encoder, place.uri))


def _windows(contract: Contract, training_set: Path) -> dict[str, pa.Table]:
    """The rows of the train and validation windows. The test window is not read here."""
    table = pq.read_table(
        training_set / "training_set.parquet", filters=[("window", "in", ["train", "validate"])]
    )
    return {
        window: table.filter(pc.equal(table["window"], window)) for window in ("train", "validate")
    }


def _write_matrices(
    folder: Path, encoder: Encoder, windows: dict[str, pa.Table], label: str
) -> None:
    """Encoded windows as `.npy`, which workers map into memory instead of receiving."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for window, rows in windows.items():
        np.save(folder / f"{window}_x.npy", encoder.encode(rows))
        np.save(folder / f"{window}_y.npy", rows[label].to_numpy().astype(np.float32))


def _engines(contract: Contract) -> tuple[str, ...]:
    engine = contract.training.engine
    return ("torch", "xgboost") if engine == "auto" else (engine,)


def _jobs(contract: Contract, encoder: Encoder, data: str) -> list[Job]:
    training = contract.training
    return [
        Job(
            engine=engine,
            settings=getattr(training, engine).model_dump(),
            task=contract.target.task,
            classes=len(contract.target.classes or ()),
            categories=tuple(len(column.categories) for column in encoder.columns),
            data=data,
            seed=training.seed,
            threads=training.cpus_per_worker,
            gpu=training.use_gpu,
        )
        for engine in _engines(contract)
    ]


def _searched(
    step: Step, contract: Contract, jobs: list[Job], name: str, place: Location
) -> list[Job]:
    """Jobs with the best settings that a search found; its trials are kept for the report."""
    wanted = contract.training.search
    if wanted is None:
        return jobs
    found = []
    for job in jobs:
        if any(key.startswith(f"{job.engine}.") for key in wanted.space):
            kept = _trials_of(job, place)
            if not kept.exists():
                step.say(f"searching {job.engine} settings ({wanted.method})")
                found_trials = ray_runs.search(job, contract.training, wanted, name, place / "ray")
                kept.write_text(json.dumps(found_trials, allow_nan=False))
            settings = json.loads(kept.read_bytes())[0]["settings"]
            best = {key.split(".", 1)[1]: value for key, value in settings.items()}
            job = Job(**asdict(job) | {"settings": job.settings | best})
        found.append(job)
    return found


def _trials_of(job: Job, place: Location) -> Location:
    return place / f"trials-{job.engine}.json"


def _search_facts(contract: Contract, jobs: list[Job], place: Location) -> dict[str, Any] | None:
    if contract.training.search is None:
        return None
    kept = [file for job in jobs if (file := _trials_of(job, place)).exists()]
    return {
        "method": contract.training.search.method,
        "trials": [trial for file in kept for trial in json.loads(file.read_bytes())],
    }


def _trained(out: Path, engine: str) -> Trained:
    trained = read_trained(out, engine)
    if trained is None:
        raise RuntimeError(f"Ray Train ended well, but {engine} left no model in {out}")
    return trained


def _validation_scores(
    contract: Contract, candidate: Path, engine: Path, windows: dict[str, pa.Table]
) -> dict[str, float]:
    rows = windows["validate"]
    # The encoder and the signature are the candidate's, the model is this engine's.
    for name in ("encoder.json", "signature.json"):
        shutil.copy(candidate / name, engine / name)
    predictions = Model.load(engine).predict(rows)
    labels = rows[contract.target.label].to_numpy()
    return scores(contract.target.task, labels, predictions)


def _importance(contract: Contract, model: Model, rows: pa.Table) -> list[dict[str, Any]]:
    """Permutation importance on the validation window: how much the loss grows when one raw
    feature's values are shuffled among rows."""
    generator = np.random.default_rng(contract.training.seed)
    if len(rows) > IMPORTANCE_ROWS:
        rows = rows.take(np.sort(generator.choice(len(rows), IMPORTANCE_ROWS, replace=False)))
    labels = rows[contract.target.label].to_numpy()
    matrix = model.encoder.encode(rows)
    metric = "rmse" if contract.target.task == "regression" else "log_loss"

    def loss(features: Array) -> float:
        return scores(contract.target.task, labels, model.predict_encoded(features))[metric]

    base = loss(matrix)
    found = []
    for feature in model.encoder.features:
        columns = [
            at for at, column in enumerate(model.encoder.columns) if column.feature == feature.name
        ]
        shuffled = matrix.copy()
        shuffled[:, columns] = matrix[generator.permutation(len(matrix))][:, columns]
        found.append({"feature": feature.name, "value": loss(shuffled) - base})
    return sorted(found, key=lambda item: -item["value"])


def _where(contract: Contract, seconds: float) -> str:
    training = contract.training
    place = "this machine" if ray_runs.ray_address() == "local" else "a Ray cluster"
    if profile := os.environ.get("SLIPWAY_RAY_PROFILE"):
        place = f"KubeRay, profile {profile}"
    device = "GPU" if training.use_gpu else "CPU"
    workers = f"{training.workers} worker{'s' if training.workers > 1 else ''}"
    return f"Ray on {place}, {workers}, {device}, {seconds:.0f} s"
