"""One deploy of a cluster at a time: a Lease that its holder renews, and that runs out alone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from ops.cluster import Cluster, ClusterError, Object, wait
from slipway.errors import UserError

NAME = "slipway-deploy"
NAMESPACE = "kube-system"
SECONDS = 30
"""After so long without a renewal, the holder is gone."""


@contextmanager
def exclusive(cluster: Cluster, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold the lease; the block gets the function that renews it.

    Raises `UserError` where somebody else is at work; so does the function, where this process
    slept so long that somebody else took the lease.
    """
    me = f"{socket.gethostname()}:{os.getpid()}"
    wait_until_free(cluster, say)
    _take(cluster, me)
    try:
        yield lambda: _take(cluster, me)
    finally:
        with suppress(ClusterError):  # it runs out by itself
            if _is_of(cluster.one("lease", NAME, NAMESPACE), me):
                cluster.kubectl(
                    *("delete", "lease", NAME, "--namespace", NAMESPACE, "--ignore-not-found")
                )


def wait_until_free(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Wait for a holder that was killed, until its lease runs out. Raises `UserError` where
    somebody else is at work."""
    found = _held(cluster.one("lease", NAME, NAMESPACE))
    if not found:
        return
    say(f"waiting up to {SECONDS + 5} s for another deploy ({_holder(found)}) to end")
    for _ in wait(SECONDS + 5, pause=2):
        found = _held(cluster.one("lease", NAME, NAMESPACE))
        if not found:
            return
    raise UserError(
        f"another deploy of this cluster is at work ({_holder(found)}).",
        "Wait until it has ended.",
    )


def _held(lease: Object | None) -> Object | None:
    """The lease, if its holder still renews it."""
    if lease is None:
        return None
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    age = (datetime.now(UTC) - renewed).total_seconds()
    return lease if age < SECONDS else None


def _is_of(lease: Object | None, holder: str) -> bool:
    return lease is not None and lease["spec"].get("holderIdentity") == holder


def _holder(lease: Object) -> str:
    return f"{lease['spec']['holderIdentity']}, since {lease['spec']['acquireTime']}"


def _take(cluster: Cluster, me: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    known = cluster.one("lease", NAME, NAMESPACE)
    mine = _is_of(known, me)
    if not mine and (held := _held(known)):
        raise UserError(
            f"another deploy of this cluster is at work ({_holder(held)}).",
            "Wait until it has ended.",
        )
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": me,
            "acquireTime": known["spec"]["acquireTime"] if known and mine else now,
            "renewTime": now,
            "leaseDurationSeconds": SECONDS,
        },
    }
    if known:  # the version makes sure that nobody took it since we looked
        lease["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]  # type: ignore[index]
    try:
        cluster.kubectl("replace" if known else "create", "-f", "-", text=json.dumps(lease))
    except ClusterError as error:
        if "AlreadyExists" in str(error) or "Conflict" in str(error):
            raise UserError(
                "another deploy of this cluster has just begun.", "Wait until it has ended."
            ) from None
        raise
