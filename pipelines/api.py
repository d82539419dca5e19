"""Kubeflow Pipelines' REST API (v2beta1): the calls that submitting and watching runs take."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from slipway.errors import UserError

Object = dict[str, Any]
SECONDS = 60
PATIENCE = 180.0
"""How long the server may be away (it restarts, or its database does) before a call gives up."""


class ApiError(RuntimeError):
    """The server refused; the text is what it said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """One server. What changes nothing, or may be done twice, is repeated while it is away."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
        self._session = requests.Session()

    def pipeline(self, name: str) -> Object | None:
        return next((one for one in self._all("pipelines") if one["display_name"] == name), None)

    def create_pipeline(self, name: str, description: str) -> Object:
        body = {"name": name, "display_name": name, "description": description}
        return self._call("POST", "pipelines", json=body)

    def versions(self, pipeline: str) -> Iterator[Object]:
        return self._all(f"pipelines/{pipeline}/versions", "pipeline_versions")

    def upload_version(self, pipeline: str, name: str, description: str, file: Path) -> Object:
        query = {"name": name, "display_name": name, "pipelineid": pipeline}
        query["description"] = description
        content = {"uploadfile": (file.name, file.read_bytes())}
        return self._call("POST", "pipelines/upload_version", params=query, files=content)

    def experiment(self, name: str) -> str:
        """Its id; made where there is none."""
        for one in self._all("experiments"):
            if one["display_name"] == name:
                return str(one["experiment_id"])
        made = self._call("POST", "experiments", json={"display_name": name})
        return str(made["experiment_id"])

    def create_run(self, body: Object) -> Object:
        return self._call("POST", "runs", json=body, again=False)

    def run(self, identity: str) -> Object:
        try:
            return self._call("GET", f"runs/{identity}")
        except ApiError as error:
            if error.status == 404:
                raise UserError(f"there is no run {identity}.", "See `slipway runs`.") from None
            raise

    def runs(self, experiment: str = "", newest: int = 100) -> list[Object]:
        query: dict[str, object] = {"sort_by": "created_at desc"}
        if experiment:
            query["experiment_id"] = experiment
        found: list[Object] = []
        for run in self._all("runs", **query):
            found.append(run)
            if len(found) == newest:
                break
        return found

    def terminate(self, identity: str) -> None:
        self._call("POST", f"runs/{identity}:terminate")

    def retry(self, identity: str) -> None:
        self._call("POST", f"runs/{identity}:retry", again=False)

    def recurring_runs(self) -> list[Object]:
        return list(self._all("recurringruns", "recurringRuns"))

    def create_recurring_run(self, body: Object) -> Object:
        return self._call("POST", "recurringruns", json=body, again=False)

    def delete_recurring_run(self, identity: str) -> None:
        self._call("DELETE", f"recurringruns/{identity}")

    def switch_recurring_run(self, identity: str, on: bool) -> None:
        self._call("POST", f"recurringruns/{identity}:{'enable' if on else 'disable'}")

    def ready(self) -> None:
        """Raises `UserError` where no API of KFP answers."""
        try:
            answer = self._session.get(f"{self.url}/apis/v2beta1/healthz", timeout=SECONDS)
            known = answer.ok and "multi_user" in answer.text
        except requests.RequestException as error:
            raise UserError(
                f"{self.url} does not answer ({error.__class__.__name__}).",
                "Give --endpoint, the address of KFP's API, or --context, the cluster's.",
            ) from None
        if not known:
            raise UserError(
                f"{self.url} is not the API of Kubeflow Pipelines (HTTP {answer.status_code}).",
                "Its Service is ml-pipeline:8888; the UI passes the API on as well.",
            )

    def _all(self, what: str, key: str = "", **query: object) -> Iterator[Object]:
        token = ""
        while True:
            page = self._call("GET", what, params={**query, "page_size": 100, "page_token": token})
            yield from page.get(key or what, [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def _call(self, method: str, path: str, again: bool = True, **more: Any) -> Object:
        url = f"{self.url}/apis/v2beta1/{path}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self._session.request(method, url, timeout=SECONDS, **more)
                # 500 is also its word for a database that is away.
                away = answer.status_code in (502, 503, 504) or (
                    answer.status_code == 500 and method == "GET"
                )
                if not away:
                    return _content(answer)
                told = f"HTTP {answer.status_code}"
            except requests.RequestException as error:
                told = error.__class__.__name__
            if not again or time.monotonic() > deadline:
                raise ApiError(503, f"{self.url} does not answer ({told})")
            time.sleep(2)


def _content(answer: requests.Response) -> Object:
    if answer.ok:
        return answer.json() if answer.content else {}
    try:
        told = answer.json()
        text = told.get("message") or told.get("error_message") or told.get("error", "")
    except (json.JSONDecodeError, AttributeError):
        text = answer.text[:500]
    raise ApiError(answer.status_code, f"{text} (HTTP {answer.status_code})")
