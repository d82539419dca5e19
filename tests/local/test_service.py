"""The heart of a server in this process: what only shows inside."""

import asyncio
import time
from pathlib import Path

import pytest
from numbers_model import write_numbers
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.call import Call
from serving.metrics import Metrics
from serving.service import Service
from serving.settings import Settings
from serving.trace import Spans
from slipway.rows import Matrix
from slipway.schema import RequestError

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("service") / "one", 1.0)


def in_service(package, work):
    async def run():
        service = Service(
            Settings("predictor", "m", package, 0, "127.0.0.1"),
            Metrics("predictor", "m", "regression"),
        )
        await service.open()
        try:
            return await work(service, service.current("m"))
        finally:
            await service.close()

    return asyncio.run(run())


def rows(served, *values):
    return served.schema.from_instances({"instances": list(values)})


def call():
    return Call("v1", time.monotonic() + 10)


def test_requests_of_one_turn_run_as_one_batch_and_each_gets_its_own_rows(package):
    async def work(service, served):
        sizes = []
        run = served.model._session_run
        served.model._session_run = lambda names, feeds, options: (
            sizes.append(len(feeds["features"])) or run(names, feeds, options)
        )
        asked = [rows(served, *[[n, i, 0, 0] for i in range(n)]) for n in range(1, 6)]
        found = await asyncio.gather(*(service.predict(served, r, call()) for r in asked))
        return sizes, [answer.tolist() for answer in found]

    sizes, found = in_service(package, work)
    assert sizes == [15]
    for n, answer in enumerate(found, 1):
        assert answer == pytest.approx([n + i for i in range(n)], abs=1e-4)


def test_a_row_without_a_finite_prediction_spoils_no_other_of_its_batch(package):
    async def work(service, served):
        high = 3.4e38
        asked = [[1, 2, 3, 4], [high, high, high, high], [4, 3, 2, 1]]
        return await asyncio.gather(
            *(service.predict(served, rows(served, row), call()) for row in asked),
            return_exceptions=True,
        )

    good, bad, also = in_service(package, work)
    assert good.tolist() == also.tolist() == pytest.approx([10], abs=1e-4)
    assert isinstance(bad, RequestError)
    assert bad.status == 422


def test_rows_of_numbers_stay_one_matrix_and_other_rows_get_the_same_answer(package):
    async def work(service, served):
        by_order = rows(served, [1, 2, 3, 4.5])
        by_name = rows(served, {"d": 4.5, "c": 3, "b": 2, "a": 1})
        assert isinstance(by_order, Matrix)
        assert isinstance(by_name, Matrix)
        return [(await service.predict(served, r, call())).tolist() for r in (by_order, by_name)]

    one, other = in_service(package, work)
    assert one == other == pytest.approx([10.5], abs=1e-4)


def test_a_span_tells_of_each_prediction_and_is_the_parent_of_what_follows(package):
    exporter = InMemorySpanExporter()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    async def work(service, served):
        service._spans = Spans(exporter, "m")
        context = {b"traceparent": f"00-{trace}-00f067aa0ba902b7-01".encode()}
        asked = Call("v1", time.monotonic() + 10, context)
        done = []
        assert not service.submit(served, rows(served, [1, 2, 3, 4]), asked, done.append)
        await service.predict(served, rows(served, [1, 2, 3, 4]), asked)
        with pytest.raises(RequestError):
            await service.predict(served, rows(served, *[[1, 2, 3, 4]] * 10_001), call())
        return asked.passed_on["traceparent"]

    passed = in_service(package, work).split("-")
    good, refused = exporter.get_finished_spans()
    assert format(good.context.trace_id, "032x") == passed[1] == trace
    assert format(good.context.span_id, "016x") == passed[2]
    assert good.attributes["http.response.status_code"] == 200
    assert refused.attributes["http.response.status_code"] == 413
