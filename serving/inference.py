"""Where predictions are made: in this process, or by a predictor over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from serving.call import Call
from serving.metrics import Metrics, Tally
from serving.tensors import tensor_metadata
from slipway.package import Model
from slipway.schema import OUTPUT, Columns, RequestError, Schema

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
Matrix = npt.NDArray[np.float32]
"""[n, columns] as the encoder makes it."""
Predictions = npt.NDArray[np.float32]
"""[n], or [n, classes] of a multiclass model."""

SHORT = 0.001
"""Seconds that work may take on the event loop; less is not worth the way to a thread."""
BLOCK = 1_000
"""Rows of one run in the worker thread; in between, other threads get their turn."""
PROBE = 256
"""Rows by which a model's speed is measured when it is loaded."""
CONNECT_SECONDS = 1.0


Done = Callable[[Predictions | Exception], None]


class Inference(Protocol):
    async def predict(self, columns: Columns, rows: int, call: Call) -> Predictions:
        """Full rows to predictions. Raises `RequestError`."""
        ...

    def submit(self, columns: Columns, rows: int, done: Done) -> bool:
        """Predict without a task, at the end of this turn of the event loop; false if that is
        not possible and nothing was done."""
        ...

    async def ready(self) -> bool: ...

    async def close(self) -> None: ...


class Worker:
    """One thread for what is too long for the event loop, with a bounded queue before it."""

    def __init__(self, longest_queue: int, metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._longest, self._metrics = longest_queue, metrics

    async def run(self, work: Callable[[], T], call: Call) -> T:
        """Raises `RequestError`: 503 for a full queue, 504 beyond the deadline."""
        if self._metrics.queued >= self._longest:
            raise RequestError("Too many large requests are waiting; try again later.", 503)
        self._metrics.queued += 1
        loop = asyncio.get_running_loop()

        def in_time() -> T:
            loop.call_soon_threadsafe(self._started)
            if time.monotonic() > call.deadline:
                raise TimeoutError
            return work()

        future = loop.run_in_executor(self._pool, in_time)
        try:
            async with asyncio.timeout(call.deadline - time.monotonic()):
                return await asyncio.shield(future)
        except TimeoutError:
            raise RequestError("The answer took longer than allowed.", 504) from None

    def _started(self) -> None:
        self._metrics.queued -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class LocalModel:
    """ONNX Runtime in this process.

    Requests that arrive in one turn of the event loop run as one batch: a run of a small model
    costs more than its rows.
    """

    def __init__(self, model: Model, tally: Tally, worker: Worker) -> None:
        self.model = model
        self._tally, self._worker = tally, worker
        # The session's own `run` checks the names that the package's reference rows have proven.
        self._session_run = model.session._sess.run
        self._encode = model.encoder.encode
        self._waiting: list[tuple[Matrix, Done]] = []
        self._waiting_rows = 0
        self._most_rows = int(SHORT / self._measure())

    async def predict(self, columns: Columns, rows: int, call: Call) -> Predictions:
        future: asyncio.Future[Predictions] = asyncio.get_running_loop().create_future()
        if self.submit(columns, rows, partial(_settle, future)):
            return await future
        predictions, seconds = await self._worker.run(lambda: self._in_blocks(columns, rows), call)
        self._tally.inferred(predictions, seconds)
        return _finite(predictions)

    def submit(self, columns: Columns, rows: int, done: Done) -> bool:
        if rows > self._most_rows:
            return False
        matrix = self._encode(columns)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run_waiting)
        elif self._waiting_rows + rows > self._most_rows:
            self._run_waiting()
        self._waiting.append((matrix, done))
        self._waiting_rows += rows
        return True

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing to give back."""

    def _run_waiting(self) -> None:
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        if not waiting:
            return
        started = time.perf_counter()
        matrix = waiting[0][0]
        if len(waiting) > 1:
            matrix = np.concatenate([item[0] for item in waiting])
        try:
            predictions = self._session_run([OUTPUT], {"features": matrix}, None)[0]
        except Exception as error:
            for _, done in waiting:
                done(error)
            return
        self._tally.inferred(predictions, time.perf_counter() - started)
        fine = math.isfinite(predictions.sum())
        end = 0
        for matrix, done in waiting:
            start, end = end, end + len(matrix)
            mine = predictions[start:end]
            if not fine:
                try:
                    _finite(mine)
                except RequestError as error:
                    done(error)
                    continue
            done(mine)

    def _in_blocks(self, columns: Columns, rows: int) -> tuple[Predictions, float]:
        """With the seconds that it took."""
        started = time.perf_counter()
        matrix = self._encode(columns)
        blocks = [
            self._session_run([OUTPUT], {"features": matrix[first : first + BLOCK]}, None)[0]
            for first in range(0, rows, BLOCK)
        ]
        return np.concatenate(blocks), time.perf_counter() - started

    def _measure(self) -> float:
        """Seconds of a row, in a batch."""
        rows = np.zeros((PROBE, len(self.model.encoder.columns)), np.float32)
        self._session_run([OUTPUT], {"features": rows}, None)
        started = time.perf_counter()
        self._session_run([OUTPUT], {"features": rows}, None)
        return (time.perf_counter() - started) / PROBE


def _settle(future: asyncio.Future[Predictions], outcome: Predictions | Exception) -> None:
    if future.cancelled():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _finite(predictions: Predictions) -> Predictions:
    """Raises `RequestError`: JSON has no NaN, and a null would look like an answer. The model is
    not to blame, because it has reproduced its reference predictions."""
    # A sum is quicker than a look at each, but may itself overflow.
    if math.isfinite(predictions.sum()) or np.isfinite(predictions).all():
        return predictions
    raise RequestError("The model has no finite prediction for these values.", 422)


class RemoteModel:
    """A predictor behind HTTP, `HOST:PORT`."""

    def __init__(
        self, name: str, schema: Schema, address: str, protocol: Literal["v1", "v2"], tally: Tally
    ) -> None:
        self._name, self._schema, self._tally = name, schema, tally
        self._address, self._protocol = address, protocol
        self._session: aiohttp.ClientSession | None = None

    async def predict(self, columns: Columns, rows: int, call: Call) -> Predictions:
        started = time.perf_counter()
        predictions = await self._ask(columns, rows, call)
        self._tally.inferred(predictions, time.perf_counter() - started)
        return predictions

    def submit(self, columns: Columns, rows: int, done: Done) -> bool:
        return False

    async def _ask(self, columns: Columns, rows: int, call: Call) -> Predictions:
        if self._protocol == "v1":
            names = self._schema.names
            instances = list(zip(*(columns[name] for name in names), strict=True))
            answer = await self._post(
                f"/v1/models/{self._name}:predict", {"instances": instances}, call
            )
            return np.array(answer["predictions"], np.float32)
        inputs = [
            tensor | {"shape": [rows], "data": columns[tensor["name"]]}
            for tensor in tensor_metadata(self._schema)
        ]
        body = {"id": call.id, "inputs": inputs}
        answer = await self._post(f"/v2/models/{self._name}/infer", body, call)
        [output] = [item for item in answer["outputs"] if item["name"] == OUTPUT]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    async def ready(self) -> bool:
        import aiohttp

        try:
            async with self._open().get(f"/v2/models/{self._name}/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                f"http://{self._address}",
                # A predictor bounds what it takes at once; a limit here would only hide its queue.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS, connect=CONNECT_SECONDS),
            )
        return self._session

    async def _post(self, path: str, body: Any, call: Call) -> Any:
        """The predictor's answer. Raises `RequestError` with its status and its message."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=max(0.001, call.deadline - time.monotonic()), connect=CONNECT_SECONDS
        )
        for attempt in (1, 2):
            try:
                async with self._open().post(
                    path, data=orjson.dumps(body), headers=call.passed_on, timeout=timeout
                ) as answer:
                    content = await answer.read()
                break
            except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
                message = f"The predictor at {self._address} does not answer."
                raise RequestError(message, 503) from None
            except TimeoutError:
                message = f"The predictor at {self._address} is too slow."
                raise RequestError(message, 504) from None
            except aiohttp.ClientError:
                # A kept connection that the predictor closed just now. A prediction changes
                # nothing, so it may be asked for again.
                if attempt == 2:
                    message = f"The predictor at {self._address} broke off."
                    raise RequestError(message, 503) from None
        if answer.status != 200:
            raise RequestError(_message(content, answer.status), answer.status)
        return orjson.loads(content)


def _message(content: bytes, status: int) -> str:
    try:
        return str(orjson.loads(content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"The predictor answered {status}."
