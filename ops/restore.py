"""Put a backup into an empty platform: databases, objects, online store, models that served."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops import helm, online_store
from ops.backup import CHUNK, FORMAT, MANIFEST, aliases
from ops.cluster import Cluster, ClusterError, wait
from ops.dump import count, load
from ops.platform import CHARTS
from ops.stores import DATABASES, Stores, stores
from slipway.errors import Fault, UserError
from slipway.helm import MODELS_DRIVER
from slipway.helm import helm as run_helm
from slipway.storage import Location, explained, locate

USERS = ("kubeflow", "mlflow")
"""Namespaces whose programs hold the databases open."""
SECONDS = 300
RUNS = "select count(*) from mlpipeline.run_details"
VERSIONS = "select count(*) from mlflow.model_versions"
Say = Callable[[str], None]


def restore(cluster: Cluster, source: str, say: Say, replace: bool = False) -> dict[str, Any]:
    """Raises `UserError` for what is no backup, or a platform that is not empty.

    With `replace`, what the platform holds is lost. Can be repeated until it succeeds.
    """
    place = locate(source)
    manifest = read_manifest(place)
    files: dict[str, dict[str, Any]] = manifest["files"]
    with stores(cluster) as there, tempfile.TemporaryDirectory() as scratch:
        runs, versions = count(there.server, RUNS), count(there.server, VERSIONS)
        if (runs or versions) and not replace:
            raise UserError(
                f"the platform is not empty: it holds {runs} runs and {versions} model versions.",
                "Restore into a fresh one, or say --replace to lose what is there.",
            )
        fetch(place, files, Path(scratch))
        say("every file of a database or an online store is whole")
        _put_objects(there, place, files, say)
        with stopped(cluster, say):
            for name in DATABASES:
                load(there.server, name, Path(scratch) / "databases" / f"{name}.sql.gz")
                say(f"database {name}: {manifest['rows'][name]:,} rows")
        for file in sorted(Path(scratch).glob("online/*")):
            name = file.name.removesuffix(".jsonl.gz")
            online_store.load(there.online, name, file)
            say(f"online store, {name}")
        found = aliases(there.server)
    wanted = json.loads(checked(place / "registry.json", files["registry.json"]))
    if found != wanted:
        raise Fault(f"aliases are {found} after the restore, and were {wanted}.")
    for path in sorted(files):
        if path.startswith("models/"):
            _install(cluster, Path(path).stem, checked(place / path, files[path]), say)
    return manifest


def fetch(place: Location, files: dict[str, dict[str, Any]], to: Path) -> None:
    """The files of databases and online stores, each proven whole, in folders of those names."""
    for folder in ("databases", "online"):
        (to / folder).mkdir()
        for path, fact in files.items():
            if path.startswith(f"{folder}/"):
                # By its last name: a manifest from elsewhere may not choose where we write.
                (to / folder / Path(path).name).write_bytes(checked(place / path, fact))


def read_manifest(place: Location) -> dict[str, Any]:
    if not (place / MANIFEST).exists():
        raise UserError(
            f"{place.uri} is no backup: it has no {MANIFEST}.",
            "Name the folder of a backup that has ended; one without is unfinished.",
        )
    manifest: dict[str, Any] = json.loads((place / MANIFEST).read_bytes())
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{place.uri} has the format {manifest.get('format')}, and this is {FORMAT}.",
            "Restore it with the version that wrote it.",
        )
    return manifest


def checked(file: Location, fact: dict[str, Any]) -> bytes:
    """The bytes of a file of the backup; raises `UserError` where they are others than written."""
    with (
        explained(file.uri),
        file.filesystem.open_input_stream(file.path, compression=None) as stream,
    ):
        content = bytes(stream.read())
    if hashlib.sha256(content).hexdigest() != fact["sha256"]:
        raise UserError(
            f"{file.uri} is damaged: its checksum is not the manifest's.", "Take another backup."
        )
    return content


def _put_objects(
    there: Stores, place: Location, files: dict[str, dict[str, Any]], say: Say
) -> None:
    paths = [path for path in files if path.startswith("objects/")]

    def put(path: str) -> None:
        source = place / path
        digest = hashlib.sha256()
        target = path.removeprefix("objects/")
        with (
            source.filesystem.open_input_stream(source.path, compression=None) as stream,
            there.objects.open_output_stream(target, compression=None) as file,
        ):
            while part := stream.read(CHUNK):
                digest.update(part)
                file.write(part)
        if digest.hexdigest() != files[path]["sha256"]:
            there.objects.delete_file(target)
            raise UserError(
                f"{source.uri} is damaged: its checksum is not the manifest's.",
                "Take another backup.",
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, paths))
    say(f"objects: {len(paths):,}")


@contextmanager
def stopped(cluster: Cluster, say: Say) -> Iterator[None]:
    """Nobody has the databases open in this block; the next `make deploy` would start them too."""
    workloads = [
        (one["metadata"]["namespace"], one["metadata"]["name"], one["spec"].get("replicas", 1))
        for namespace in USERS
        for one in cluster.get("deployments", namespace=namespace)
    ]
    say(f"stopping {len(workloads)} programs that use the databases")
    try:
        for namespace, name, _ in workloads:
            _scale(cluster, namespace, name, 0)
        _until(cluster, {(namespace, name): 0 for namespace, name, _ in workloads})
        yield
    finally:
        for namespace, name, replicas in workloads:
            _scale(cluster, namespace, name, max(replicas, 1))
    _until(cluster, {(space, name): max(replicas, 1) for space, name, replicas in workloads})
    say("they run again")


def _scale(cluster: Cluster, namespace: str, name: str, replicas: int) -> None:
    cluster.kubectl(
        *("scale", "deployment", name, "--namespace", namespace, f"--replicas={replicas}")
    )


def _until(cluster: Cluster, wanted: dict[tuple[str, str], int]) -> None:
    late: list[str] = []
    for _ in wait(SECONDS, pause=2):
        found = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one["status"]
            for namespace in USERS
            for one in cluster.get("deployments", namespace=namespace)
        }
        late = [
            f"{namespace}/{name}"
            for (namespace, name), replicas in wanted.items()
            if found[namespace, name].get("readyReplicas" if replicas else "replicas", 0)
            != replicas
        ]
        if not late:
            return
    raise ClusterError(f"not as wanted after {SECONDS} s: {', '.join(late)}")


def _install(cluster: Cluster, name: str, values: bytes, say: Say) -> None:
    helm.build_dependencies({"model"})
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(values)
        file.flush()
        run_helm(
            *("upgrade", "--install", name, str(CHARTS / "model"), "--namespace", helm.MODELS),
            *("--kube-context", cluster.context, "--values", file.name),
            driver=MODELS_DRIVER,
        )
    say(f"model {name} is installed again")
