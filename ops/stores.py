"""The stores of a deployment, reached from outside: databases, object store, online store."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ops.cluster import Cluster
from ops.dump import Server
from slipway.errors import UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from redis import Redis

DATABASES = ("mlpipeline", "metadb", "mlflow", "feast")
BUCKETS = ("mlpipeline", "slipway", "mlflow", "payloads")
SYSTEM = "slipway-system"
PASSWORDS = "slipway-passwords"
STEPS = "slipway-steps"
"""ConfigMap and Secret in `kubeflow` that tell steps where the stores are."""
SECONDS = 60


@dataclass(frozen=True)
class Stores:
    """Everything that a backup holds."""

    server: Server
    objects: FileSystem
    """Paths in it start with a bucket."""
    online: Redis


@contextmanager
def stores(cluster: Cluster) -> Iterator[Stores]:
    """As administrator; services inside the cluster come through port-forwards."""
    from pyarrow.fs import S3FileSystem
    from redis import Redis

    config = cluster.one("configmap", STEPS, "kubeflow")
    if config is None:
        raise UserError(
            f"the cluster lacks the ConfigMap kubeflow/{STEPS}.", "Run `make deploy` first."
        )
    steps, passwords = _secret(cluster, STEPS, "kubeflow"), _secret(cluster, PASSWORDS, SYSTEM)
    database = urlsplit(steps["SLIPWAY_FEAST_REGISTRY"])
    online, *options = steps["SLIPWAY_FEAST_REDIS"].split(",")
    endpoint = config["data"].get("AWS_ENDPOINT_URL", "")
    with ExitStack() as stack:
        host, port = _reached(cluster, stack, database.hostname or "", database.port or 3306)
        address = urlsplit(endpoint)
        if endpoint:
            s3 = _reached(cluster, stack, address.hostname or "", address.port or 80)
            endpoint = f"{address.scheme}://{s3[0]}:{s3[1]}"
        name, _, number = online.partition(":")
        redis = _reached(cluster, stack, name, int(number))
        yield Stores(
            Server(host, port, "root", passwords["mariadb-root"]),
            S3FileSystem(
                access_key=passwords["s3-admin-access"],
                secret_key=passwords["s3-admin-secret"],
                endpoint_override=endpoint or None,
                region=config["data"].get("AWS_REGION"),
            ),
            Redis(
                *redis,
                password=passwords["valkey"],
                ssl="ssl=True" in options,
                socket_timeout=SECONDS,
            ),
        )


def _secret(cluster: Cluster, name: str, namespace: str) -> dict[str, str]:
    found = cluster.one("secret", name, namespace)
    if found is None:
        raise UserError(
            f"the cluster lacks the secret {namespace}/{name}.", "Run `make deploy` first."
        )
    return {key: base64.b64decode(text).decode() for key, text in found["data"].items()}


def _reached(cluster: Cluster, stack: ExitStack, host: str, port: int) -> tuple[str, int]:
    """`host` and `port`, or a port-forward to them where they name a service of the cluster."""
    parts = host.split(".")
    if len(parts) < 2 or not cluster.one("service", parts[0], parts[1]):
        return host, port
    local, _, forwarded = stack.enter_context(cluster.forward(parts[1], parts[0], port)).partition(
        ":"
    )
    return local, int(forwarded)
