"""The Kubernetes API as paths and JSON, for steps in pods and for the command line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from slipway.errors import UserError

SECONDS = 30.0
PAUSE = 1.0
PATIENCE = 180.0
"""How long the API may be away, or answer with its own faults, before a wait gives up."""


def in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


class Kube:
    """Calls with the pod's service account, or with a context of the kubeconfig."""

    def __init__(self, context: str = "") -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            if in_pod() and not context:
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(context=context or None, client_configuration=settings)
        except config.ConfigException as error:
            raise UserError(
                f"no cluster can be reached: {error}.", "Set KUBECONFIG, or name a context of it."
            ) from None
        settings.retries = 0  # whoever waits does so in sentences
        self._api = client.ApiClient(settings)
        self._failing_since: float | None = None

    def call(self, method: str, path: str, body: Any = None, **query: object) -> Any:
        """The answer's JSON. Raises `ApiException`; what is forbidden is a `UserError`."""
        return self._call(method, path, "object", body, query)

    def text(self, path: str, **query: object) -> str:
        return str(self._call("GET", path, "str", None, query))

    def find(self, path: str) -> dict[str, Any] | None:
        """None where there is no such object."""
        from kubernetes.client import ApiException

        try:
            found: dict[str, Any] = self.call("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def passing(self, error: Exception) -> bool:
        """Whether this failure of a call is of the kind that passes; True only for so long."""
        if _is_final(getattr(error, "status", None)):
            return False
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        return now - self._failing_since < PATIENCE

    def patiently(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, which is done again while the API is away."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        while True:
            try:
                return work()
            except (ApiException, HTTPError) as error:
                if not self.passing(error):
                    raise
            time.sleep(PAUSE)

    def _call(self, method: str, path: str, kind: str, body: Any, query: dict[str, object]) -> Any:
        from kubernetes.client import ApiException

        headers = {"Accept": "application/json"}
        if body is not None:
            patch = "application/merge-patch+json"
            headers["Content-Type"] = patch if method == "PATCH" else "application/json"
        try:
            answer = self._api.call_api(
                path,
                method,
                query_params=[(key, str(value)) for key, value in query.items()],
                header_params=headers,
                body=body,
                response_type=kind,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                # To connect, and to be answered. A single float is silently no timeout at all.
                _request_timeout=(SECONDS, SECONDS),
            )
        except ApiException as error:
            if _is_final(error.status):
                self._failing_since = None  # it answers, though not as hoped
            if error.status == 403:
                raise UserError(
                    f"Kubernetes forbids {method} {path}.",
                    "A step needs the service account that the chart kfp makes for it "
                    "(`stepAccounts`), a person a role of their own.",
                ) from None
            raise
        self._failing_since = None
        return answer


def _is_final(status: int | None) -> bool:
    """Whether an answer of this HTTP status stays the same when it is asked for again."""
    return status is not None and 400 <= status < 500 and status != 429
