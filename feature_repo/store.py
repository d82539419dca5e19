"""Opening the Feast store of a project."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from feature_repo.definitions import feast_project
from slipway.project import Project

if TYPE_CHECKING:
    from feast import FeatureStore

EMBEDDED = Path(__file__).parent / "stores" / "embedded" / "feature_store.yaml"
ONLINE, REGISTRY = "online.db", "registry.db"


def open_store(project: Project, folder: Path, online: str = ONLINE) -> FeatureStore:
    """The embedded Feast store in `folder`: SQLite online, our DuckDB store offline.

    `online` is the file name of the online store. Index what it returns by name: Feast orders
    columns by the process's hash seed.
    """
    import yaml
    from feast import FeatureStore, RepoConfig

    text = Template(EMBEDDED.read_text(encoding="utf-8")).substitute(
        SLIPWAY_FEAST_PROJECT=feast_project(project), SLIPWAY_FEAST_HOME=str(folder.resolve())
    )
    raw = yaml.safe_load(text)
    raw["online_store"]["path"] = str(folder.resolve() / online)
    store = FeatureStore(config=RepoConfig(**raw, repo_path=folder.resolve()))
    # Feast loads the store's module, and with it the adapters to replace, on first use only.
    store._get_provider()
    _timestamps_in_utc()
    return store


def _timestamps_in_utc() -> None:
    """Feast writes its UTC timestamps to SQLite as if they were local time, and loses an hour
    where the local clock skips one, or all the offset where the reader has another zone."""
    sqlite3.register_adapter(datetime, _to_epoch)
    sqlite3.register_converter("timestamp", _from_epoch)


def _to_epoch(moment: datetime) -> int:
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _from_epoch(value: bytes) -> datetime:
    return datetime.fromtimestamp(int(value), UTC)
