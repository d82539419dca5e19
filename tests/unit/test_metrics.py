"""What an operator reads at /metrics: the right names, the right sums, whatever workers do."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import FEW, Metrics
from serving.snapshots import Snapshots
from slipway import names

ROOT = Path(__file__).parents[2]
CLASSES = ("rain", "snow", "sun")


def used(task="binary", classes=(), shared=None):
    """Metrics of which everything was counted once."""
    metrics = Metrics("combined", "m", task, ["weather"], shared)
    tally = metrics.of("v1", classes)
    metrics.served = "v1"
    metrics.store_age = lambda: 7.5
    tally.answered("v1", 200, 0.0002)
    tally.phase("inference", 0.00002)
    tally.rows(1)
    tally.scores(np.full((1, 3) if classes else 1, 0.25, np.float32))
    tally.features("weather", 1, 2)
    metrics.refused("v2", 404)
    metrics.in_flight, metrics.queued = 3, 2
    metrics.store_failed()
    metrics.logged(5)
    metrics.dropped(4, "queue")
    metrics.removed(1)
    return metrics


def families(metrics):
    text = metrics.render()[0].decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(metrics, family, **labels):
    """Of the series of that name that has these labels, or None."""
    name, _, ending = str(family).partition("|")
    for found in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in found.samples:
            if sample.name == name + ending and labels.items() <= sample.labels.items():
                return sample.value
    return None


def test_metrics_shows_exactly_the_names_helps_and_labels_that_are_defined():
    shown = {}
    for task in ("binary", "regression", "multiclass"):
        shown |= families(used(task, CLASSES if task == "multiclass" else ()))
    for family in names.FAMILIES:
        # The text format's parser takes `_total` off a counter's name.
        found = shown.pop(family.name.removesuffix("_total"))
        assert (found.type, found.documentation) == (family.kind, family.help), family
        for sample in found.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample
        if family.buckets:
            bounds = [float(s.labels["le"]) for s in found.samples if s.name.endswith("_bucket")]
            assert tuple(bounds[: len(family.buckets) + 1]) == (*family.buckets, math.inf)
    assert set(shown) == {*names.PROCESS, names.PYTHON}


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_prometheus_that_asks_for_openmetrics_can_read_it(task):
    metrics = used(task, CLASSES if task == "multiclass" else ())
    text, kind = metrics.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(text.decode())} >= {"slipway_requests"}


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain;version=nonsense", "\x00;;=,,"])
def test_any_accept_header_gets_the_text_format(accept):
    text, kind = used().render(accept)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nslipway_rows_total{" in text


def test_a_latency_on_a_bound_counts_as_not_above_it():
    metrics = Metrics("predictor", "m", "binary")
    for seconds in (0.0001, 0.00010001, 99):
        metrics.of("v").answered("v1", 200, seconds)
    bucket = f"{names.LATENCY}|_bucket"
    assert value(metrics, bucket, le="0.0001") == 1
    assert value(metrics, bucket, le="0.00025") == 2
    assert value(metrics, bucket, le="10.0") == 2
    assert value(metrics, bucket, le="+Inf") == value(metrics, f"{names.LATENCY}|_count") == 3
    assert value(metrics, f"{names.LATENCY}|_sum") == pytest.approx(99.00020001)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_batch_counts_like_its_rows_one_by_one(task):
    random = np.random.default_rng(7)
    count = 4 * FEW
    scores = {
        "binary": random.random(count),
        "regression": np.r_[random.normal(0, 1e4, count - 3), 0, 1e9, -1e9],
        "multiclass": random.random((count, 3)),
    }[task].astype(np.float32)
    classes = CLASSES if task == "multiclass" else ()
    whole, single = (Metrics("predictor", "m", task).of("v", classes) for _ in range(2))
    whole.scores(scores)
    for row in range(count):
        single.scores(scores[row : row + 1])
    family = {"binary": names.SCORE, "regression": names.VALUE}.get(task)
    if family:
        key = family.name, ("m", "v")
        *counts, total = whole.series()[key]
        assert sum(counts) == count
        assert counts == single.series()[key][:-1]
        assert total == pytest.approx(single.series()[key][-1])
    else:
        assert whole.series() == single.series()
        likeliest = np.bincount(scores.argmax(axis=1))
        assert [
            whole.series()[names.CLASSES.name, (label, "m", "v")] for label in CLASSES
        ] == likeliest.tolist()


def test_only_the_version_served_now_is_one_and_earlier_counts_stay():
    metrics = used()
    metrics.of("v2").rows(10)
    metrics.served = "v2"
    assert value(metrics, names.MODEL_INFO, version="v1") == 0
    assert value(metrics, names.MODEL_INFO, version="v2") == 1
    assert value(metrics, names.ROWS, version="v1") == 1
    assert value(metrics, names.ROWS, version="v2") == 10
    metrics.served = None
    assert value(metrics, names.MODEL_INFO, version="v2") == 0


def test_the_first_missing_feature_and_the_first_error_are_an_increase():
    metrics = Metrics("transformer", "m", "binary", ["weather"])
    metrics.of("v")
    assert value(metrics, names.FEATURES_MISSING, view="weather") == 0
    assert value(metrics, names.REQUESTS, protocol="v2", code="500") == 0
    assert value(metrics, names.PAYLOAD_DROPPED, reason="queue") == 0


def test_a_multiclass_model_without_names_of_its_classes_is_a_mistake():
    with pytest.raises(ValueError, match="classes"):
        Metrics("predictor", "m", "multiclass").of("v")


WORKER = """
import sys
from pathlib import Path
from serving.metrics import Metrics
metrics = Metrics("predictor", "m", "binary", (), Path(sys.argv[1]))
tally = metrics.of("v")
metrics.served = "v"
for line in sys.stdin:
    rows, metrics.in_flight = map(int, line.split())
    tally.rows(rows)
    tally.answered("v1", 200, 0.001)
    print(len(metrics.render()[0]), flush=True)
"""


class Worker:
    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def count(self, rows, in_flight):
        """Until what it counted has been shown at its own /metrics."""
        self.process.stdin.write(f"{rows} {in_flight}\n")
        self.process.stdin.flush()
        assert int(self.process.stdout.readline()) > 0

    def end(self, number):
        self.process.send_signal(number)
        self.process.communicate()


@pytest.fixture
def worker(tmp_path):
    workers = []

    def start():
        workers.append(Worker(tmp_path))
        return workers[-1]

    yield start
    for left in workers:
        left.end(signal.SIGKILL)


def test_the_sum_over_workers_keeps_what_killed_ones_counted(worker, tmp_path):
    first, second = worker(), worker()
    first.count(5, 2)
    second.count(7, 1)
    metrics = used(shared=tmp_path)  # the worker that is scraped
    rows = f"{names.LATENCY}|_count"
    assert value(metrics, names.ROWS, version="v") == 12
    assert value(metrics, rows, version="v") == 2
    assert value(metrics, names.IN_FLIGHT) == 2 + 1 + 3
    assert value(metrics, names.WORKERS) == 3
    assert value(metrics, names.MODEL_INFO, version="v") == 1
    before = value(metrics, names.CPU)
    memory = value(metrics, "process_resident_memory_bytes")
    # Counted and shown, then killed at once: no counter may fall.
    first.count(100, 9)
    first.end(signal.SIGKILL)
    assert value(metrics, names.ROWS, version="v") == 112
    assert value(metrics, names.IN_FLIGHT) == 1 + 3
    assert value(metrics, names.WORKERS) == 2
    assert value(metrics, names.CPU) > before
    assert value(metrics, "process_resident_memory_bytes") < memory
    # The one that takes its place folds its file away, and the sums stay.
    third = worker()
    third.count(1, 0)
    assert value(metrics, names.ROWS, version="v") == 113
    assert value(metrics, names.WORKERS) == 3
    assert len(list(tmp_path.glob("*.alive"))) == 3
    metrics.close()


def test_a_worker_that_ends_well_leaves_its_last_counts(tmp_path):
    first = used(shared=tmp_path)
    first.of("v1").rows(41)
    first.close()
    second = Metrics("combined", "m", "binary", (), tmp_path)
    assert value(second, names.ROWS) == 42
    assert value(second, names.IN_FLIGHT) == 0
    second.close()


def test_a_worker_killed_while_it_folds_another_counts_it_once(tmp_path):
    used(shared=tmp_path).close()
    [dead] = tmp_path.glob("*.alive")
    totals = orjson.loads(dead.with_suffix(".json").read_bytes())["totals"]
    # As left between the renaming of the sums and the removal of what is in them.
    ended = {"totals": totals, "folded": [dead.stem]}
    (tmp_path / "ended.json").write_bytes(orjson.dumps(ended))
    reader = Snapshots(tmp_path)
    assert reader.others()[1]["slipway_rows_total", ("m", "v1")] == 1
    assert not dead.exists()
    reader.close()


def test_a_folder_that_cannot_be_written_does_not_break_the_page(tmp_path, caplog):
    metrics = used(shared=tmp_path)
    [own] = tmp_path.glob("*.alive")
    (tmp_path / f".{own.stem}.{os.getpid()}").mkdir()  # in the way, for root too
    assert value(metrics, names.ROWS) == 1
    assert value(metrics, names.ROWS) == 1
    metrics.close()
    assert caplog.text.count("the other workers do not see") == 1
