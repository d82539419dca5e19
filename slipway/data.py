"""Data versions: immutable, content-addressed tables, in a folder or an object store.

    <store>/<id>/<source>.parquet   one file a source
    <store>/<id>/manifest.json      what is in it, and whence it came

The id is 16 hex digits of a hash over the content: equal content has an equal id, whoever reads
it, from wherever, whenever. A version without its manifest does not exist: the manifest is written
last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from slipway.errors import UserError
from slipway.files import new_folder, write_json
from slipway.fingerprint import TYPE_NAMES, fingerprint
from slipway.storage import Location, explained, locate

if TYPE_CHECKING:
    import pyarrow.dataset

    from slipway.diff import TableDiff

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SourceData:
    """One source as it was read."""

    table: pa.Table
    uri: str
    """Without credentials."""
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredColumn:
    name: str
    type: str
    nulls: int


@dataclass(frozen=True)
class StoredSource:
    """One source in a version."""

    name: str
    uri: str
    """Where the content was first read from."""
    rows: int
    bytes: int
    """Size of the parquet file."""
    sha256: str
    """Of the content, see `slipway.fingerprint`."""
    key: tuple[str, ...]
    columns: tuple[StoredColumn, ...]


@dataclass(frozen=True)
class Manifest:
    id: str
    created: str
    """ISO 8601 in UTC: when this content was first stored."""
    sources: tuple[StoredSource, ...]

    def source(self, name: str) -> StoredSource:
        for source in self.sources:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self.sources)
        raise UserError(f"data version {self.id} has no source '{name}'.", f"It has {known}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Manifest:
        sources = tuple(
            StoredSource(
                **source
                | {
                    "key": tuple(source["key"]),
                    "columns": tuple(StoredColumn(**column) for column in source["columns"]),
                }
            )
            for source in raw["sources"]
        )
        return cls(raw["id"], raw["created"], sources)


@dataclass(frozen=True)
class VersionDiff:
    """`sources` maps each source of both versions to what changed; None: nothing did."""

    old: str
    new: str
    sources_added: tuple[str, ...]
    sources_removed: tuple[str, ...]
    sources: Mapping[str, TableDiff | None]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class DataStore:
    """All data versions of a project, under a path, `s3://` or `gs://`."""

    def __init__(self, uri: str) -> None:
        self.base = locate(uri)

    def write(self, sources: Mapping[str, SourceData]) -> tuple[Manifest, bool]:
        """Store a version. Returns its manifest, and whether the same content was there already."""
        hashes = {name: fingerprint(data.table) for name, data in sources.items()}
        listed = json.dumps(sorted(hashes.items()))
        version = hashlib.sha256(listed.encode()).hexdigest()[:16]
        if (self.base / version / MANIFEST).exists():
            return self._checked(version), True
        created = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

        def fill(folder: Location) -> Manifest:
            stored = [
                _store(folder / f"{name}.parquet", name, data, hashes[name])
                for name, data in sources.items()
            ]
            return Manifest(version, created, tuple(stored))

        target = self.base / version
        with explained(target.uri, "written"):
            if target.local:
                with new_folder(target.local) as folder:
                    write_json(folder / MANIFEST, fill(locate(str(folder))).to_json())
            else:
                # A store has no rename of folders. Two writers of one version write the same rows.
                text = json.dumps(fill(target).to_json(), indent=2)
                (target / MANIFEST).write_text(text)
        return self.manifest(version), False

    def list(self) -> list[Manifest]:
        """Every version, the oldest first."""
        found = [self.manifest(name) for name in self.base.folders_with(MANIFEST)]
        return sorted(found, key=lambda manifest: (manifest.created, manifest.id))

    def manifest(self, version: str) -> Manifest:
        place = self.base / version / MANIFEST
        if not version or not place.exists():
            raise UserError(
                f"{self.base.uri} has no data version '{version}'.",
                "See `slipway data list` for those that it has.",
            )
        return Manifest.from_json(json.loads(place.read_bytes()))

    def find(self, prefix: str) -> Manifest:
        """The one version whose id starts with `prefix`; `latest` is the newest."""
        versions = self.list()
        if prefix == "latest" and versions:
            return versions[-1]
        found = [manifest for manifest in versions if prefix and manifest.id.startswith(prefix)]
        if len(found) > 1:
            ids = ", ".join(manifest.id for manifest in found)
            raise UserError(f"'{prefix}' could be any of {ids}.", "Write more of the id.")
        return found[0] if found else self.manifest(prefix)

    def location(self, version: str, source: str) -> str:
        """Path or URI of a source's parquet file."""
        return self._file(version, source).uri

    def table(self, version: str, source: str, columns: Collection[str] | None = None) -> pa.Table:
        """A source's rows in their order; `columns` in the order asked for."""
        file = self._file(version, source)
        with explained(file.uri):
            return pq.read_table(
                file.path, filesystem=file.filesystem, columns=columns, partitioning=None
            )

    def dataset(self, version: str, source: str) -> pyarrow.dataset.Dataset:
        """The same, to be scanned in parts."""
        import pyarrow.dataset

        file = self._file(version, source)
        with explained(file.uri):
            return pyarrow.dataset.dataset(file.path, filesystem=file.filesystem, format="parquet")

    def diff(self, old: str, new: str) -> VersionDiff:
        """What changed from one version to the other; rows are matched by the newer one's keys."""
        from slipway.diff import diff_tables

        before, after = self.manifest(old), self.manifest(new)
        names_before = [source.name for source in before.sources]
        names_after = [source.name for source in after.sources]
        compared: dict[str, TableDiff | None] = {}
        for source in after.sources:
            if source.name not in names_before:
                continue
            same = before.source(source.name).sha256 == source.sha256
            compared[source.name] = (
                None
                if same
                else diff_tables(
                    self.table(old, source.name), self.table(new, source.name), source.key
                )
            )
        return VersionDiff(
            old,
            new,
            tuple(name for name in names_after if name not in names_before),
            tuple(name for name in names_before if name not in names_after),
            compared,
        )

    def _file(self, version: str, source: str) -> Location:
        self.manifest(version).source(source)
        return self.base / version / f"{source}.parquet"

    def _checked(self, version: str) -> Manifest:
        """The version's manifest. Raises `UserError` if a file of it was lost or cut since."""
        manifest = self.manifest(version)
        for source in manifest.sources:
            file = self.base / version / f"{source.name}.parquet"
            if file.size() != source.bytes:
                raise UserError(
                    f"{file.uri}: damaged ({file.size()} bytes instead of {source.bytes}).",
                    f"Delete {self.base.uri}/{version} and run again.",
                )
        return manifest


def _store(file: Location, name: str, data: SourceData, sha256: str) -> StoredSource:
    table = data.table
    pq.write_table(
        table, file.path, filesystem=file.filesystem, compression="zstd", row_group_size=1 << 17
    )
    columns = tuple(
        StoredColumn(column, TYPE_NAMES[table[column].type], table[column].null_count)
        for column in table.column_names
    )
    size = file.size() or 0
    return StoredSource(name, data.uri, table.num_rows, size, sha256, data.key, columns)
