"""What MLflow keeps of a model: one run and one version for each package, by the package's digest.

Every write can be repeated: after a kill in between, the same call finds what is there and adds
what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DIGEST = "digest"
FOLDER = "package"
BATCH = 1000
"""Metrics that MLflow takes at once."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    version: str
    uri: str
    """Where its package lies: what KServe calls the storage URI."""
    reused: bool


def log_and_register(
    client: MlflowClient,
    experiment: str,
    model: str,
    package: Path,
    tags: Mapping[str, str],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> Registered:
    """Log the run and register `package` as a version of `model`; `tags` hold its digest.

    `experiment` is the id of the MLflow experiment. A package that is registered already is found
    again and nothing is logged.
    """
    digest = tags[DIGEST]
    found = client.search_model_versions(f"name = '{model}' and tag.{DIGEST} = '{digest}'")
    if found:
        oldest = min(found, key=lambda item: int(item.version))
        return Registered(str(oldest.version), oldest.source, reused=True)
    run = _run(client, experiment, tags)
    _log(client, run, training, evaluation)
    client.log_artifacts(run.info.run_id, str(package), FOLDER)
    client.set_terminated(run.info.run_id)
    created = client.create_model_version(
        model, f"{run.info.artifact_uri}/{FOLDER}", run.info.run_id, tags=dict(tags)
    )
    return Registered(str(created.version), created.source, reused=False)


def _run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run:
    """A new run, or the one that an interrupted registration of the same package left."""
    found = client.search_runs([experiment], f"tags.{DIGEST} = '{tags[DIGEST]}'", max_results=1)
    if found:
        return found[0]
    name = f"{tags['engine']}-{tags[DIGEST][:8]}"
    return client.create_run(experiment, tags=dict(tags), run_name=name)


def _log(
    client: MlflowClient, run: Run, training: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> None:
    from mlflow.entities import Metric, Param

    # One moment for all: a metric that is logged again is the same one.
    moment = run.info.start_time
    metrics = [
        Metric(name, value, moment, at) for name, value, at in _metrics(training, evaluation)
    ]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics[start : start + BATCH])
    params = [Param(name, str(value)) for name, value in _params(training)]
    client.log_batch(run.info.run_id, params=params)


def _params(training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from (("engine", training["engine"]), ("seed", training["seed"]))
    yield from ((f"rows.{window}", count) for window, count in training["rows"].items())
    for candidate in training["candidates"]:
        for name, value in candidate["settings"].items():
            yield f"{candidate['engine']}.{name}", value


def _metrics(
    training: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Iterator[tuple[str, float, int]]:
    """Name, value and step. Each model's test scores have their interval beside them."""
    for model in evaluation["models"]:
        prefix = "test" if model["name"] == "candidate" else f"test.{model['name']}"
        for metric, score in model["metrics"].items():
            for part, suffix in (("value", ""), ("low", ".low"), ("high", ".high")):
                if score is not None and score[part] is not None:
                    yield f"{prefix}.{metric}{suffix}", score[part], 0
    for candidate in training["candidates"]:
        engine = candidate["engine"]
        for metric, value in candidate["metrics"].items():
            if value is not None:
                yield f"validate.{engine}.{metric}", value, 0
        for point in candidate["curve"]:
            for window in ("train", "validate"):
                if point[window] is not None:
                    yield f"curve.{engine}.{window}", point[window], point["step"]
