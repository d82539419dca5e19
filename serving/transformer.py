"""The transformer: entity keys and request features in, full rows out to the predictor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from serving.metrics import Metrics
from serving.online import Clock, OnlineFeatures
from serving.predictor import VERSION_LENGTH
from slipway.errors import UserError
from slipway.files import read_json
from slipway.package import digest, verify
from slipway.schema import OUTPUT, RequestError, request_schema, row_schema

TIMEOUT = httpx.Timeout(10, connect=1)
"""Seconds for the predictor's answer, and to reach it."""

BLOCK = 200
"""Rows of one read from the online store, a few milliseconds."""


class Transformer:
    """One model's features in front of its predictor.

    `predictor` is `HOST:PORT`. It is ready when the predictor is and the online store is filled.
    Raises `UserError` for a package or an online store that is not right.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        feature_store: Path | None,
        clock: Clock,
        predictor: str,
        protocol: Literal["v1", "v2"],
    ) -> None:
        verify(folder)
        self.name = name
        self.version = digest(folder)[:VERSION_LENGTH]
        self.signature = read_json(folder / "signature.json")
        self.schema = request_schema(self.signature)
        self.metrics = Metrics(
            "transformer", name, self.version, self.signature["task"], self.signature["views"]
        )
        self._online: OnlineFeatures | None = None
        if self.signature["views"]:
            if feature_store is None:
                raise UserError(
                    f"The model '{name}' reads online features.",
                    "Name their store with --feature_store FOLDER.",
                )
            self._online = OnlineFeatures(feature_store, folder, clock, self.metrics)
        self._rows = row_schema(self.signature)
        self._predictor, self._protocol = predictor, protocol

    async def start(self) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"http://{self._predictor}", timeout=TIMEOUT, trust_env=False
        )

    async def stop(self) -> None:
        await self._client.aclose()

    async def ready(self) -> bool:
        if self._online and not self._online.ready():
            return False
        try:
            answer = await self._client.get(f"/v2/models/{self.name}/ready")
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def predict(self, columns: dict[str, list[Any]]) -> npt.NDArray[np.float32]:
        columns = columns | await self._features(columns)
        if self._protocol == "v1":
            answer = await self._post(
                f"/v1/models/{self.name}:predict", {"instances": list(self._instances(columns))}
            )
            return np.array(answer["predictions"], np.float32)
        answer = await self._post(
            f"/v2/models/{self.name}/infer", {"inputs": list(self._tensors(columns))}
        )
        [output] = [item for item in answer["outputs"] if item["name"] == OUTPUT]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    async def _features(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        # On the event loop, because a row takes less time than a thread's turn; between blocks of
        # rows others, such as a health check, get theirs.
        features: dict[str, list[Any]] = {}
        if self._online is None:
            return features
        keys = {name: columns[name] for name in self.signature["entities"]}
        rows = len(next(iter(keys.values())))
        for first in range(0, rows, BLOCK):
            block = {name: values[first : first + BLOCK] for name, values in keys.items()}
            for name, values in self._online.read(block, first).items():
                features.setdefault(name, []).extend(values)
            await asyncio.sleep(0)
        return features

    def _instances(self, columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
        names = [field.name for field in self._rows.fields]
        for row in zip(*(columns[name] for name in names), strict=True):
            yield dict(zip(names, row, strict=True))

    def _tensors(self, columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
        for tensor in self._rows.tensors():
            values = columns[tensor["name"]]
            yield tensor | {"shape": [len(values)], "data": values}

    async def _post(self, path: str, body: Any) -> Any:
        """The predictor's answer. Raises `RequestError` with its status and its message."""
        try:
            answer = await self._client.post(path, content=orjson.dumps(body))
        except httpx.TimeoutException:
            raise RequestError(f"The predictor at {self._predictor} is too slow.", 504) from None
        except httpx.TransportError:
            raise RequestError(
                f"The predictor at {self._predictor} does not answer.", 503
            ) from None
        if answer.status_code != 200:
            raise RequestError(_message(answer), answer.status_code)
        return orjson.loads(answer.content)


def _message(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"The predictor answered {answer.status_code}."
