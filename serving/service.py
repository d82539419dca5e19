"""One model by its name, whatever the protocol: limits, versions, predictions, explanations."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serving.call import Call, Protocol
from serving.inference import Done, Predictions, Worker
from serving.metrics import Metrics
from serving.served import Served, load
from serving.settings import Settings
from serving.trace import spans
from slipway.errors import UserError
from slipway.rows import Matrix
from slipway.schema import Columns, RequestError, shown

if TYPE_CHECKING:
    from serving.workers import Crew

log = logging.getLogger("serving")


class Service:
    """The heart of a server. Everything but the work in `Worker` runs on the event loop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        crew: Crew | None = None,
        log_fields: dict[str, Any] | None = None,
    ) -> None:
        """`log_fields` stand in every line of the log, the served version among them."""
        self.name = settings.name
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.model: Served | None = None
        self._retired: list[Served] = []
        self._crew = crew
        self._log_fields = {} if log_fields is None else log_fields
        self._worker = Worker(settings.limits.queue, metrics)
        self._spans = spans(settings.name)
        self._loading = asyncio.Lock()

    async def open(self) -> None:
        """Load the first version. Raises `UserError` for a package that is not right."""
        async with self._loading:
            await self._swap(load(self.settings, self.metrics, self._worker))
        # Another worker may have been told while this one began.
        if self._crew and self._crew.unloaded:
            await self._unload_here()

    async def load(self) -> None:
        """Swap, with every worker of this server, to the package as it is now.

        What is under way ends with the version it began with. Raises `RequestError` (409) for a
        package that is not right; the old one keeps serving.
        """
        await self._load_here()
        if self._crew:
            self._crew.tell(unloaded=False)

    async def unload(self) -> None:
        await self._unload_here()
        if self._crew:
            self._crew.tell(unloaded=True)

    async def obey(self) -> None:
        """What SIGHUP means: load the package anew, or do as another worker was told."""
        if self._crew and self._crew.unloaded:
            await self._unload_here()
        else:
            with suppress(RequestError):  # the log has it
                await self._load_here()

    async def drain(self, seconds: float) -> None:
        """Say that this server is going."""
        self.draining = True

    async def close(self) -> None:
        for served in [*self._retired, *([self.model] if self.model else [])]:
            await served.close()
        self._worker.close()
        if self._spans is not None:
            self._spans.close()

    async def ready(self) -> bool:
        return not self.draining and self.model is not None and await self.model.ready()

    def current(self, name: str, version: str = "") -> Served:
        """Raises `RequestError`: 404 for a model or version that is not here, 503 if unloaded."""
        if name != self.name:
            raise RequestError(f"There is no model {shown(name)}; this is '{self.name}'.", 404)
        if self.model is None:
            raise RequestError(f"The model '{name}' is unloaded.", 503)
        if version and version != self.model.version:
            here = f"this is '{self.model.version}'"
            raise RequestError(f"There is no version {shown(version)} of '{name}'; {here}.", 404)
        return self.model

    async def predict(self, served: Served, columns: Columns, call: Call) -> Predictions:
        """Rows as a client may send them to predictions. Raises `RequestError`."""
        if self._spans is None:
            return await self._predict(served, columns, call)
        span, call.context = self._spans.start("predict", call.headers.items())
        status = 500
        try:
            predictions = await self._predict(served, columns, call)
            status = 200
            return predictions
        except RequestError as error:
            status = error.status
            raise
        finally:
            self._spans.end(span, status, {"model": self.name, "version": served.version})

    async def _predict(self, served: Served, columns: Columns, call: Call) -> Predictions:
        rows = self._count(columns, self.settings.limits.rows)
        sent = columns
        columns = await self._with_features(served, columns)
        predictions = await served.model.predict(columns, rows, call)
        self._log(served, call, sent, columns, predictions)
        return predictions

    def submit(self, served: Served, columns: Columns, call: Call, done: Done) -> bool:
        """As `predict`, without a task, where nothing is to be waited for; false where something
        is, and nothing was done. Raises `RequestError`."""
        if self._spans is not None or served.lacks_features(columns):
            return False
        rows = self._count(columns, self.settings.limits.rows)
        if served.payload is None:
            return served.model.submit(columns, rows, done)

        def log_and_done(outcome: Predictions | Exception) -> None:
            if not isinstance(outcome, Exception):
                self._log(served, call, columns, columns, outcome)
            done(outcome)

        return served.model.submit(columns, rows, log_and_done)

    async def explain(self, served: Served, columns: Columns, call: Call) -> dict[str, Any]:
        """What each feature contributed. Raises `RequestError`."""
        explainer = served.explainer
        if explainer is None:
            raise RequestError("A transformer holds no model; ask its predictor to explain.", 404)
        self._count(columns, self.settings.limits.explained_rows)
        complete = await self._with_features(served, columns)
        return await self._worker.run(lambda: explainer.explain(complete), call)

    def count(self, protocol: Protocol, status: int, seconds: float) -> None:
        """A request was answered; it counts for the version that is served now."""
        if self.model is None:
            self.metrics.refused(protocol, status)
        else:
            self.model.tally.answered(protocol, status, seconds)

    async def _load_here(self) -> None:
        async with self._loading:
            loop = asyncio.get_running_loop()
            try:
                fresh = await loop.run_in_executor(
                    None, load, self.settings, self.metrics, self._worker
                )
                await self._swap(fresh)
            except UserError as error:
                log.error("the package is refused, the old one keeps serving: %s", error)
                raise RequestError(f"The package is refused: {error.problem}", 409) from None
            except Exception:
                log.exception("the package does not load, the old one keeps serving")
                why = "The package does not load; the server's log says why."
                raise RequestError(why, 409) from None

    async def _unload_here(self) -> None:
        async with self._loading:
            await self._swap(None)

    async def _swap(self, fresh: Served | None) -> None:
        if fresh is not None:
            try:
                await fresh.start()
            except BaseException:
                await fresh.close()
                raise
        old, self.model = self.model, fresh
        version = fresh.version if fresh else None
        self.metrics.served = self._log_fields["version"] = version
        log.info("serving version %s", version or "none: unloaded")
        if old is not None:
            self._retired.append(old)
            # When nobody can be using it any more.
            loop = asyncio.get_running_loop()
            loop.call_later(
                self.settings.limits.seconds, lambda: loop.create_task(self._close(old))
            )

    async def _close(self, retired: Served) -> None:
        if retired in self._retired:
            self._retired.remove(retired)
            await retired.close()

    async def _with_features(self, served: Served, columns: Columns) -> Columns:
        if served.features is None or not served.lacks_features(columns):
            return columns
        started = time.perf_counter()
        found = await served.features.read(
            {name: columns[name] for name in served.signature["entities"]}, served.tally
        )
        served.tally.phase("features", time.perf_counter() - started)
        return {**columns, **found}

    @staticmethod
    def _log(
        served: Served, call: Call, sent: Columns, columns: Columns, predictions: Predictions
    ) -> None:
        if served.payload is not None:
            served.payload.offer(
                call.id, call.at, call.protocol, served.version, sent, columns, predictions
            )

    @staticmethod
    def _count(columns: Columns, most: int) -> int:
        rows = (
            len(columns.matrix)
            if isinstance(columns, Matrix)
            else len(next(iter(columns.values())))
        )
        if rows > most:
            raise RequestError(
                f"Expected at most {most} rows in a request, got {rows}; send several.", 413
            )
        return rows
