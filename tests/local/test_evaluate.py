"""The test window is looked at once, by everybody on the same rows, and the gates decide."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from servers import s3_server
from sklearn import metrics
from small_model import write_candidate, write_onnx, write_package
from small_training_set import small_project, small_training_set

from components.evaluate import baselines
from components.evaluate.ledger import Ledger
from components.evaluate.models import predict
from components.evaluate.step import evaluate
from slipway.contract.checks import METRICS
from slipway.encoder import EncodedColumn, Encoder
from slipway.errors import UserError
from slipway.files import read_json
from slipway.package import Model
from slipway.project import Project
from slipway.registry import Registry
from slipway.report import evaluation_page
from slipway.step import Step

pytestmark = pytest.mark.local
TASKS = ("binary", "multiclass", "regression")
SECTIONS = """
timezone: America/New_York
evaluation: {slices: [shop, month, hour, day_of_week], bootstrap: 200}
gates:
"""


@dataclass
class Work:
    """A project with a training set, and candidates made of fewer and fewer of its rows."""

    folder: Path
    project: Project

    @property
    def rows(self):
        return self.folder / "training_set" / "training_set.parquet"

    def table(self, window):
        return pq.read_table(self.rows, filters=[("window", "=", window)])

    def change(self, name, make):
        """Replace a column, given the table."""
        table = pq.read_table(self.rows)
        at = table.column_names.index(name)
        pq.write_table(table.set_column(at, name, make(table)), self.rows)

    def candidate(self, name="candidate", rows=2000):
        if not (self.folder / name).exists():
            train = self.table("train").slice(0, rows)
            write_candidate(self.folder / name, self.project.contract, train)
        return self.folder / name

    def gates(self, *gates):
        text = self.project.path.read_text().split("gates:")[0]
        self.project.path.write_text(text + "gates:\n" + "".join(f"  - {{{g}}}\n" for g in gates))
        self.project = Project.load(self.project.path)

    def evaluate(self, candidate=None):
        step = Step("evaluate", self.project)
        out = self.folder / "evaluation"
        evaluate(step, "d" * 16, self.rows.parent, candidate or self.candidate(), out)
        assert read_json(out / "evaluation.json") == step.facts
        assert evaluation_page(step.facts).startswith("<!")
        json.dumps(step.facts, allow_nan=False)
        return step.facts

    def crown(self, name="champion", rows=300, contract=None):
        """Make a model champion in the real registry; returns its version."""
        package = self.folder / name
        train = self.table("train").slice(0, rows)
        write_package(package, contract or self.project.contract, train)
        registry = Registry(self.project)
        run = registry.client.create_run(registry.experiment)
        registry.client.log_artifacts(run.info.run_id, str(package), "package")
        created = registry.client.create_model_version(
            registry.name, f"{run.info.artifact_uri}/package", run.info.run_id
        )
        registry.set_alias("champion", created.version)
        return str(created.version)


@pytest.fixture
def make(tmp_path, monkeypatch):
    for name in ("SLIPWAY_HOME", "SLIPWAY_EVALUATIONS_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def work(task):
        project = small_project(tmp_path / "project", task, "{seed: 3}")
        project.path.write_text(project.path.read_text() + SECTIONS + "  []\n")
        small_training_set(tmp_path / "training_set", task)
        return Work(tmp_path, Project.load(project.path))

    return work


@pytest.fixture
def work(make):
    return make("binary")


def model_of(facts, name):
    return next(model for model in facts["models"] if model["name"] == name)


def value(facts, name, metric):
    return model_of(facts, name)["metrics"][metric]["value"]


def gate(facts):
    assert len(facts["gates"]) == 1
    assert facts["passed"] == facts["gates"][0]["passed"]
    return facts["gates"][0]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_scored_by_its_metrics_with_intervals_and_compared(make, task):
    work = make(task)
    facts = work.evaluate()
    assert [model["name"] for model in facts["models"]] == ["candidate", "linear", "prior"]
    for model in facts["models"]:
        assert set(model["metrics"]) == set(METRICS[task])
        for score in model["metrics"].values():
            assert score["low"] <= score["value"] <= score["high"]
    first = METRICS[task][0]
    against_prior = next(
        v for v in facts["versus"] if (v["other"], v["metric"]) == ("prior", first)
    )
    assert against_prior["better"] is True
    assert against_prior["difference"] == pytest.approx(
        value(facts, "candidate", first) - value(facts, "prior", first)
    )
    assert facts["window"]["rows"] == 500
    assert (facts["looks"], facts["reused"], facts["passed"]) == (1, False, True)


@pytest.mark.parametrize("task", TASKS)
def test_the_scores_are_scikit_learns_of_the_test_window_alone(make, task):
    work = make(task)
    facts, test = work.evaluate(), work.table("test")
    labels = test["y"].to_numpy()
    predicted = Model.load(work.candidate()).predict(test)
    if task == "regression":
        expected = {
            "rmse": metrics.root_mean_squared_error(labels, predicted),
            "r2": metrics.r2_score(labels, predicted),
        }
    elif task == "binary":
        expected = {
            "roc_auc": metrics.roc_auc_score(labels, predicted),
            "pr_auc": metrics.average_precision_score(labels, predicted),
            "log_loss": metrics.log_loss(labels, predicted),
        }
    else:
        expected = {
            "roc_auc": metrics.roc_auc_score(labels, predicted, multi_class="ovr"),
            "f1_macro": metrics.f1_score(labels, predicted.argmax(1), average="macro"),
            "log_loss": metrics.log_loss(labels, predicted),
        }
    for metric, wanted in expected.items():
        assert value(facts, "candidate", metric) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_baseline_learns_nothing_outside_of_the_train_window(make, task):
    work = make(task)
    test = work.table("test")

    def baseline():
        contract = work.project.contract
        found, _ = predict(contract, work.rows, test, work.candidate(), None)
        return found["linear"], found["prior"]

    before = baseline()
    work.change(
        "y",
        lambda t: pc.if_else(pc.equal(t["window"], "train"), t["y"], pa.scalar(0, t["y"].type)),
    )
    for was, now in zip(before, baseline(), strict=True):
        np.testing.assert_array_equal(was, now)


def test_the_prior_is_the_rate_of_the_train_window(make):
    work = make("multiclass")
    train, test = work.table("train"), work.table("test")
    labels = test["y"].to_numpy()
    shares = np.bincount(train["y"].to_numpy(), minlength=3) / len(train)
    loss = -np.log(shares[labels]).mean()
    assert value(work.evaluate(), "prior", "log_loss") == pytest.approx(loss, abs=1e-6)


def test_the_linear_baseline_is_worth_beating(work):
    facts = work.evaluate()
    # Its features are all that the label hangs on, so it comes close to what is possible.
    assert value(facts, "linear", "roc_auc") > 0.93
    assert value(facts, "linear", "log_loss") < value(facts, "prior", "log_loss") - 0.3


@pytest.mark.parametrize(
    ("text", "passed", "detail"),
    [
        ("metric: roc_auc, min: 0.9", True, "0.9"),
        ("metric: roc_auc, min: 0.999", False, "0.9"),
        ("metric: log_loss, max: 0.6", True, "0."),
        ("metric: log_loss, max: 0.1", False, "0."),
        ("metric: log_loss, versus: prior", True, "95 % interval [-"),
        ("metric: log_loss, versus: linear", False, "95 % interval [+"),
        ("metric: log_loss, versus: linear, tolerance: 0.5", True, "95 % interval [+"),
        ("metric: roc_auc, versus: prior", True, "95 % interval [+"),
        ("metric: log_loss, versus: champion", True, "there is no champion yet"),
    ],
)
def test_a_gate_decides_and_says_by_how_much_and_is_no_error(work, text, passed, detail):
    work.gates(text)
    judged = gate(work.evaluate())
    assert judged["passed"] is passed, judged
    assert detail in judged["detail"]


def test_the_same_candidate_is_not_looked_at_twice(work):
    first = work.evaluate()
    # Without its signature a candidate can not be loaded, so this look asks nobody.
    (work.candidate() / "signature.json").unlink()
    again = work.evaluate()
    assert again == first | {"reused": True}


def test_another_candidate_is_another_look(work):
    work.evaluate()
    assert work.evaluate(work.candidate("other", rows=100))["looks"] == 2
    assert work.evaluate()["looks"] == 2


def test_new_gates_are_asked_but_count_no_new_look(work):
    work.evaluate()
    work.gates("metric: roc_auc, min: 0.999")
    facts = work.evaluate()
    assert (facts["passed"], facts["reused"], facts["looks"]) == (False, False, 1)


def test_a_killed_look_is_taken_by_the_next_run_and_counted_once(work, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        work.evaluate()
    monkeypatch.undo()
    facts = work.evaluate()
    assert (facts["looks"], facts["reused"]) == (1, False)


@pytest.fixture(params=["folder", "s3"])
def records(request, tmp_path, monkeypatch):
    """Where the ledger lies."""
    if request.param == "folder":
        yield str(tmp_path / "evaluations")
        return
    with s3_server(monkeypatch, "records"):
        yield "s3://records/evaluations"


def test_looks_at_the_same_time_are_all_recorded(records):
    def look(at):
        Ledger(records, {"start": "x"}).add(f"candidate {at}", None, "how", {"at": at})

    assert Ledger(records, {"start": "x"}).looks() == 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(40)))
    ledger = Ledger(records, {"start": "x"})
    assert ledger.looks() == 40
    assert ledger.find("candidate 7", None, "how") == {"at": 7}
    assert ledger.find("candidate 7", None, "otherwise") is None
    assert Ledger(records, {"start": "y"}).looks() == 0


def test_a_look_is_not_taken_again_by_a_run_elsewhere_that_shares_the_record(
    work, records, monkeypatch
):
    monkeypatch.setenv("SLIPWAY_EVALUATIONS_URI", records)
    first = work.evaluate()
    assert (first["looks"], first["reused"]) == (1, False)
    assert not (work.project.home.path / "evaluations").exists()
    # Another pod has an empty home; without its signature a candidate can not be loaded, so this
    # look asks nobody.
    monkeypatch.setenv("SLIPWAY_HOME", str(work.folder / "elsewhere"))
    (work.candidate() / "signature.json").unlink()
    assert work.evaluate() == first | {"reused": True}


def test_a_record_of_looks_that_cannot_be_reached_stops_the_evaluation(work, monkeypatch):
    """An empty record would count looks from 1 again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "up")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("SLIPWAY_EVALUATIONS_URI", "s3://records/evaluations")
    with pytest.raises(UserError, match=r"s3://records/evaluations/.*cannot be read"):
        work.evaluate()


def test_the_champion_is_scored_beside_the_candidate(work):
    version = work.crown(rows=60)
    work.gates("metric: log_loss, versus: champion")
    facts = work.evaluate()
    assert model_of(facts, "champion")["version"] == version
    test = work.table("test")
    loss = metrics.log_loss(
        test["y"].to_numpy(), Model.load(work.folder / "champion").predict(test)
    )
    assert value(facts, "champion", "log_loss") == pytest.approx(loss, abs=1e-6)
    assert gate(facts)["passed"] is True
    assert "there is no champion" not in gate(facts)["detail"]


def test_a_worse_candidate_does_not_pass_the_champion(work):
    work.crown(rows=2000)
    work.gates("metric: log_loss, versus: champion, tolerance: 0.002")
    assert gate(work.evaluate(work.candidate("worse", rows=20)))["passed"] is False


def test_a_candidate_that_became_champion_keeps_its_result(work):
    first = work.evaluate()
    work.crown(rows=2000)
    again = work.evaluate()
    assert again == first | {"reused": True}


def test_a_champion_is_compared_with_itself_when_the_gates_are_new(work):
    work.crown(rows=2000)
    work.gates("metric: log_loss, versus: champion")
    facts = work.evaluate()
    assert gate(facts)["detail"].startswith("+0.0000, 95 % interval [+0.0000, +0.0000]")
    assert gate(facts)["passed"] is True


def test_a_new_champion_is_a_new_comparison_of_the_same_candidate(work):
    work.evaluate()
    work.crown(rows=60)
    facts = work.evaluate()
    assert (facts["reused"], facts["looks"]) == (False, 1)
    assert model_of(facts, "champion")


def test_a_champion_whose_feature_is_gone_is_named_not_skipped(work, capsys):
    version = work.crown(rows=500)
    text = work.project.path.read_text().replace("      kind: {type: string}\n", "")
    work.project.path.write_text(text)
    work.gates("metric: log_loss, versus: champion")
    pq.write_table(pq.read_table(work.rows).drop_columns("recent__kind"), work.rows)
    facts = work.evaluate()
    told = f"champion version {version} cannot be compared: the contract lacks its recent__kind"
    assert told in gate(facts)["detail"]
    assert told in capsys.readouterr().out
    assert [model["name"] for model in facts["models"]] == ["candidate", "linear", "prior"]


def test_a_champion_that_was_tampered_with_stops_the_step(work):
    work.crown()
    (Registry(work.project).champion().package / "model.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match=r"model\.onnx altered"):
        work.evaluate()


def test_slices_are_the_largest_values_on_the_projects_clocks(work):
    facts, test = work.evaluate(), work.table("test")
    shops = [item for item in facts["slices"] if item["by"] == "shop"]
    assert {item["value"] for item in shops} == {f"shop{at}" for at in range(5)}
    inside = pc.equal(test["shop"], "shop1").to_numpy()
    predicted = Model.load(work.candidate()).predict(test)
    found = next(item for item in shops if item["value"] == "shop1")
    labels = test["y"].to_numpy()
    assert found["rows"] == inside.sum() == 100
    assert found["label_mean"] == pytest.approx(labels[inside].mean())
    assert found["metrics"]["roc_auc"] == pytest.approx(
        metrics.roc_auc_score(labels[inside], predicted[inside])
    )
    # A row every two hours for six weeks: no hour of the day has 50 of them.
    months = [item["value"] for item in facts["slices"] if item["by"] == "month"]
    local = pc.strftime(test["at"].cast(pa.timestamp("s", "America/New_York")), format="%Y-%m")
    counts = {item["values"]: item["counts"] for item in pc.value_counts(local).to_pylist()}
    assert months == sorted(name for name, rows in counts.items() if rows >= 50)
    days = [item["value"] for item in facts["slices"] if item["by"] == "day_of_week"]
    assert days[:2] == ["1 Monday", "2 Tuesday"]
    assert not [item for item in facts["slices"] if item["by"] == "hour"]


def test_null_is_a_slice_too(work):
    work.change("shop", lambda t: pc.if_else(pc.equal(t["shop"], "shop1"), None, t["shop"]))
    shops = [item for item in work.evaluate()["slices"] if item["by"] == "shop"]
    assert None in {item["value"] for item in shops}


@pytest.mark.parametrize("task", TASKS)
def test_the_worst_rows_come_first_and_by_their_key(make, task):
    work = make(task)
    worst, test = work.evaluate()["worst"], work.table("test")
    assert len(worst) == 20
    assert [item["loss"] for item in worst] == sorted((i["loss"] for i in worst), reverse=True)
    row = test.filter(pc.equal(test["id"], worst[0]["key"]["id"]))
    predicted = Model.load(work.candidate()).predict(row)[0]
    label = row["y"][0].as_py()
    if task == "multiclass":
        assert worst[0]["label"] == "abc"[label]
        assert worst[0]["prediction"] == "abc"[predicted.argmax()]
        assert worst[0]["loss"] == pytest.approx(-math.log(predicted[label]), rel=1e-4)
    else:
        assert worst[0]["label"] == label
        assert worst[0]["prediction"] == pytest.approx(float(predicted), rel=1e-6)


def test_curves_are_thin_and_whole(work):
    curves = work.evaluate()["curves"]
    test = work.table("test")
    labels, predicted = test["y"].to_numpy(), Model.load(work.candidate()).predict(test)
    for model in ("candidate", "linear", "prior"):
        roc = curves["roc"][model]
        assert len(roc) <= 200
        assert (roc[0], roc[-1]) == ([0.0, 0.0], [1.0, 1.0])
        assert sum(point[2] for point in curves["calibration"][model]) == 500
    x, y = zip(*curves["roc"]["candidate"], strict=True)
    area = metrics.roc_auc_score(labels, predicted)
    assert np.trapezoid(y, x) == pytest.approx(area, abs=0.005)
    assert len(curves["calibration"]["prior"]) == 1
    assert sum(curves["histogram"]["counts"]) == 500


def test_a_window_of_one_class_has_no_ranking_and_fails_the_gate_on_it(work):
    work.change("y", lambda t: pc.if_else(pc.equal(t["window"], "test"), pa.scalar(1), t["y"]))
    work.gates("metric: roc_auc, min: 0.5")
    facts = work.evaluate()
    assert set(model_of(facts, "candidate")["metrics"]) == {"pr_auc", "log_loss", "brier"}
    assert gate(facts) == {
        "text": "roc_auc at least 0.5",
        "passed": False,
        "detail": "this test window does not allow the metric",
    }


def test_an_empty_test_window_stops_with_a_sentence(work):
    table = pq.read_table(work.rows)
    pq.write_table(table.filter(pc.not_equal(table["window"], "test")), work.rows)
    with pytest.raises(UserError, match="test window holds no labelled row"):
        work.evaluate()


def test_a_train_window_of_one_class_stops_with_a_sentence(work):
    work.candidate()
    work.change("y", lambda t: pc.if_else(pc.equal(t["window"], "train"), pa.scalar(0), t["y"]))
    with pytest.raises(UserError, match="All 2,000 labels of the train window are 0"):
        work.evaluate()


def test_a_candidate_that_predicts_no_numbers_is_refused_before_it_is_scored(work):
    folder = work.candidate()
    columns = len(Model.load(folder).encoder.columns)
    weights = np.full((columns, 1), np.nan, np.float32)
    write_onnx(folder / "model.onnx", weights, np.zeros(1, np.float32), "binary")
    with pytest.raises(UserError, match="predicts no number for 500 of 500 rows"):
        work.evaluate()


def test_a_category_with_very_many_values_does_not_blow_the_linear_model_up(monkeypatch):
    many = tuple(f"value {at}" for at in range(50_000))
    columns = (EncodedColumn("number", "number"), EncodedColumn("name", "name", "", many))
    encoder = Encoder((), columns, "UTC")
    rng = np.random.default_rng(0)
    codes = np.minimum(rng.geometric(0.01, 4000), 50_000)
    train = np.column_stack([rng.normal(size=4000), codes]).astype(np.float32)
    train[::7, 0] = np.nan
    assert baselines.Design(encoder, train).width == 2 + baselines.ONE_HOT
    monkeypatch.setattr(baselines, "CELLS", 402 * 1000)
    labels = (np.nan_to_num(train[:, 0]) + codes % 2 > 0).astype(np.int64)
    unseen = np.array([[0.0, 0.0], [np.nan, 49_999.0]], np.float32)
    found = baselines.linear("binary", 2, encoder, train, labels, unseen)
    assert ((found > 0) & (found < 1)).all()


def test_a_class_that_the_train_window_lacks_gets_no_probability(make):
    work = make("multiclass")
    work.candidate()
    work.change(
        "y",
        lambda t: pc.if_else(
            pc.and_(pc.equal(t["window"], "train"), pc.equal(t["y"], 2)), pa.scalar(1), t["y"]
        ),
    )
    facts = work.evaluate()
    assert np.isfinite(value(facts, "linear", "log_loss"))
