"""Opening the Feast store of a project: the embedded one of a folder, or a configured one."""

from __future__ import annotations

import io
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import feast_project
from slipway.errors import UserError
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

CONFIG = "feature_store.yaml"
EMBEDDED = Path(__file__).parent / "stores" / "embedded" / CONFIG
ONLINE, REGISTRY = "online.db", "registry.db"


def config_file(place: Path) -> Path | None:
    """Feast's configuration at `place`: a YAML file, or a folder that holds `feature_store.yaml`.

    None where `place` is the folder of an embedded store, which may not be there yet. Raises
    `UserError` for a file that does not exist.
    """
    if place.suffix not in (".yaml", ".yml"):
        file = place / CONFIG
        return file if file.is_file() else None
    if not place.is_file():
        raise UserError(
            f"{place}: there is no such file.", "Name Feast's configuration, or a store's folder."
        )
    return place


def open_store(
    project: Project, place: Path, online: str = ONLINE, generation: str = ""
) -> FeatureStore:
    """The Feast store at `place`, which `config_file` explains.

    An embedded one has SQLite online and our DuckDB store offline; `online` is the file name of its
    online store. A configured one is what its file says, with variables from the environment;
    `generation` is appended to Feast's name of the project. Index what it returns by name: Feast
    orders columns by the process's hash seed. Raises `UserError` for a wrong configuration.
    """
    from feast import FeatureStore

    store = FeatureStore(config=store_config(project, place, online, generation))
    # Feast loads the store's module, and with it the adapters to replace, on first use only.
    store._get_provider()
    _timestamps_in_utc()
    return store


def store_config(
    project: Project, place: Path, online: str = ONLINE, generation: str = ""
) -> RepoConfig:
    """Feast's configuration of the store that `open_store` opens: nothing is reached for it."""
    file, name = config_file(place), feast_project(project)
    if file is None:
        home = place.resolve()
        known = {"SLIPWAY_FEAST_PROJECT": name, "SLIPWAY_FEAST_HOME": str(home)}
        raw = _read(EMBEDDED, known)
        raw["online_store"]["path"] = str(home / online)
    else:
        home = file.resolve().parent
        raw = _read(file, os.environ | {"SLIPWAY_FEAST_PROJECT": name})
        raw["project"] = f"{name}{generation}"
    return _config(raw, file or EMBEDDED, home)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Feast's progress bars, and its word on every look into the registry."""
    logger = logging.getLogger("feast")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _read(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    import yaml

    try:
        raw = _filled(yaml.safe_load(file.read_text(encoding="utf-8")), variables)
    except KeyError as error:
        raise UserError(
            f"{file}: the environment variable {error.args[0]} is not set.", "Set it."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: not a Feast configuration: {error}.", "Mend it.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{file}: not a Feast configuration.", "See feature_repo/stores/.")
    return raw


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Variables are put into parsed values: no letter of a secret means anything to YAML."""
    if isinstance(value, dict):
        return {name: _filled(item, variables) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return Template(value).substitute(variables) if isinstance(value, str) else value


def _config(raw: dict[str, Any], file: Path, home: Path) -> RepoConfig:
    from feast import RepoConfig
    from pydantic import ValidationError

    try:
        config = RepoConfig(**raw, repo_path=home)
        config.online_store  # noqa: B018 (Feast checks this section on first use only)
    except ValidationError as error:
        # Without the values, which may be secrets.
        faults = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_context=False)
        ]
        raise UserError(f"{file}: {'; '.join(faults)}.", "See Feast's documentation.") from None
    return config


def _timestamps_in_utc() -> None:
    """Feast writes its UTC timestamps to SQLite as if they were local time, and loses an hour
    where the local clock skips one, or all the offset where the reader has another zone."""
    sqlite3.register_adapter(datetime, _to_epoch)
    sqlite3.register_converter("timestamp", _from_epoch)


def _to_epoch(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _from_epoch(value: bytes) -> datetime:
    return datetime.fromtimestamp(int(value), UTC)
