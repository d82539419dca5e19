"""The training pipeline as the YAML that a cluster runs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway import images
from slipway.code import ROOT, code_version
from slipway.errors import UserError
from slipway.files import read_json, write_text
from slipway.project import Project

STEPS = ("ingest", "validate", "features", "train", "evaluate", "register")
"""The steps that make a model, in their order. On a cluster `release` follows."""
IN_IMAGE = Path("/app")
"""Where images hold what this checkout holds."""


def compile_training(
    project: Project, in_image: str, out: Path, built: Mapping[str, str] | None = None
) -> Path:
    """Compile with this project's and this code's versions as parameter defaults.

    `in_image` is the contract's path as the step images see it; `built` gives the images by role,
    where they are to be others than the names in the components.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from kfp import compiler

        from pipelines.training import training

        out.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(
            training,
            str(out),
            pipeline_name=pipeline_name(project),
            pipeline_parameters={
                "project": in_image,
                "project_version": project.version,
                "code_version": code_version(),
            },
        )
    if built is not None:
        _name_images(out, built)
    return out


def pipeline_name(project: Project) -> str:
    return f"{project.contract.name}-training"


def path_in_image(project: Project) -> str:
    """Raises `UserError` for a contract that no image holds."""
    if not project.path.is_relative_to(ROOT):
        raise UserError(
            f"{project.path} lies outside {ROOT}, so no image would hold it.",
            "Move the project into this repository.",
        )
    return (IN_IMAGE / project.path.relative_to(ROOT)).as_posix()


def built_images(file: Path = ROOT / ".slipway" / "images.json") -> dict[str, str]:
    """The images that `make images` noted, by role: by digest where they were pushed."""
    if not file.exists():
        raise UserError(f"{file} does not exist.", "Build the images first: `make images`.")
    noted = read_json(file)
    if missing := {"data", "train", "serve", "tools"} - set(noted):
        raise UserError(
            f"{file} notes no image for {', '.join(sorted(missing))}.",
            "Build all images: `make images`.",
        )
    return {role: _reference(image) for role, image in noted.items()}


def _reference(image: dict[str, Any]) -> str:
    digest = f"@{image['digest']}" if image.get("digest") else ""
    return f"{image['name']}:{image['tag']}{digest}"


def _name_images(file: Path, built: Mapping[str, str]) -> None:
    """Put the built images in the place of the names that the components know."""
    names = {getattr(images, role.upper()): image for role, image in built.items()}
    documents = [
        _replaced(document, names) for document in yaml.safe_load_all(file.read_text()) if document
    ]
    write_text(file, yaml.safe_dump_all(documents, sort_keys=True))


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
