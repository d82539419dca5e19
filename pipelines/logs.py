"""What the steps of a run wrote."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import yaml

from pipelines.connect import Cluster, forwarded
from pipelines.runs import ON_CLUSTER, step_of
from slipway.errors import UserError
from slipway.storage import explained


def logs(cluster: Cluster, run: dict[str, Any], step: str = "") -> Iterator[tuple[str, str]]:
    """Step and log: what KFP put into the object store when a step had ended, in the order of the
    pipeline, then what pods say that have not ended well."""
    if step and step not in ON_CLUSTER:
        raise UserError(f"there is no step '{step}'.", f"Steps are {', '.join(ON_CLUSTER)}.")
    if cluster.kube is None:
        raise UserError("logs come from the cluster itself.", "Give --context.")
    kept = list(_kept(cluster, run["run_id"]))
    for name in [step] if step else ON_CLUSTER:
        for where, text in kept:
            if where == name:
                yield name, text
    for pod in cluster.pods(run["run_id"]):
        name = step_of(pod)
        if name and step in ("", name) and pod["status"]["phase"] != "Succeeded":
            yield name, cluster.log(pod["metadata"]["name"])


def _kept(cluster: Cluster, run: str) -> Iterator[tuple[str, str]]:
    """The artifacts `executor-logs-N`, where KFP's launcher is told to keep them."""
    from pyarrow.fs import FileSelector, FileType, S3FileSystem

    launcher = _config(cluster)
    root = urlsplit(launcher["root"])
    with ExitStack() as stack:
        endpoint = launcher["endpoint"]
        host, _, port = endpoint.rpartition("://")[2].partition(":")
        service, _, namespace = host.partition(".")
        if namespace and "." not in namespace:  # a service of the cluster, seen from outside
            address = forwarded(cluster.context, namespace, service, int(port or 80))
            endpoint = stack.enter_context(address)
        store = S3FileSystem(
            access_key=launcher["accesskey"],
            secret_key=launcher["secretkey"],
            endpoint_override=endpoint,
            region=launcher["region"],
            connect_timeout=10,
            request_timeout=30,
        )
        base = f"{root.netloc}{root.path}"
        stack.enter_context(explained(launcher["root"]))
        for pipeline in store.get_file_info(FileSelector(base, allow_not_found=True)):
            folder = FileSelector(f"{pipeline.path}/{run}", recursive=True, allow_not_found=True)
            for found in sorted(store.get_file_info(folder), key=lambda item: item.path):
                if found.type == FileType.File and found.base_name.startswith("executor-logs"):
                    task = found.path.removeprefix(f"{pipeline.path}/{run}/").split("/")[0]
                    with store.open_input_stream(found.path) as file:
                        yield task, file.read().decode(errors="replace")


def _config(cluster: Cluster) -> dict[str, str]:
    """Where the launcher keeps artifacts, from its own ConfigMap and Secret."""
    assert cluster.kube is not None  # noqa: S101 (asked before)
    base = f"/api/v1/namespaces/{cluster.namespace}"
    data = cluster.kube.call("GET", f"{base}/configmaps/kfp-launcher")["data"]
    s3 = yaml.safe_load(data["providers"])["s3"]["default"]
    found = {"root": data["defaultPipelineRoot"], "endpoint": s3["endpoint"]}
    found["region"] = s3["region"]
    reference = s3["credentials"].get("secretRef")
    if not reference:
        raise UserError(
            "the object store takes the pods' own identities.", "Read the logs in the KFP UI."
        )
    secret = cluster.kube.call("GET", f"{base}/secrets/{reference['secretName']}")["data"]
    for name, key in (("accesskey", "accessKeyKey"), ("secretkey", "secretKeyKey")):
        found[name] = base64.b64decode(secret[reference[key]]).decode()
    return found
