"""One at a time: who may move the traffic of a model."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from components.release.deployed import Deployed
from slipway.errors import UserError

SECONDS = 30
"""After which a holder that does not renew it counts as dead."""


class Taken(UserError):
    """Somebody else moves the traffic now. No fault: another attempt would undo what they do."""


class Lease:
    """A Kubernetes Lease, held inside a `with` block and renewed by a thread.

    Waits for another holder, or with `force` takes it from them: they notice, and stop.
    """

    def __init__(
        self, model: Deployed, why: str, say: Callable[[str], None], force: bool = False
    ) -> None:
        self._model, self._say, self._force = model, say, force
        self._all = model.of_group("coordination.k8s.io/v1", "leases")
        self._name = f"{model.name}-traffic"
        self._one = f"{self._all}/{self._name}"
        self._me = f"{socket.gethostname()}-{os.getpid()}: {why}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def check(self) -> None:
        """Raises `Taken` if somebody else has taken it."""
        holder = self._holder()
        if holder != self._me:
            raise Taken(f"{holder or 'Somebody'} has taken over: this release is stopped.")

    def __enter__(self) -> Lease:
        waited = ""
        while not self._take():
            holder = self._holder()
            if holder != waited:
                self._say(f"waits for {holder}")
                waited = holder
            time.sleep(2)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        self._stop.set()
        self._thread.join()
        # One that is left behind runs out by itself.
        with suppress(ApiException, HTTPError):
            if self._holder() == self._me:
                self._model.ask("DELETE", self._one)

    def _holder(self) -> str:
        lease = self._model.find(self._one)
        return str(lease["spec"]["holderIdentity"]) if lease else ""

    def _take(self) -> bool:
        lease = self._model.find(self._one)
        now = datetime.now(UTC)
        if lease is not None:
            renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
            alive = renewed + timedelta(seconds=SECONDS) > now
            if alive and not self._force and lease["spec"]["holderIdentity"] != self._me:
                return False
        spec = {
            "holderIdentity": self._me,
            "leaseDurationSeconds": SECONDS,
            "acquireTime": _stamp(now),
            "renewTime": _stamp(now),
        }
        return self._write(lease, spec)

    def _renew(self) -> None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        while not self._stop.wait(SECONDS / 4):
            # An API server that is away for long is the main thread's to tell.
            with suppress(ApiException, HTTPError):
                lease = self._model.find(self._one)
                if lease is None or lease["spec"]["holderIdentity"] != self._me:
                    return
                self._write(lease, {**lease["spec"], "renewTime": _stamp(datetime.now(UTC))})

    def _write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        """Whether it was written before anybody else wrote it."""
        from kubernetes.client import ApiException

        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            # The version that was read goes along: of two who are after it, one gets it.
            "metadata": lease["metadata"] if lease else {"name": self._name},
            "spec": spec,
        }
        try:
            self._model.ask("PUT" if lease else "POST", self._one if lease else self._all, body)
        except ApiException as error:
            if error.status not in (404, 409):
                raise
            return False
        return True


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
