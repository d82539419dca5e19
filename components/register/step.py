"""Register: a package that is proven to serve becomes a version, and perhaps the champion."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.register.assemble import assemble
from slipway.code import ROOT, code_version, commit
from slipway.errors import UserError
from slipway.files import read_json, sha256
from slipway.step import Step

CHECK_SECONDS = 120


def register(
    step: Step,
    data_version: str,
    feature_version: str,
    as_of: str,
    training_set: Path,
    candidate: Path,
    evaluation: Path,
    package: Path,
) -> str:
    """Write the folder `package`, prove it in the serving runtime, and register it in MLflow.

    The new version is `challenger`, and `champion` if the gates passed. The same package again is
    the same version. Returns the version. Raises `UserError` for a package that does not load or
    does not reproduce its reference predictions: that one is not registered.
    """
    project = step.project
    scored = read_json(evaluation / "evaluation.json")
    training = read_json(candidate / "training.json")
    lineage = {
        "data_version": data_version,
        "feature_version": feature_version,
        "code_version": code_version(),
        "project_version": project.version,
        "as_of": as_of,
    }
    digest, rows = assemble(project, lineage, training_set, candidate, scored, package)
    step.say(f"package {digest[:12]}: {rows} reference predictions to reproduce")
    with _checking(package) as check:
        with step.importing():
            import mlflow  # noqa: F401 (most of this step's time)

            from components.register.tracking import log_and_register
            from slipway.registry import Registry
        difference = _result(check)
    step.say(f"the serving runtime reproduces them to {difference:.1g}")
    registry = Registry(project)
    name = project.contract.name
    tags = lineage | {
        "digest": digest,
        "commit": commit(),
        "contract_sha256": sha256(project.path),
        "engine": training["engine"],
        "task": scored["task"],
    }
    registered = log_and_register(
        registry.client, registry.experiment, name, package, tags, training, scored
    )
    version = registered.version
    previous = registry.version_of("champion")
    registry.tag(version, "gates", "passed" if scored["passed"] else "failed")
    registry.set_alias("challenger", version)
    if scored["passed"]:
        registry.set_alias("champion", version)
    alias = "champion" if scored["passed"] else "challenger"
    known = "is there already" if registered.reused else "registered"
    step.say(f"{name} version {version} {known}, {alias}")
    step.facts.update(
        model=name,
        version=version,
        alias=alias,
        champion_version=version if scored["passed"] else previous,
        previous_champion=previous,
        digest=digest,
        reused=registered.reused,
        reference_rows=rows,
        largest_difference=difference,
        lineage=lineage,
        uri=registered.uri,
    )
    return version


@contextmanager
def _checking(package: Path) -> Iterator[subprocess.Popen[str]]:
    """The serving runtime in a process of its own, at work while this one imports MLflow."""
    with subprocess.Popen(
        [sys.executable, "-m", "serving", "--check", str(package)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as check:
        try:
            yield check
        finally:
            check.kill()


def _result(check: subprocess.Popen[str]) -> float:
    """The largest difference to a reference prediction."""
    output, errors = check.communicate(timeout=CHECK_SECONDS)
    if check.returncode == 2:
        raise UserError(f"The package does not serve: {errors.strip()}")
    if check.returncode != 0:
        raise RuntimeError(f"the serving runtime failed with code {check.returncode}:\n{errors}")
    return float(json.loads(output)["largest_difference"])
