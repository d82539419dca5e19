"""A backup: databases, objects, features, models and their aliases, in one folder or under one
s3:// address.

The databases are of one moment; objects are copied after it. What a database row names is written
once and never changed, so every row finds its objects. The online store is copied before it: the
registry knows every view that it holds. The manifest, with a checksum of every file, is written
last: a folder without one is no backup.

    online/PROJECT.jsonl.gz   databases/NAME.sql.gz   objects/BUCKET/KEY
    models/NAME.json   registry.json   manifest.json
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops import helm, online_store
from ops.cluster import Cluster
from ops.dump import Server, dump
from ops.platform import Values
from ops.stores import BUCKETS, DATABASES, Stores, stores
from slipway.errors import UserError
from slipway.helm import MODELS_DRIVER
from slipway.helm import helm as run_helm
from slipway.online_store import projects
from slipway.storage import Location, locate

MANIFEST = "manifest.json"
FORMAT = 2
CHUNK = 1 << 20
Say = Callable[[str], None]
Files = dict[str, dict[str, Any]]
"""Path in the backup -> sha256 and bytes."""
# Streams say `compression=None` everywhere: pyarrow would unpack and pack what ends in .gz.


def backup(cluster: Cluster, platform: Values, to: str, say: Say) -> dict[str, Any]:
    """Write a backup; returns its manifest. Raises `UserError` where one lies there already."""
    place = locate(to)
    if (place / MANIFEST).exists():
        raise UserError(f"{to} holds a backup.", "Name a new place, such as one with the date.")
    if place.local:
        place.local.mkdir(parents=True, exist_ok=True)
    files: Files = {}
    with stores(cluster) as there:
        with tempfile.TemporaryDirectory() as scratch:
            for name in projects(there.online):
                file = Path(scratch) / f"{name}.jsonl.gz"
                entities = online_store.save(there.online, name, file)
                files[f"online/{file.name}"] = _put(file.open("rb"), place / "online" / file.name)
                say(f"online store, {name}: {entities:,} entities")
            started = datetime.now(UTC)
            rows = dump(there.server, list(DATABASES), Path(scratch))
            for name in DATABASES:
                file = Path(scratch) / f"{name}.sql.gz"
                files[f"databases/{file.name}"] = _put(
                    file.open("rb"), place / "databases" / file.name
                )
                say(f"database {name}: {rows[name]:,} rows")
        registry = aliases(there.server)
        files |= _copy_objects(there, place, say)
    files |= _models(cluster, place, say)
    files["registry.json"] = _put_json(registry, place / "registry.json")
    manifest = {
        "format": FORMAT,
        "context": cluster.context,
        "moment": started.isoformat(timespec="seconds"),
        "platform": platform,
        "rows": rows,
        "files": files,
    }
    _put_json(manifest, place / MANIFEST)
    say(f"{len(files):,} files, {sum(f['bytes'] for f in files.values()) / 2**20:,.1f} MiB: {to}")
    return manifest


def aliases(server: Server) -> dict[str, dict[str, int]]:
    """Of the model registry: `{model: {alias: version}}`."""
    found: dict[str, dict[str, int]] = {}
    with server.connect() as connection, connection.cursor() as cursor:
        connection.select_db("mlflow")
        cursor.execute("select name, alias, version from registered_model_aliases")
        for name, alias, version in cursor.fetchall():
            found.setdefault(name, {})[alias] = int(version)
    return found


def listed(there: Stores) -> Iterator[tuple[str, int]]:
    """`BUCKET/KEY` and size of every object. Raises `OSError` where a bucket is missing: a backup
    without it would be none."""
    from pyarrow.fs import FileSelector, FileType

    for bucket in BUCKETS:
        for one in there.objects.get_file_info(FileSelector(bucket, recursive=True)):
            if one.type == FileType.File:
                yield one.path, one.size


def _copy_objects(there: Stores, place: Location, say: Say) -> Files:
    found = list(listed(there))
    say(f"objects: {len(found):,}, {sum(size for _, size in found) / 2**20:,.1f} MiB")

    def copy(path: str) -> tuple[str, dict[str, Any]]:
        with there.objects.open_input_stream(path, compression=None) as source:
            return f"objects/{path}", _put(source, place / "objects" / path)

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(copy, (path for path, _ in found)))


def _models(cluster: Cluster, place: Location, say: Say) -> Files:
    """The values of each model that serves, so that it can be made again."""
    files: Files = {}
    for release in helm.models(cluster):
        if release["status"] == "deployed":
            values = run_helm(
                *("get", "values", release["name"], "--kube-context", cluster.context),
                *("--namespace", helm.MODELS, "--output", "json"),
                driver=MODELS_DRIVER,
            )
            name = f"{release['name']}.json"
            files[f"models/{name}"] = _put_json(json.loads(values) or {}, place / "models" / name)
            say(f"model {release['name']}")
    return files


def _put_json(value: Any, to: Location) -> dict[str, Any]:
    import io

    return _put(io.BytesIO(json.dumps(value, indent=2).encode()), to)


def _put(source: Any, to: Location) -> dict[str, Any]:
    """Copy a stream; returns checksum and size."""
    if to.local:
        to.local.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with ExitStack() as stack:
        stack.callback(source.close)
        file = stack.enter_context(to.filesystem.open_output_stream(to.path, compression=None))
        while part := source.read(CHUNK):
            digest.update(part)
            size += len(part)
            file.write(part)
    return {"sha256": digest.hexdigest(), "bytes": size}
