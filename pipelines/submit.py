"""The training pipeline on a cluster: uploaded once for each state of it, run, and watched."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipelines import runs
from pipelines.api import Api, ApiError
from pipelines.compile import compile_training, path_in_image, pipeline_name
from pipelines.connect import Cluster
from pipelines.local import Event, StepFailed
from slipway.code import code_version, commit
from slipway.errors import UserError
from slipway.pods import end_of, why_waiting
from slipway.project import Project
from slipway.step import FAILURE, PROGRESS

PAUSE = 2.0
GOING = ("PENDING", "RUNNING", "PAUSED")


@dataclass(frozen=True)
class Version:
    """A pipeline version of KFP."""

    pipeline: str
    identity: str
    name: str
    new: bool


def upload(api: Api, project: Project, built: Mapping[str, str]) -> Version:
    """The version of this commit, this project and these images; uploaded if it is not there.

    Its name is the commit and a hash of the compiled file, so equal content has one version.
    """
    name = pipeline_name(project)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.yaml"
        compile_training(project, path_in_image(project), file, built)
        version = f"{commit()}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
        pipeline = api.pipeline(name) or api.create_pipeline(name, project.contract.description)
        identity = str(pipeline["pipeline_id"])
        if known := _known(api, identity, version):
            return Version(identity, known, version, False)
        told = f"commit {commit()}, project {project.version}, code {code_version()}"
        try:
            made = api.upload_version(identity, version, told, file)
        except ApiError:
            # Somebody was faster, or the answer to a first attempt was lost.
            if known := _known(api, identity, version):
                return Version(identity, known, version, False)
            raise
    return Version(identity, str(made["pipeline_version_id"]), version, True)


def _known(api: Api, pipeline: str, version: str) -> str:
    """The id of a version that is there; empty where it is not."""
    for one in api.versions(pipeline):
        if one["display_name"] == version:
            return str(one["pipeline_version_id"])
    return ""


def start(api: Api, project: Project, version: Version, as_of: str) -> tuple[str, bool]:
    """The run's id, and whether it is a new one: an equal run that is on its way is taken."""
    wanted = {"as_of": as_of} if as_of else {}
    experiment = api.experiment(project.contract.name)
    for run in api.runs(experiment):
        same = runs.version_of(run) == version.identity and runs.parameters_of(run) == wanted
        if same and run.get("state") in GOING:
            return str(run["run_id"]), False
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    made = api.create_run(
        {
            "display_name": f"{project.contract.name} {moment}",
            "experiment_id": experiment,
            "pipeline_version_reference": {
                "pipeline_id": version.pipeline,
                "pipeline_version_id": version.identity,
            },
            "runtime_config": {"parameters": wanted},
        }
    )
    return str(made["run_id"]), True


def follow(cluster: Cluster, run: str, show: Callable[[Event], None]) -> dict[str, Any]:
    """Show the run's steps until it ends; the run. Raises `UserError` for a user's mistake in a
    step, `StepFailed` for everything else."""
    shown: dict[str, str] = {}
    told = ""
    while True:
        found = cluster.api.run(run)
        state = found.get("state", "")
        unseen = "waiting" if shown else "unseen"
        for step in runs.steps(found):
            before = shown.get(step.name, unseen)
            if before == "unseen" and step.state == "done":  # before anyone watched
                show(Event("done", step.name, str(step.seconds)))
            elif before in ("unseen", "waiting") and step.state in ("running", "done", "failed"):
                show(Event("start", step.name))
            if before != "reused" and step.state == "reused":
                show(Event("reused", step.name))
            shown[step.name] = step.state
        now = _says(cluster, run)
        if now and now != told:
            told = now
            show(Event("says", "", now))
        if state == "SUCCEEDED":
            return found
        if state in runs.ENDED:
            _fail(cluster, found)
        time.sleep(PAUSE)


def _says(cluster: Cluster, run: str) -> str:
    """Why the run waits, or the last word of the step that runs."""
    pods = cluster.pods(run)
    for pod in pods:
        if waiting := why_waiting(pod):
            return f"waiting: {waiting.why}"
    for pod in pods:
        if pod["status"].get("phase") == "Running" and runs.step_of(pod):
            lines = cluster.log(pod["metadata"]["name"], lines=40).splitlines()
            said = [line.strip() for line in lines if line.strip().startswith(PROGRESS)]
            if said:
                return said[-1].removeprefix(PROGRESS)
    return ""


def _fail(cluster: Cluster, run: dict[str, Any]) -> NoReturn:
    identity = run["run_id"]
    failed = [step.name for step in runs.steps(run) if step.state == "failed"]
    step = failed[0] if failed else ""
    last = ""
    for pod in sorted(cluster.pods(identity), key=lambda pod: pod["metadata"]["creationTimestamp"]):
        if pod["status"].get("phase") == "Failed":
            last = pod["metadata"]["name"]
            if FAILURE in (told := end_of(pod)):
                raise UserError(mistake(told))
    if any(entry.get("state") == "CANCELING" for entry in run.get("state_history", [])):
        raise StepFailed(f"run {identity} was terminated")
    if not step:
        raise StepFailed(f"run {identity} ended before its steps did ({run.get('state')})")
    log = "\n".join(cluster.log(last, lines=15).splitlines()) if last else ""
    raise StepFailed(
        f"step {step} failed\n{log}\n"
        f"See `slipway runs logs {identity}`; `slipway runs retry {identity}` goes on with it."
    )


def mistake(text: str) -> str:
    """The sentence in what a step said at its end."""
    line = text[text.index(FAILURE) + len(FAILURE) :].splitlines()[0]
    try:
        return str(json.loads(line)["message"])
    except json.JSONDecodeError:  # cut off by Kubernetes' limit
        return line
