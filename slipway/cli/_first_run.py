"""The first run of a fresh platform: train, release, and score real rows through the gateway."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway.cli._cluster import faults
from slipway.errors import UserError
from slipway.files import read_json
from slipway.project import Project

if TYPE_CHECKING:
    from ops.cluster import Cluster
    from ops.deploy import Times
    from ops.platform import Platform

READY_SECONDS = 300
TOLERANCE = 1e-6
NAMESPACE = "kubeflow"
STEPS = "slipway-steps"
"""ConfigMap and Secret with the environment of the pipeline's steps."""
ARTIFACTS = "mlpipeline-minio-artifact"
"""Secret of who may read what steps leave."""
SERVICES = ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI")
"""Variables of that environment that may name a service of the cluster."""
Say = Callable[[str], None]


def first_run(
    cluster: Cluster,
    platform: Platform,
    project: Project,
    gateway: str,
    images: Path,
    say: Say,
    times: Times,
) -> dict[str, Any]:
    """Raises `ClickException` where the run fails or the answers are not those of the model."""
    from ops.gateway import address

    name = project.contract.name
    with times.phase("pipeline"):
        run = _train(cluster, project, images, say)
    with times.phase("model ready"):
        wait_until_ready(cluster, name, say)
    with times.phase("scoring"):
        url = address(cluster, platform.facts, gateway)
        score = compare(cluster, project, url, f"{name}.{platform.facts['domain']}")
    window = score["window"]
    worst = max(abs(found["difference"]) for found in (window, *score["protocols"].values()))
    if worst > TOLERANCE:
        raise click.ClickException(
            f"the answers through the gateway differ from the embedded rung's by {worst:.1e} in "
            f"{score['metric']}, and at most {TOLERANCE:.0e} is right"
        )
    say(f"{window['rows']:,} rows scored through the gateway: as in the embedded rung")
    return {"run": run["run_id"], "steps": _steps(run), "score": score}


def _train(cluster: Cluster, project: Project, images: Path, say: Say) -> dict[str, Any]:
    """The run's details, after its end."""
    from pipelines.compile import built_images
    from pipelines.connect import connected
    from pipelines.local import StepFailed
    from pipelines.submit import follow, start, upload

    try:
        with faults(), connected("", cluster.context, NAMESPACE) as pipelines:
            version = upload(pipelines.api, project, built_images(images))
            run, new = start(pipelines.api, project, version, "")
            say(f"run {run} of version {version.name}" + ("" if new else ", on its way already"))
            done: dict[str, Any] = follow(pipelines, run, lambda event: _tell(event, say))
            return done
    except StepFailed as error:
        raise click.ClickException(str(error)) from None


def _tell(event: Any, say: Say) -> None:
    text = " ".join(part for part in (event.step, event.text) if part)
    say(f"{event.kind}: {text}" if event.kind != "says" else f"  {text}")


def _steps(run: dict[str, Any]) -> dict[str, float | None]:
    from pipelines.runs import steps

    return {step.name: step.seconds for step in steps(run)}


def wait_until_ready(cluster: Cluster, name: str, say: Say) -> None:
    """The condition itself is read: `kubectl wait` trusts `observedGeneration`, which KServe 0.20
    stops counting."""
    from ops.cluster import wait
    from ops.health import problems

    said = ""
    for _ in wait(READY_SECONDS, pause=2):
        found = cluster.get(
            "inferenceservices.serving.kserve.io",
            namespace="models",
            selector=f"app.kubernetes.io/instance={name}",
        )
        wrong = problems(found)
        if found and not wrong:
            return
        text = str(wrong[0]) if wrong else f"the model {name} is not there yet"
        if text != said:
            say(text)
            said = text
    raise click.ClickException(f"{said} Gave up after {READY_SECONDS} s: `slipway status`")


def compare(cluster: Cluster, project: Project, url: str, host: str) -> dict[str, Any]:
    """Rows of the test window through the gateway, against the champion in this process."""
    from pipelines.compile import pipeline_name
    from serving.remote import Remote
    from serving.remote import compare as compared
    from slipway.registry import Registry
    from slipway.storage import locate

    with tempfile.TemporaryDirectory() as scratch, steps_environment(cluster):
        registry = Registry(project)
        champion = registry.champion()
        if champion is None:
            raise click.ClickException(
                f"{registry.name} has no champion: the gates of the run failed; "
                "`slipway runs show latest`"
            )
        tags = registry.client.get_model_version(registry.name, champion.version).tags
        folder = Path(scratch)
        with _artifacts_identity(cluster):
            (folder / "training_set.parquet").write_bytes(
                _training_set(locate("s3://mlpipeline/v2/artifacts"), pipeline_name(project))
            )
        facts = compared(
            project,
            Remote(url, host, registry.name),
            champion.package,
            folder,
            tags["feature_version"],
            project.contract.resolve_as_of(tags["as_of"]),
        )
    return {
        "version": champion.version,
        "on_test_window": read_json(champion.package / "metrics.json"),
        **facts,
    }


def _training_set(root: Any, pipeline: str) -> bytes:
    """The newest that a run of the pipeline left; a run whose step was reused left none."""
    from pyarrow.fs import FileSelector

    folder = f"{root.path}/{pipeline}"
    found = root.filesystem.get_file_info(FileSelector(folder, recursive=True))
    ours = [one for one in found if one.path.endswith("/training_set.parquet")]
    if not ours:
        raise click.ClickException(f"{root.uri}/{pipeline} holds no training set")
    newest = max(ours, key=lambda one: one.mtime_ns or 0)
    with root.filesystem.open_input_stream(newest.path, compression=None) as file:
        return bytes(file.read())


@contextmanager
def steps_environment(cluster: Cluster) -> Iterator[None]:
    """This process sees the stores that the pipeline's steps see, through port-forwards."""
    config = cluster.one("configmap", STEPS, NAMESPACE)
    secret = cluster.one("secret", STEPS, NAMESPACE)
    if config is None or secret is None:
        raise UserError(
            f"the cluster lacks the ConfigMap or the Secret {NAMESPACE}/{STEPS}.",
            "Run `make deploy` again.",
        )
    values = dict(config["data"]) | _decoded(secret)
    ours = ("AWS_", "SLIPWAY_DATA_URI", "SLIPWAY_FEATURES_URI", "MLFLOW_TRACKING_URI")
    values = {key: text for key, text in values.items() if key.startswith(ours)}
    with ExitStack() as stack:
        for key in SERVICES:
            if inside := re.fullmatch(r"http://([\w-]+)\.([\w-]+):(\d+)/?", values.get(key, "")):
                local = stack.enter_context(cluster.forward(inside[2], inside[1], int(inside[3])))
                values[key] = f"http://{local}"
        with _environment(values):
            yield


@contextmanager
def _artifacts_identity(cluster: Cluster) -> Iterator[None]:
    keys = _decoded(cluster.one("secret", ARTIFACTS, NAMESPACE) or {"data": {}})
    with _environment(
        {
            "AWS_ACCESS_KEY_ID": keys.get("accesskey", ""),
            "AWS_SECRET_ACCESS_KEY": keys.get("secretkey", ""),
        }
    ):
        yield


def _decoded(secret: dict[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(text).decode() for key, text in secret["data"].items()}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
