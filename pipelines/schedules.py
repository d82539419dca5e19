"""Recurring runs as data: what `schedules.yaml` says is what a cluster has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError

from pipelines.api import Api
from pipelines.submit import Version
from slipway.contract.model import Positive, Section
from slipway.errors import UserError
from slipway.project import Project

NAME = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"


class Schedule(Section):
    """One recurring run."""

    name: str = Field(pattern=NAME, max_length=40)
    project: str = "project.yaml"
    """The contract, relative to the repository."""
    cron: str = Field(pattern=r"^\S+( \S+){5}$")
    """Six fields, seconds first; in the time zone of the chart (`scheduledWorkflow.timeZone`)."""
    enabled: bool = True
    max_concurrency: Positive = 1
    """How many of its runs may be on their way at once; another one is left out."""


class Schedules(Section):
    """The recurring runs of one owner."""

    owner: str = Field(pattern=NAME, max_length=40)
    """Whose they are: repositories that share a cluster leave each other's alone."""
    schedules: list[Schedule]

    @property
    def mark(self) -> str:
        """How the description of a recurring run of theirs begins; a hash of it follows."""
        return f"slipway schedule of {self.owner} "


class Change(NamedTuple):
    """What was done to a recurring run: `created`, `replaced`, `unchanged`, `removed`."""

    name: str
    done: str


def load(file: Path) -> Schedules:
    """Raises `UserError` that names the schedule and the field."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist.", "Write it, or name another file.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is no YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{file} holds no list `schedules`.", "Write `schedules: []` for none.")
    try:
        found = Schedules.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{file}: {where}: {first['msg']}.", "Correct it.") from None
    names = [schedule.name for schedule in found.schedules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{file}: {twice[0]} is there twice.", "Give each its own name.")
    return found


def reconcile(
    api: Api, wanted: Schedules, upload: Callable[[Schedule], tuple[Project, Version]]
) -> Iterator[Change]:
    """Make, replace and remove recurring runs until the owner has these on the cluster. All others
    are left alone. KFP cannot change one: a changed one is made anew."""
    there = {
        one["display_name"]: one
        for one in api.recurring_runs()
        if one.get("description", "").startswith(wanted.mark)
    }
    for schedule in wanted.schedules:
        project, version = upload(schedule)
        body = _body(api, schedule, project, version, wanted.mark)
        known = there.pop(schedule.name, None)
        if known and known["description"] == body["description"]:
            yield Change(schedule.name, "unchanged")
            continue
        if known:
            api.delete_recurring_run(known["recurring_run_id"])
        api.create_recurring_run(body)
        yield Change(schedule.name, "replaced" if known else "created")
    for name, gone in there.items():
        api.delete_recurring_run(gone["recurring_run_id"])
        yield Change(name, "removed")


def _body(
    api: Api, schedule: Schedule, project: Project, version: Version, mark: str
) -> dict[str, Any]:
    body = {
        "display_name": schedule.name,
        "experiment_id": api.experiment(project.contract.name),
        "pipeline_version_reference": {
            "pipeline_id": version.pipeline,
            "pipeline_version_id": version.identity,
        },
        "runtime_config": {"parameters": {}},
        "trigger": {"cron_schedule": {"cron": schedule.cron}},
        "max_concurrency": str(schedule.max_concurrency),
        "mode": "ENABLE" if schedule.enabled else "DISABLE",
        # Runs that were due while the cluster was off would all see the same data now.
        "no_catchup": True,
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    return {**body, "description": mark + digest}
