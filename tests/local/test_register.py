"""A model gets a version only when it serves, one version for one package, and a card with it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from onnx import numpy_helper
from small_model import write_candidate

from components.register.step import register
from components.train.explainer import explain_booster, xgboost_contributions
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.package import Model, digest, verify
from slipway.project import Project
from slipway.step import Step

ROOT = Path(__file__).parents[2]
CONTRACT = """
name: shop
description: Will they buy?
as_of: 2024-01-01
sources:
  events: {uri: events.csv, columns: {shop: {type: string}}}
tables:
  facts: {sql: facts.sql}
entities:
  shop: {type: string}
views:
  recent:
    sql: recent.sql
    entities: [shop]
    ttl: 6h
    features:
      mean: {type: float}
      visits: {type: int, on_null: refuse}
request:
  size: {type: float, range: [0, 10]}
  at: {type: timestamp, parts: [hour]}
  urgent: {type: bool}
target:
  sql: target.sql
  key: [shop]
  event_timestamp: at
  label: bought
  label_timestamp: known_at
  task: binary
split: {train: 9 months, validate: 1 month, test: 2 months}
"""
CODE = "c" * 12
"""A source file that is saved while the tests run would be another code version."""
METRICS = {"roc_auc": 0.75, "pr_auc": 0.5, "log_loss": 0.48, "brier": 0.15}
pytestmark = pytest.mark.local


@dataclass(frozen=True)
class Work:
    """What the steps before left, and where this one writes."""

    folder: Path

    @property
    def project(self):
        return Project.load(self.folder / "project.yaml")

    def evaluate(self, passed=True, **changes):
        scores = {
            name: {"value": value, "low": value - 0.01, "high": value + 0.01}
            for name, value in METRICS.items()
        }
        facts = {
            "task": "binary",
            "classes": [],
            "window": {"start": "2023-11-01", "end": "2024-01-01", "rows": 60},
            "looks": 1,
            "reused": False,
            "models": [
                {"name": "candidate", "version": None, "metrics": scores},
                {"name": "prior", "version": None, "metrics": scores | {"pr_auc": None}},
            ],
            "versus": [],
            "gates": [{"text": "roc_auc ≥ 0.7", "passed": passed, "detail": "0.7500"}],
            "passed": passed,
            "curves": {},
            "slices": [
                {"by": "shop", "value": "a", "rows": 30, "label_mean": 0.2, "metrics": METRICS},
                {
                    "by": "shop",
                    "value": "b",
                    "rows": 30,
                    "label_mean": 0.3,
                    "metrics": METRICS | {"log_loss": 0.91},
                },
            ],
            "worst": [],
        }
        write_json(self.folder / "evaluation" / "evaluation.json", facts | changes)

    def run(self, package="package"):
        step = Step("register", self.project)
        version = register(
            step,
            "d" * 16,
            "f" * 16,
            "2024-01-01T00:00:00+00:00",
            self.folder / "training_set",
            self.folder / "candidate",
            self.folder / "evaluation",
            self.folder / package,
        )
        assert step.facts["version"] == version
        json.dumps(step.facts, allow_nan=False)
        return step.facts

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.project.home.tracking_uri)

    def versions(self):
        return sorted(
            str(item.version) for item in self.client.search_model_versions("name = 'shop'")
        )

    def runs(self):
        experiments = [item.experiment_id for item in self.client.search_experiments()]
        return self.client.search_runs(experiments)

    def alias(self, name):
        return str(self.client.get_model_version_by_alias("shop", name).version)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("components.register.step.code_version", lambda: CODE)
    (tmp_path / "project.yaml").write_text(CONTRACT)
    for name in ("facts", "recent", "target"):
        (tmp_path / f"{name}.sql").write_text("select 1")
    work = Work(tmp_path)
    rows = make_rows()
    (tmp_path / "training_set").mkdir()
    pq.write_table(rows, tmp_path / "training_set" / "training_set.parquet")
    write_candidate(tmp_path / "candidate", work.project.contract, rows)
    work.evaluate()
    return work


def make_rows():
    random = np.random.default_rng(0)
    count = 400
    mean = random.normal(size=count)
    begin = datetime(2023, 10, 1, tzinfo=UTC)
    return pa.table(
        {
            "row_id": range(count),
            "window": ["train"] * 200 + ["validate"] * 140 + ["test"] * 60,
            "shop": random.choice(["a", "b"], count),
            "at": pa.array(
                [begin + timedelta(hours=hour) for hour in range(count)],
                pa.timestamp("us", tz="UTC"),
            ),
            "bought": (mean + random.normal(size=count) > 0).astype(int),
            "size": [20.0 if row % 9 == 0 else row % 10 + 0.5 for row in range(count)],
            "urgent": pa.array(random.random(count) > 0.5),
            "recent__mean": pa.array(
                [None if row % 10 == 1 else value for row, value in enumerate(mean)], pa.float64()
            ),
            "recent__visits": pa.array(
                [None if row % 7 == 0 else row % 5 for row in range(count)], pa.int64()
            ),
        }
    )


def test_a_registered_package_is_whole_and_its_artifact_is_the_same_folder(work):
    facts = work.run()
    package = work.folder / "package"
    verify(package)
    assert facts["digest"] == digest(package)
    stored = Path(facts["uri"].removeprefix("file://"))
    verify(stored)
    assert digest(stored) == facts["digest"]
    assert not [path for path in stored.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert (package / "contract.yaml").read_text() == CONTRACT
    assert read_json(package / "metrics.json")["metrics"]["roc_auc"]["value"] == 0.75


def test_the_reference_is_rows_that_a_client_could_send_some_with_nulls(work):
    facts = work.run()
    reference = read_json(work.folder / "package" / "reference.json")
    assert facts["reference_rows"] == len(reference["predictions"]) == 32
    assert facts["largest_difference"] <= 1e-6
    rows = reference["rows"]
    assert list(rows) == ["size", "at", "urgent", "recent__mean", "recent__visits"]
    assert None in rows["recent__mean"]
    # A value out of range or a null that is refused never reaches the model.
    assert None not in rows["recent__visits"]
    assert max(rows["size"]) <= 10
    days = {moment[:10] for moment in rows["at"]}
    assert len(days) >= 4, "spread over the window"


def test_lineage_scores_and_the_training_curve_are_in_mlflow(work):
    facts = work.run()
    [run] = work.runs()
    assert run.info.status == "FINISHED"
    version = work.client.get_model_version("shop", facts["version"])
    for tags in (run.data.tags, version.tags):
        for name, value in facts["lineage"].items():
            assert tags[name] == value
        assert tags["digest"] == facts["digest"]
        assert len(tags["contract_sha256"]) == 64
    assert version.run_id == run.info.run_id
    assert version.tags["gates"] == "passed"
    assert run.data.params["xgboost.max_depth"] == "6"
    assert run.data.metrics["test.roc_auc"] == 0.75
    assert run.data.metrics["test.roc_auc.low"] == 0.74
    assert run.data.metrics["test.prior.log_loss"] == 0.48
    curve = work.client.get_metric_history(run.info.run_id, "curve.xgboost.validate")
    assert [(point.step, point.value) for point in curve] == [(0, 0.6), (1, 0.5)]


def test_the_card_tells_scores_with_intervals_the_worst_slice_first_and_the_lineage(work):
    work.run()
    card = (work.folder / "package" / "MODEL_CARD.md").read_text()
    assert card.startswith("# shop\n\nWill they buy?")
    assert "| this model | 0.7500 (0.7400 to 0.7600) |" in card
    assert card.index("shop = b | 30 | 0.9100") < card.index("shop = a | 30 | 0.4800")
    assert "| roc_auc ≥ 0.7 | passed | 0.7500 |" in card
    assert "| data_version | dddddddddddddddd |" in card
    assert "`:explain` tells what every feature added to it, in log-odds, by permutation" in card
    assert "`size` outside 0 to 10 is refused." in card
    assert "| test | 2023-11-01 00:00 | 2024-01-01 00:00 |" in card


def test_who_passed_the_gates_leads_and_who_did_not_is_only_a_challenger(work):
    first = work.run()
    assert (first["alias"], first["champion_version"], first["previous_champion"]) == (
        "champion",
        "1",
        None,
    )
    assert work.alias("champion") == work.alias("challenger") == "1"
    work.evaluate(passed=False)
    second = work.run("second")
    assert (second["alias"], second["version"]) == ("challenger", "2")
    assert (second["champion_version"], second["previous_champion"]) == ("1", "1")
    assert (work.alias("champion"), work.alias("challenger")) == ("1", "2")


def test_the_same_model_again_is_the_same_version_whatever_champion_it_met(work):
    first = work.run()
    met = {"name": "champion", "version": "1", "metrics": {"roc_auc": None}}
    evaluation = read_json(work.folder / "evaluation" / "evaluation.json")
    gate = {"text": "log_loss not worse than champion", "passed": True, "detail": "0.0000"}
    work.evaluate(
        models=[*evaluation["models"], met],
        gates=[*evaluation["gates"], gate],
        looks=2,
        reused=True,
    )
    training = read_json(work.folder / "candidate" / "training.json")
    training["candidates"][0]["seconds"] = 99.0
    write_json(work.folder / "candidate" / "training.json", training)
    work.client.delete_registered_model_alias("shop", "champion")
    second = work.run("again")
    assert second["reused"]
    assert second["digest"] == first["digest"]
    assert work.versions() == ["1"]
    assert len(work.runs()) == 1
    assert work.alias("champion") == "1"


def test_a_package_that_does_not_serve_gets_no_version_and_no_alias(work, monkeypatch):
    right = Model.predict
    monkeypatch.setattr(Model, "predict", lambda self, rows: right(self, rows) + np.float32(0.01))
    with pytest.raises(UserError, match="does not reproduce its reference predictions"):
        work.run()
    assert work.versions() == []
    assert work.runs() == []


def test_a_package_that_explains_another_model_gets_no_version(work):
    columns = len(Model.load(work.folder / "candidate").encoder.columns)
    x = np.random.default_rng(0).normal(size=(50, columns)).astype(np.float32)
    other = xgboost.train({}, xgboost.DMatrix(x, x.sum(axis=1)), num_boost_round=2)
    explain_booster(
        other, x, xgboost_contributions(other, x), work.folder / "candidate" / "explainer.npz"
    )
    with pytest.raises(UserError, match="explanations differ from the model's answers"):
        work.run()
    assert work.versions() == []


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
import components.register.step
import test_register
from mlflow import MlflowClient

components.register.step.code_version = lambda: test_register.CODE
name = sys.argv[3]
real = getattr(MlflowClient, name)

def dying(self, *args, **kwargs):
    if sys.argv[4] == "after":
        real(self, *args, **kwargs)
    os.kill(os.getpid(), 9)

setattr(MlflowClient, name, dying)
test_register.Work(test_register.Path(sys.argv[1])).run("killed")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("create_run", "after"),
        ("log_artifacts", "after"),
        ("create_model_version", "before"),
        ("create_model_version", "after"),
        ("set_registered_model_alias", "before"),
    ],
)
def test_killed_anywhere_and_repeated_there_is_one_version_and_nothing_left_over(work, call, when):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(work.folder), str(Path(__file__).parent), call, when],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    facts = work.run()
    assert work.versions() == ["1"]
    assert work.alias("champion") == work.alias("challenger") == "1"
    [run] = work.runs()
    assert run.info.status == "FINISHED"
    verify(Path(facts["uri"].removeprefix("file://")))
    curve = work.client.get_metric_history(run.info.run_id, "curve.xgboost.validate")
    assert [(point.step, point.value) for point in curve] == [(0, 0.6), (1, 0.5)]


def test_another_model_is_another_version(work):
    work.run()
    model = onnx.load(work.folder / "candidate" / "model.onnx")
    bias = next(item for item in model.graph.initializer if item.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), "bias"))
    onnx.save(model, work.folder / "candidate" / "model.onnx")
    facts = work.run("other")
    assert (facts["version"], facts["reused"]) == ("2", False)
    assert facts["previous_champion"] == "1"
    assert len(work.runs()) == 2
