"""The model registry of one project: MLflow on its server, or on SQLite in the project's home.

`MLFLOW_TRACKING_URI` names a server. MLflow takes seconds to import, so nothing here does before
it must: a home without a registry has no champion, and says so at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import UserError
from slipway.files import new_folder
from slipway.package import verify
from slipway.project import Project

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION = "champion"
_SQLITE = "sqlite:///"
_HISTORY = "history."
_HISTORY_LENGTH = 50
"""Changes of an alias that are kept: MLflow bounds the length of a tag."""


@dataclass(frozen=True)
class Champion:
    """The version that answers requests."""

    version: str
    package: Path
    """Its verified folder, on this machine."""


@dataclass(frozen=True)
class Registered:
    """A version as the registry lists it."""

    version: str
    aliases: tuple[str, ...]
    at: datetime
    tags: dict[str, str]


class Registry:
    """Versions of the project's model, and the aliases that point at them."""

    def __init__(self, project: Project) -> None:
        self.name = project.contract.name
        self.uri = project.home.tracking_uri
        self._home = project.home

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client of a store that is whole and knows the registered model.

        It asks a server that restarts for up to four minutes (`MLFLOW_HTTP_REQUEST_MAX_RETRIES`).
        Raises `UserError` for one that does not answer.
        """
        os.environ.update(
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_LOGGING_LEVEL="WARNING",
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
            # A bucket that restarts is tried for minutes with AWS_MAX_ATTEMPTS=10, and not for the
            # ten seconds of `standard`.
            AWS_RETRY_MODE="legacy",
        )
        from mlflow import MlflowClient, MlflowException

        if database := self._database:
            _create_database(database)
        client = MlflowClient(self.uri, self.uri)
        try:
            if _registered(client, self.name) is None:
                with _unless_exists():
                    client.create_registered_model(self.name)
        except MlflowException as error:
            if self._database:
                raise
            raise UserError(
                f"{self.uri}: the MLflow server does not answer as it should ({error.message}).",
                "Check MLFLOW_TRACKING_URI, and that the server runs and allows this host name.",
            ) from None
        return client

    @cached_property
    def experiment(self) -> str:
        """The id of the project's MLflow experiment."""
        if self.client.get_experiment_by_name(self.name) is None:
            # A server knows where its artifacts go.
            root = self._home.artifacts.as_uri() if self._database else None
            with _unless_exists():
                self.client.create_experiment(self.name, root)
        return str(self.client.get_experiment_by_name(self.name).experiment_id)

    def version_of(self, alias: str) -> str | None:
        """The version that `alias` points at."""
        if self._database and not self._database.exists():
            return None
        model = self.client.get_registered_model(self.name)
        version = model.aliases.get(alias)
        return None if version is None else str(version)

    def champion(self) -> Champion | None:
        """The champion with its package, downloaded where it is not on this machine.

        Raises `UserError` for a package that was altered.
        """
        version = self.version_of(CHAMPION)
        return None if version is None else Champion(version, self.package(version))

    def versions(self) -> list[Registered]:
        """All versions, the newest first."""
        if self._database and not self._database.exists():
            return []
        aliases = self.client.get_registered_model(self.name).aliases
        found = [
            Registered(
                str(item.version),
                tuple(
                    sorted(alias for alias, at in aliases.items() if str(at) == str(item.version))
                ),
                datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
                dict(item.tags),
            )
            for item in self.client.search_model_versions(f"name = '{self.name}'")
        ]
        return sorted(found, key=lambda item: int(item.version), reverse=True)

    def source(self, version: str) -> str:
        """Where the package of a version lies: what KServe calls the storage URI."""
        return str(self.client.get_model_version(self.name, version).source)

    def package(self, version: str) -> Path:
        """The verified package of a version, downloaded once."""
        from mlflow.artifacts import download_artifacts

        source = self.client.get_model_version(self.name, version).source
        if self._database:
            folder = Path(download_artifacts(artifact_uri=source, tracking_uri=self.uri))
        else:
            # By source: a registry that was made anew counts its versions from 1 again.
            kept = self._home.path / "packages" / hashlib.sha256(source.encode()).hexdigest()[:16]
            if not kept.exists():
                with new_folder(kept) as new:
                    download_artifacts(
                        artifact_uri=source, dst_path=str(new), tracking_uri=self.uri
                    )
            # MLflow puts the last part of the source's path into the destination.
            folder = kept / source.rstrip("/").rsplit("/", 1)[-1]
        verify(folder)
        return folder

    def tag(self, version: str, key: str, value: str) -> None:
        self.client.set_model_version_tag(self.name, version, key, value)

    def set_alias(self, alias: str, version: str) -> None:
        """Point `alias` at `version`, and note the change; nothing happens if it already does."""
        if self.version_of(alias) == version:
            return
        history = self.history(alias)
        # The note comes first: a kill in between is mended by the same call again.
        if not history or history[-1][1] != version:
            history.append((datetime.now(UTC).isoformat(timespec="seconds"), version))
            noted = json.dumps(history[-_HISTORY_LENGTH:])
            self.client.set_registered_model_tag(self.name, _HISTORY + alias, noted)
        self.client.set_registered_model_alias(self.name, alias, version)

    def history(self, alias: str) -> list[tuple[str, str]]:
        """When `alias` was pointed at which version: ISO time in UTC and version, oldest first."""
        tags = self.client.get_registered_model(self.name).tags
        return [(at, version) for at, version in json.loads(tags.get(_HISTORY + alias, "[]"))]

    def before(self, alias: str) -> str | None:
        """The version that `alias` pointed at before the one of now."""
        now = self.version_of(alias)
        earlier = [version for _, version in self.history(alias) if version != now]
        return earlier[-1] if earlier else None

    @property
    def _database(self) -> Path | None:
        """The file of the embedded store; None where a server keeps it."""
        return Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None


@contextmanager
def _unless_exists() -> Iterator[None]:
    """Another process that was faster is as good."""
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    from mlflow import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def _create_database(path: Path) -> None:
    """Make MLflow's tables beside `path`, then rename: migrations that a kill cut short would
    leave a file that MLflow can neither use nor repair."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        new = path.parent / f".{path.name}.new"
        new.unlink(missing_ok=True)
        engine = sqlalchemy.create_engine(_SQLITE + str(new))

        # MLflow waits for the disk hundreds of times here; once, before the rename, is enough.
        @sqlalchemy.event.listens_for(engine, "connect")
        def without_waiting(connection: Any, _: object) -> None:
            connection.execute("pragma synchronous = off")

        _initialize_tables(engine)
        engine.dispose()
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
