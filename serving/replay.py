"""Rows of the test window, asked of a running endpoint, against the same rows predicted offline.

At a moment T the online store holds what was known at T. So the offline side of a row that is asked
in the day after T is joined as of T too: both sides must agree to the last digit.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.asof import join
from feature_repo.build import view_location
from feature_repo.duck import connect, parquet_view, quote
from feature_repo.materialize import materialize
from feature_repo.training_set import timed_views
from serving.endpoint import Endpoint, serving
from serving.tensors import tensor_metadata
from slipway import names
from slipway.contract.checks import METRICS
from slipway.imports import import_feast
from slipway.package import Model
from slipway.project import Project
from slipway.schema import Schema, request_schema
from slipway.scores import scores
from slipway.storage import locate

if TYPE_CHECKING:
    import httpx

HORIZON = timedelta(hours=24)
FEWEST = 25
"""Rows of a moment where a day holds fewer."""
AT = "replayed at"
Floats = npt.NDArray[np.float64]


def replay(
    project: Project,
    package: Path,
    training_set: Path,
    feature_version: str,
    moments: Sequence[datetime] = (),
    rows: int = 100,
) -> dict[str, Any]:
    """Ask a fresh endpoint for up to `rows` rows after each of `moments`; the facts `score`.

    Without `moments` there are four, spread over the rows of the test window. Each row is one V1
    request by entity keys and request features, whose time is measured; then all rows of a moment
    are one V2 request. Raises `UserError` if the endpoint does not start, `RuntimeError` if it
    refuses a row.
    """
    import httpx

    contract, home = project.contract, project.home.serving / "replay"
    flags = ("--feature_store", home / "store", "--clock", "store")
    test = test_rows(project, training_set)
    model = Model.load(package)
    moments = moments or _spread(test[contract.target.event_timestamp])
    labels, offline, by_row, by_batch, seconds = [], [], [], [], []
    missing = 0
    with (
        serving(contract.name, package, home, "combined", *flags) as endpoint,
        httpx.Client(base_url=endpoint.url, trust_env=False, timeout=30) as client,
    ):
        import_feast()
        for moment in moments:
            materialize(project, feature_version, moment, home / "store")
            endpoint.wait_until_ready()
            asked = _after(test, contract.target.event_timestamp, moment, rows)
            labels.append(asked[contract.target.label].to_numpy())
            offline.append(model.predict(offline_rows(project, feature_version, asked, moment)))
            before = _missing(client)
            answers, taken = _ask_each(client, endpoint, request_rows(model, asked))
            missing += _missing(client) - before
            by_row.append(answers)
            seconds += taken
            by_batch.append(_ask_all(client, endpoint, request_rows(model, asked), model))
    truth, expected = np.concatenate(labels), np.concatenate(offline).astype(np.float64)
    found, batch = np.concatenate(by_row), np.concatenate(by_batch)
    task = contract.target.task
    online_scores, offline_scores = (scores(task, truth, p) for p in (found, expected))
    # A ranking does not exist where all rows are of one class.
    metric = next(name for name in METRICS[task] if math.isfinite(offline_scores[name]))
    return {
        "moments": [moment.isoformat() for moment in moments],
        "rows": len(truth),
        "requests": len(seconds) + len(moments),
        "protocol": "V1 by row, V2 in batches",
        "metric": metric,
        "online": online_scores[metric],
        "offline": offline_scores[metric],
        "difference": online_scores[metric] - offline_scores[metric],
        "largest_difference": float(
            max(np.abs(found - expected).max(), np.abs(batch - expected).max())
        ),
        "p50_ms": float(np.percentile(seconds, 50) * 1000),
        "p99_ms": float(np.percentile(seconds, 99) * 1000),
        "missing": missing,
    }


def offline_rows(
    project: Project, feature_version: str, rows: pa.Table, moment: datetime
) -> pa.Table:
    """`rows` (of a training set) with every online feature as it was known at `moment`."""
    contract = project.contract
    views = timed_views(contract, {name: quote(name) for name in contract.views})
    known = {name for view in views for name in view.features.values()}
    kept = rows.select([name for name in rows.column_names if name not in known])
    kept = kept.append_column(AT, pa.array([moment] * len(kept), pa.timestamp("us", tz="UTC")))
    places = {
        name: locate(view_location(project, feature_version, name)) for name in contract.views
    }
    folders = {place.local.parent for place in places.values() if place.local}
    with (
        tempfile.TemporaryDirectory() as scratch,
        connect(Path(scratch), folders) as connection,
    ):
        connection.register("asked", kept)
        for name, place in places.items():
            parquet_view(connection, name, place)
        query = join("asked", "row_id", AT, views, (moment, moment))
        return connection.sql(query).to_arrow_table()


def test_rows(project: Project, training_set: Path) -> pa.Table:
    table = pq.read_table(training_set / "training_set.parquet", filters=[("window", "=", "test")])
    return table.sort_by(project.contract.target.event_timestamp)


def _spread(asked: pa.ChunkedArray) -> list[datetime]:
    """Four moments, each of a row, spread over sorted ones; fewer where they coincide."""
    at = [int((part + 0.5) / 4 * len(asked)) for part in range(4)]
    return sorted({asked[row].as_py() for row in at})


def _after(test: pa.Table, asked: str, moment: datetime, rows: int) -> pa.Table:
    """Rows asked in the day after `moment`, or a few where there are fewer; evenly thinned."""
    later = test.filter(pc.greater_equal(test[asked], pa.scalar(moment, test[asked].type)))
    end = pa.scalar(moment + HORIZON, test[asked].type)
    day = pc.sum(pc.less(later[asked], end)).as_py() or 0
    count = min(len(later), max(day, FEWEST))
    return later.take(np.linspace(0, count - 1, min(rows, count)).astype(int))


def request_rows(model: Model, rows: pa.Table) -> list[dict[str, Any]]:
    """Each row as a client would send it: entity keys and request features."""
    return as_instances(request_schema(model.signature), rows)


def as_instances(schema: Schema, rows: pa.Table) -> list[dict[str, Any]]:
    """Each row with the fields of `schema`, in values that JSON knows."""
    return [
        {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in rows.select([field.name for field in schema.fields]).to_pylist()
    ]


def _ask_each(
    client: httpx.Client, endpoint: Endpoint, rows: list[dict[str, Any]]
) -> tuple[Floats, list[float]]:
    answers, seconds = [], []
    for row in rows:
        body = json.dumps({"instances": [row]})
        started = time.perf_counter()
        answer = client.post(f"/v1/models/{endpoint.name}:predict", content=body)
        seconds.append(time.perf_counter() - started)
        answers += _answered(answer)["predictions"]
    return np.array(answers, np.float64), seconds


def _ask_all(
    client: httpx.Client, endpoint: Endpoint, rows: list[dict[str, Any]], model: Model
) -> Floats:
    tensors = [
        tensor | {"shape": [len(rows)], "data": [row[tensor["name"]] for row in rows]}
        for tensor in tensor_metadata(request_schema(model.signature))
    ]
    body = json.dumps({"inputs": tensors})
    answer = _answered(client.post(f"/v2/models/{endpoint.name}/infer", content=body))
    [output] = answer["outputs"]
    return np.array(output["data"], np.float64).reshape(output["shape"])


def _answered(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise RuntimeError(f"The endpoint answered {answer.status_code}: {answer.text}")
    return answer.json()


def _missing(client: httpx.Client) -> int:
    """Rows, over all views, whose entity the online store did not know so far."""
    lines = re.findall(
        rf"^{names.FEATURES_MISSING}\{{.*\}} (\S+)$", client.get("/metrics").text, re.M
    )
    return int(sum(map(float, lines)))
