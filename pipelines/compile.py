"""The training pipeline as the YAML that a cluster runs."""

from __future__ import annotations

import warnings
from pathlib import Path

from slipway.code import code_version
from slipway.project import Project

STEPS = ("ingest", "validate", "features", "train", "evaluate", "register")


def compile_training(project: Project, in_image: str, out: Path) -> Path:
    """Compile with this project's and this code's versions as parameter defaults.

    `in_image` is the contract's path as the step images see it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from kfp import compiler

        from pipelines.training import training

        out.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(
            training,
            str(out),
            pipeline_name=f"{project.contract.name}-training",
            pipeline_parameters={
                "project": in_image,
                "project_version": project.version,
                "code_version": code_version(),
            },
        )
    return out
