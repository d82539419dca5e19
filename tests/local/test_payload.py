"""What was asked and answered is found in the payload log: typed, whole, and never in the way."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from serving.metrics import Metrics
from serving.payload import Limits, PayloadLog, column
from slipway import names
from slipway.errors import UserError

ROOT = Path(__file__).parents[2]
AT = datetime(2024, 5, 5, 12, 30, 15, 250_000, tzinfo=UTC).timestamp()
pytestmark = pytest.mark.local


def feature(name, kind):
    return {"name": name, "type": kind, "source": "request", "on_null": "keep"}


SIGNATURE = {
    "classes": [],
    "serving": {"payload_sample": 1.0},
    "entities": {"shop": {"type": "string"}, "customer": {"type": "int"}},
    "features": [
        feature("shop", "string"),  # an entity that is a request feature as well
        feature("amount", "float"),
        feature("visits__count", "int"),
        feature("member", "bool"),
        feature("time", "timestamp"),  # a column of the log's own has that name
    ],
}
ENTITIES = {"shop": ["Köln"], "customer": [7]}
FEATURES = {
    "shop": ["Köln"],
    "amount": [0.1],
    "visits__count": [2**53 + 1],
    "member": [True],
    "time": [datetime(2024, 5, 5, 9, tzinfo=UTC)],
}
SCORE = np.array([0.25], np.float32)


def made(folder, signature=SIGNATURE, task="binary", **limits):
    metrics = Metrics("combined", "m", task)
    return PayloadLog(folder, signature, "m", metrics, Limits(**limits)), metrics


def count(metrics, family, *labels):
    return metrics.collect().totals[family.name, (*labels, "m")]


def offer(log, call_id, rows=1, at=AT, **changed):
    features = {name: values * rows for name, values in (FEATURES | changed).items()}
    entities = {name: values * rows for name, values in ENTITIES.items()}
    log.offer(call_id, at, "v1", "abc", entities, features, SCORE.repeat(rows))


def segments(folder):
    return sorted((folder / "m").glob("date=*/*.parquet"))


def ask(folder, query):
    files = f"read_parquet('{folder}/m/*/*.parquet', hive_partitioning=true, union_by_name=true)"
    with duckdb.connect() as connection:
        connection.sql("set timezone = 'UTC'")
        return connection.sql(query.format(log=files)).fetchall()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in a minute"
        time.sleep(0.01)


def test_labels_join_what_was_asked_and_answered(tmp_path):
    log, metrics = made(tmp_path)
    offer(log, "a")
    unknown = {name: [None] * 2 for name in FEATURES}
    unknown["amount"] = [1, -2.5]
    scores = np.array([0.5, 0.75], np.float32)
    log.offer("b", AT + 1, "grpc", "abc", {"shop": [None] * 2, "customer": [8, 9]}, unknown, scores)
    log.close()
    table = pq.read_table(segments(tmp_path)[0], partitioning=None)
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "row": "int32",
        "time": "timestamp[us, tz=UTC]",
        "protocol": "string",
        "model": "string",
        "version": "string",
        "shop": "string",
        "amount": "double",
        "visits__count": "int64",
        "member": "bool",
        "_time": "timestamp[us, tz=UTC]",
        "customer": "int64",
        "prediction": "float",
    }
    found = ask(
        tmp_path,
        "select id, row, protocol, model, version, time, shop, customer, amount, visits__count, "
        "member, _time, prediction, late from {log} left join "
        "(values ('a', 0, true), ('b', 1, false)) as labels(id, row, late) using (id, row) "
        "order by id, row",
    )
    at, own = datetime.fromtimestamp(AT, UTC), FEATURES["time"][0]
    later, empty = at + timedelta(seconds=1), (None, None, None)
    assert found == [
        ("a", 0, "v1", "m", "abc", at, "Köln", 7, 0.1, 2**53 + 1, True, own, 0.25, True),
        ("b", 0, "grpc", "m", "abc", later, None, 8, 1.0, *empty, 0.5, None),
        ("b", 1, "grpc", "m", "abc", later, None, 9, -2.5, *empty, 0.75, False),
    ]
    assert count(metrics, names.PAYLOAD_ROWS) == 3


def test_pyarrow_reads_the_folder_as_one_dataset_by_day(tmp_path):
    log, _ = made(tmp_path)
    for number in range(4):
        offer(log, f"{number}", at=AT + number * 86_400 / 2)
    log.close()
    found = ds.dataset(tmp_path / "m", partitioning="hive").to_table(
        filter=ds.field("date") == "2024-05-06", columns=["id"]
    )
    assert sorted(found["id"].to_pylist()) == ["1", "2"]
    assert [path.parent.name for path in segments(tmp_path)] == [
        "date=2024-05-05",
        "date=2024-05-06",
        "date=2024-05-07",
    ]


def test_a_multiclass_model_keeps_all_probabilities(tmp_path):
    log, _ = made(tmp_path, SIGNATURE | {"classes": ["x", "y", "z"]}, "multiclass")
    scores = np.array([[0.5, 0.25, 0.25], [0, 0, 1]], np.float32)
    features = {name: values * 2 for name, values in FEATURES.items()}
    log.offer("a", AT, "v2", "abc", {}, features, scores)
    log.offer("b", AT, "v2", "abc", {}, FEATURES, scores[:1])
    log.close()
    found = ask(tmp_path, "select id, row, prediction, customer from {log} order by 1, 2")
    # A predictor is not told the entities: what is not a feature is null.
    assert found == [
        ("a", 0, [0.5, 0.25, 0.25], None),
        ("a", 1, [0, 0, 1], None),
        ("b", 0, [0.5, 0.25, 0.25], None),
    ]


def test_versions_of_other_features_are_read_together(tmp_path):
    log, _ = made(tmp_path)
    offer(log, "a")
    log.close()
    other = SIGNATURE | {"features": [*SIGNATURE["features"], feature("fresh", "float")]}
    log, _ = made(tmp_path, other)
    offer(log, "b", fresh=[1.5])
    log.close()
    assert ask(tmp_path, "select id, fresh from {log} order by id") == [("a", None), ("b", 1.5)]


def test_the_sample_is_the_contracts_share_and_the_same_in_every_worker(tmp_path):
    signature = SIGNATURE | {"serving": {"payload_sample": 0.25}}
    kept = []
    for worker in ("one", "two"):
        log, metrics = made(tmp_path / worker, signature)
        for number in range(4000):
            offer(log, f"request-{number}")
        log.close()
        kept.append(ask(tmp_path / worker, "select id from {log} order by id"))
        assert count(metrics, names.PAYLOAD_DROPPED, "queue") == 0
    assert kept[0] == kept[1]
    assert 900 < len(kept[0]) < 1100
    log, _ = made(tmp_path / "none", SIGNATURE | {"serving": {"payload_sample": 0.0}})
    offer(log, "a")
    log.close()
    assert segments(tmp_path / "none") == []


def test_a_quiet_models_rows_can_be_read_soon(tmp_path):
    log, _ = made(tmp_path, segment_seconds=0.1)
    offer(log, "a")
    until(lambda: segments(tmp_path))
    assert ask(tmp_path, "select id from {log}") == [("a",)]
    log.close()


def test_a_busy_model_gets_segments_of_limited_size(tmp_path):
    log, _ = made(tmp_path, segment_rows=1000, queue_rows=10**6)
    offer(log, "large", rows=5000)
    for number in range(3000):
        offer(log, f"{number}")
    log.close()
    sizes = [pq.read_metadata(path).num_rows for path in segments(tmp_path)]
    assert sum(sizes) == 8000
    assert len(sizes) >= 4
    assert max(sizes) <= 1000 + 1024
    assert ask(tmp_path, "select count(distinct (id, row)) from {log}") == [(8000,)]


def test_a_flood_is_dropped_and_counted_and_takes_no_more_memory(tmp_path):
    log, metrics = made(tmp_path, queue_rows=200)
    for number in range(5000):
        offer(log, f"{number}", rows=1 + number % 3)
        assert log._offered_rows - log._taken_rows <= 200
    log.close()
    offered = sum(1 + number % 3 for number in range(5000))
    dropped = count(metrics, names.PAYLOAD_DROPPED, "queue")
    assert dropped > 0
    assert count(metrics, names.PAYLOAD_ROWS) + dropped == offered
    written = ask(tmp_path, "select count(*) from {log}")
    assert written == [(offered - dropped,)]


def test_long_texts_fill_the_queue_before_memory(tmp_path):
    log, metrics = made(tmp_path, queue_bytes=10**6)
    for number in range(500):
        offer(log, f"{number}", shop=["x" * 100_000])
        assert log._offered_bytes - log._taken_bytes <= 10**6
    log.close()
    assert count(metrics, names.PAYLOAD_DROPPED, "queue") > 0


def test_a_folder_that_cannot_be_written_loses_rows_not_requests(tmp_path, caplog):
    (tmp_path / "m").write_text("in the way")
    log, metrics = made(tmp_path, segment_seconds=0)
    for number in range(2):
        offer(log, "a", rows=3)
        until(lambda n=number: count(metrics, names.PAYLOAD_DROPPED, "write") == 3 * (n + 1))
    assert caplog.text.count("the payload log drops rows") == 1
    (tmp_path / "m").unlink()
    offer(log, "b")
    log.close()
    assert ask(tmp_path, "select id from {log}") == [("b",)]
    assert count(metrics, names.PAYLOAD_DROPPED, "write") == 6


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/local")
from test_payload import made, offer, until, count, names, segments
folder = Path(sys.argv[1])
log, metrics = made(folder, segment_seconds=0)
whole, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
offer(log, "a", rows=1000)
until(lambda: count(metrics, names.PAYLOAD_DROPPED, "write") == 1000)
assert not list(folder.glob("m/*/.*")), "an unfinished file stays"
resource.setrlimit(resource.RLIMIT_FSIZE, (whole, hard))
offer(log, "b")
log.close()
assert count(metrics, names.PAYLOAD_ROWS) == 1
"""


def test_a_full_disk_loses_rows_and_is_written_again_when_there_is_room(tmp_path):
    subprocess.run([sys.executable, "-c", FULL, tmp_path], check=True, cwd=ROOT)
    assert ask(tmp_path, "select id from {log}") == [("b",)]


BUSY = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/local")
from test_payload import made, offer
log, _ = made(Path(sys.argv[1]), segment_rows=1)
number = 0
while True:
    offer(log, f"{number}", rows=50)
    number += 1
"""


def test_segments_of_a_killed_process_are_whole_and_its_rest_is_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", BUSY, tmp_path], cwd=ROOT)
    try:
        until(lambda: len(segments(tmp_path)) >= 5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    [(rows, distinct)] = ask(tmp_path, "select count(*), count(distinct (id, row)) from {log}")
    assert rows == distinct >= 5
    day = segments(tmp_path)[0].parent
    old, young = day / ".20240505-x-1.parquet.tmp", day / ".20240505-y-1.parquet.tmp"
    for path in (old, young):
        path.write_bytes(b"PAR1")
    os.utime(old, (AT, AT))
    assert ask(tmp_path, "select count(*) from {log}") == [(rows,)]
    assert ds.dataset(tmp_path / "m").count_rows() == rows
    log, _ = made(tmp_path)
    until(lambda: not old.exists())
    log.close()
    assert young.exists()  # it may be another worker's, at work


def test_the_oldest_segments_make_room(tmp_path):
    log, metrics = made(tmp_path, segment_rows=1, folder_bytes=100_000)
    for number in range(60):
        offer(log, f"{number}", at=AT + number * 86_400)
    log.close()
    kept = segments(tmp_path)
    removed = count(metrics, names.PAYLOAD_REMOVED)
    assert sum(path.stat().st_size for path in kept) <= 100_000 * 33 / 32
    assert removed == 60 - len(kept) > 0
    assert ask(tmp_path, "select min(id::int), max(id::int) from {log}") == [(removed, 59)]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == sorted(
        {path.parent.name for path in kept}
    )


def test_pyarrow_is_loaded_only_where_there_is_a_log():
    code = (
        "import sys, serving.payload, serving.metrics, serving.logs, serving.trace;"
        "assert not {'pyarrow', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden"])
def test_a_models_name_cannot_lead_out_of_the_folder(tmp_path, name):
    with pytest.raises(UserError, match="folder"):
        PayloadLog(tmp_path, SIGNATURE, name, Metrics("combined", name, "binary"))


def test_the_logs_columns_are_never_mistaken_for_a_features():
    assert column("time") == "_time"
    assert column("amount") == "amount"


def test_a_value_of_another_type_is_counted_and_the_log_goes_on(tmp_path, caplog):
    log, metrics = made(tmp_path, segment_seconds=0)
    offer(log, "a", amount=["a text"])
    until(lambda: count(metrics, names.PAYLOAD_DROPPED, "write") == 1)
    offer(log, "b")
    log.close()
    assert "cannot hold a row" in caplog.text
    assert ask(tmp_path, "select id from {log}") == [("b",)]
    assert pa.types.is_floating(pq.read_schema(segments(tmp_path)[0]).field("amount").type)
