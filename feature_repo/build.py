"""A feature version: views as parquet and a training set of them, built once and never changed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from feature_repo.duck import connect, parquet_view
from feature_repo.training_set import write_rows, write_training_set
from feature_repo.views import write_tables, write_views
from slipway.code import content_hash
from slipway.files import new_folder, write_json
from slipway.project import Project
from slipway.storage import Location, explained, locate

TRAINING_SET = "_training_set.parquet"
MANIFEST = "_manifest.json"
"""Written last: a folder without it is no feature version."""


class Sources(Protocol):
    """What is needed of a data store: where the parquet of a source lies."""

    def location(self, version: str, source: str) -> str: ...


@dataclass(frozen=True)
class FeatureVersion:
    """One immutable build."""

    id: str
    location: str
    """Folder or URI of `<view>.parquet`, the training set and the manifest."""
    views: list[dict[str, Any]]
    """`{name, rows, entities, first, last}` of each view."""
    reused: bool
    """Whether it was there already."""

    def fetch_training_set(self, path: Path) -> None:
        """Copy the training set to the local file `path`."""
        _copy(locate(self.location) / TRAINING_SET, locate(str(path)))


def view_location(project: Project, feature_version: str, view: str) -> str:
    """Path or URI of a view's parquet in a feature version."""
    return f"{project.home.features_uri.rstrip('/')}/{feature_version}/{view}.parquet"


def feature_version(
    project: Project, data_version: str, as_of: datetime, training: bool = True
) -> str:
    """16 hex of everything that a build is made from; one without a training set is another."""
    moment = as_of.astimezone(UTC).isoformat()
    parts = [data_version, project.version, moment, content_hash(("feature_repo",))]
    if not training:
        parts.append("views")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def find(
    project: Project, data_version: str, as_of: datetime, training: bool = True
) -> FeatureVersion | None:
    """The feature version, if it was built; a complete one also where `training` is False."""
    for complete in dict.fromkeys((True, training)):
        version = feature_version(project, data_version, as_of, complete)
        location = f"{project.home.features_uri.rstrip('/')}/{version}"
        manifest = locate(location) / MANIFEST
        if manifest.exists():
            views = json.loads(manifest.read_bytes())["views"]
            return FeatureVersion(version, location, views, reused=True)
    return None


def build(
    project: Project, sources: Sources, data_version: str, as_of: datetime, training: bool = True
) -> FeatureVersion:
    """Build the feature version of a data version as it was known at `as_of`, or find it built.

    Not `training`: the views alone, for an online store; the newest data have no labels yet. Needs
    `2GB` of memory for DuckDB (`SLIPWAY_MEMORY_LIMIT`) whatever the number of rows, and disk space
    of a few times the data version. Raises `UserError` for SQL that fails or does not give what the
    contract says.
    """
    if found := find(project, data_version, as_of, training):
        return found
    version = feature_version(project, data_version, as_of, training)
    location = f"{project.home.features_uri.rstrip('/')}/{version}"
    with _writing(locate(location)) as folder, tempfile.TemporaryDirectory() as temporary:
        views = _build(project, sources, data_version, as_of, training, folder, Path(temporary))
        write_json(
            folder / MANIFEST,
            {
                "feature_version": version,
                "data_version": data_version,
                "project_version": project.version,
                "as_of": as_of.astimezone(UTC).isoformat(),
                "views": views,
            },
        )
    return FeatureVersion(version, location, views, reused=False)


def prune(project: Project, keep: str, age: timedelta) -> int:
    """Remove the feature versions without a training set that were built longer ago than `age`, but
    for the version `keep`; returns how many. Online stores that were filled of them stay."""
    base, limit = locate(project.home.features_uri), datetime.now(UTC) - age
    without = set(base.folders_with(MANIFEST)) - set(base.folders_with(TRAINING_SET))
    old = [name for name in without - {keep} if (base / name / MANIFEST).modified() < limit]
    for name in old:
        (base / name).remove_folder(MANIFEST)
    return len(old)


def _build(
    project: Project,
    sources: Sources,
    data_version: str,
    as_of: datetime,
    training: bool,
    folder: Path,
    temporary: Path,
) -> list[dict[str, Any]]:
    # Each folder is what one kind of SQL may reach: a view gets the tables and nothing else.
    tables, target, spill = temporary / "tables", temporary / "target", temporary / "spill"
    tables.mkdir()
    target.mkdir()
    locations = {
        name: locate(sources.location(data_version, name)) for name in project.contract.sources
    }
    reach = {item.local.parent for item in locations.values() if item.local}
    with connect(spill, [*reach, tables, target]) as connection:
        for name, location in locations.items():
            parquet_view(connection, name, location)
        write_tables(connection, project, as_of, tables)
        if training:
            for name in project.contract.tables:
                # The target's SQL sees both; a table stands for the source of the same name.
                parquet_view(connection, name, locate(f"{tables / name}.parquet"))
            write_rows(connection, project, as_of, target / "rows.parquet")
    views = write_views(project, as_of, tables, folder, spill)
    if training:
        write_training_set(project, target / "rows.parquet", folder, folder / TRAINING_SET, spill)
    return views


@contextmanager
def _writing(location: Location) -> Iterator[Path]:
    """A local folder whose files become those of `location` when the block ends well."""
    if location.local:
        with new_folder(location.local) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        # An object store cannot rename: the manifest, last, is what makes the version exist.
        names = [path.name for path in Path(temporary).iterdir() if path.name != MANIFEST]
        for name in [*sorted(names), MANIFEST]:
            _copy(locate(temporary) / name, location / name)


def _copy(source: Location, destination: Location) -> None:
    import pyarrow.fs

    with explained(destination.uri, "written"):
        pyarrow.fs.copy_files(
            source.path,
            destination.path,
            source_filesystem=source.filesystem,
            destination_filesystem=destination.filesystem,
        )
