"""What an explanation says is what the model did: its numbers add up, under names clients know."""

import itertools
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_model import write_candidate

from components.train import torch_engine, xgboost_engine
from components.train.explainer import explain_booster, explain_network, xgboost_contributions
from components.train.export import export_booster
from components.train.job import Job
from serving.explain import Explainer
from slipway import shapley
from slipway.attribution import Attribution, as_predictions, in_unit
from slipway.contract import parse_contract
from slipway.encoder import Encoder
from slipway.errors import UserError
from slipway.files import sha256, write_json, write_text
from slipway.package import EXPLAINER, Model, make_signature
from slipway.schema import RequestError

pytestmark = pytest.mark.local
CONTRACT = """\
name: small
description: A made-up event.
sources:
  events: {{uri: events.csv, columns: {{id: {{type: int}}}}}}
tables:
  facts: {{sql: any.sql}}
entities:
  shop: {{type: string}}
views:
  recent:
    sql: any.sql
    entities: [shop]
    ttl: 6h
    features:
      mean: {{type: float}}
      kind: {{type: string}}
request:
  size: {{type: float}}
  opened_at: {{type: timestamp, parts: [hour, day_of_week]}}
target:
  sql: any.sql
  key: [id]
  event_timestamp: at
  label: y
  label_timestamp: known_at
  task: {task}
split: {{train: 6 months, validate: 2 months, test: 2 months}}
"""
TASKS = ("binary", "multiclass", "regression")
FEATURES = ["size", "opened_at", "recent__mean", "recent__kind"]
START = datetime(2024, 1, 1, tzinfo=UTC)
SETTINGS = {
    "torch": {
        "epochs": 8,
        "batch_size": 128,
        "hidden": [16, 8],
        "dropout": 0.1,
        "learning_rate": 0.01,
        "weight_decay": 0.01,
    },
    "xgboost": {
        "rounds": 12,
        "early_stopping_rounds": 12,
        "max_depth": 5,
        "learning_rate": 0.3,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "min_child_weight": 1.0,
    },
}


def contract_of(task):
    with_classes = "multiclass\n  classes: [a, b, c]"
    return parse_contract(CONTRACT.format(task=with_classes if task == "multiclass" else task))


def make_rows(task, count=1000, seed=0):
    """Rows with nulls in every online feature; the label hangs on all features, also jointly."""
    rng = np.random.default_rng(seed)
    size, mean = rng.normal(size=count), rng.normal(size=count)
    kind, hour, day = (rng.integers(0, n, count) for n in (4, 24, 7))
    score = size * (1 + (hour > 12)) - mean + np.array([-1.0, 0, 1, 2])[kind] + (day > 4)
    labels = {
        "binary": (score > 0).astype(np.int64),
        "multiclass": np.digitize(score, [-0.7, 1.0]).astype(np.int64),
        "regression": 50 + 10 * score,
    }
    at = [START + timedelta(days=int(d), hours=int(h)) for d, h in zip(day, hour, strict=True)]
    return pa.table(
        {
            "size": size,
            "opened_at": pa.array(at, pa.timestamp("us", "UTC")),
            "recent__mean": pa.array(mean, mask=rng.random(count) < 0.1),
            "recent__kind": pa.array(
                [f"kind{code}" for code in kind], mask=rng.random(count) < 0.1
            ),
            "y": labels[task],
        }
    )


class Alone:
    """A worker that nobody interrupts."""

    rank, world = 0, 1

    def restore(self):
        return None

    def report(self, step, loss, save):
        pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By engine and task: the folder of a model that the engine trained, and the model."""
    found = {}

    def get(engine, task) -> tuple[Path, Model]:
        if (engine, task) not in found:
            folder = tmp_path_factory.mktemp(f"{engine}-{task}")
            contract, rows = contract_of(task), make_rows(task)
            encoder = Encoder.fit(contract, rows)
            for window, some in (("train", rows), ("validate", make_rows(task, 300, seed=1))):
                np.save(folder / f"{window}_x.npy", encoder.encode(some))
                np.save(folder / f"{window}_y.npy", some["y"].to_numpy().astype(np.float32))
            categories = tuple(len(column.categories) for column in encoder.columns)
            classes = len(contract.target.classes or ())
            job = Job(engine, SETTINGS[engine], task, classes, categories, str(folder), 3, 1, False)
            {"torch": torch_engine, "xgboost": xgboost_engine}[engine].train(job, Alone(), folder)
            write_text(folder / "encoder.json", encoder.to_json())
            write_json(folder / "signature.json", make_signature(contract))
            found[engine, task] = folder, Model.load(folder)
        return found[engine, task]

    return get


def some_rows(task, count=80):
    rows = make_rows(task, count, seed=2).drop_columns("y")
    return {name: rows[name].to_pylist() for name in rows.column_names}


def outputs(answer):
    """`base` [outputs] and `explanations` [n, features, outputs] of an answer, as arrays."""
    base = answer["base"]
    if isinstance(base, dict):
        values = [[list(by.values()) for by in row.values()] for row in answer["explanations"]]
        return np.array(list(base.values())), np.array(values).transpose(0, 2, 1)
    values = [list(row.values()) for row in answer["explanations"]]
    return np.array([base]), np.array(values)[:, :, None]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("engine", ["xgboost", "torch"])
def test_base_and_contributions_add_up_to_the_models_own_answer(trained, engine, task):
    folder, model = trained(engine, task)
    columns = some_rows(task)
    answer = Explainer(folder, model).explain(columns)
    predictions = model.predict(columns)
    assert answer["predictions"] == predictions.tolist()
    base, values = outputs(answer)
    assert np.abs(values).max() > 0.1, "nothing is explained"
    told = base + values.sum(axis=1)
    np.testing.assert_allclose(told, in_unit(task, predictions), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(as_predictions(task, told), predictions, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("engine", "largest"), [("xgboost", 1e300), ("torch", 1e9)])
def test_any_row_adds_up_however_far_from_the_train_window(trained, engine, largest):
    folder, model = trained(engine, "binary")
    attribution = Attribution(folder, model)
    numbers = st.none() | st.floats(-largest, largest)
    row = st.tuples(
        numbers,
        st.none()
        | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        numbers,
        st.none() | st.sampled_from(["kind0", "kind3", "never seen", ""]),
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(row, min_size=1, max_size=5))
    def check(rows):
        columns = dict(zip(FEATURES, map(list, zip(*rows, strict=True)), strict=True))
        attribution.prove(columns)

    with np.errstate(over="ignore"):  # 1e300 is infinite in float32, which trees can take
        check()


def test_values_that_break_the_network_are_refused_not_answered_with_nan(trained):
    columns = some_rows("binary", 1) | {"size": [1e300]}
    explainer = Explainer(*trained("torch", "binary"))
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(RequestError, match="no finite prediction"),
    ):
        explainer.explain(columns)


@pytest.mark.parametrize("task", TASKS)
def test_trees_are_explained_as_xgboost_itself_explains_them(trained, tmp_path, task):
    folder, model = trained("xgboost", task)
    x, y = (np.load(folder / f"train_{kind}.npy") for kind in "xy")
    parameters = {"objective": xgboost_engine.OBJECTIVES[task][0], "max_depth": 9, "lambda": 0}
    if task == "multiclass":
        parameters["num_class"] = 3
    booster = xgboost.train(parameters, xgboost.DMatrix(x, y), num_boost_round=8)
    export_booster(booster, x.shape[1], task, tmp_path / "model.onnx")
    explain_booster(booster, x[:50], xgboost_contributions(booster, x[:50]), tmp_path / EXPLAINER)
    for name in ("encoder.json", "signature.json"):
        (tmp_path / name).write_text((folder / name).read_text())

    columns = some_rows(task)
    answer = Explainer(tmp_path, Model.load(tmp_path)).explain(columns)
    encoded = model.encoder.encode(columns)
    assert np.isnan(encoded).any(axis=1).sum() > 2, "rows with nulls were meant"
    expected = booster.predict(xgboost.DMatrix(encoded), pred_contribs=True, strict_shape=True)
    if task == "multiclass":
        expected = expected - expected.mean(axis=1, keepdims=True)
    base, values = outputs(answer)
    owner = [column.feature for column in model.encoder.columns]
    for at, name in enumerate(FEATURES):
        of_feature = [column for column, feature in enumerate(owner) if feature == name]
        assert len(of_feature) == (2 if name == "opened_at" else 1)
        own = expected[:, :, of_feature].sum(axis=2)
        np.testing.assert_allclose(values[:, at], own, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(base, expected[0, :, -1], rtol=1e-4, atol=1e-4)


def test_a_client_reads_the_names_and_the_scale_it_knows(trained):
    answer = Explainer(*trained("xgboost", "binary")).explain(some_rows("binary", 2))
    assert list(answer) == ["method", "unit", "base", "predictions", "explanations"]
    assert (answer["method"], answer["unit"]) == ("tree_shap", "log-odds")
    assert isinstance(answer["base"], float)
    assert [list(row) for row in answer["explanations"]] == [FEATURES, FEATURES]
    json.dumps(answer, allow_nan=False)

    answer = Explainer(*trained("torch", "multiclass")).explain(some_rows("multiclass", 1))
    assert (answer["method"], answer["unit"]) == ("permutation_shap", "centred log-probability")
    assert list(answer["base"]) == ["a", "b", "c"]
    [row] = answer["explanations"]
    assert {name: list(values) for name, values in row.items()} == dict.fromkeys("abc", FEATURES)
    json.dumps(answer, allow_nan=False)

    answer = Explainer(*trained("torch", "regression")).explain(some_rows("regression", 1))
    assert answer["unit"] == "the label's unit"


@pytest.mark.parametrize("engine", ["xgboost", "torch"])
def test_the_same_row_gets_the_same_explanation_alone_or_among_others(trained, engine):
    folder, model = trained(engine, "binary")
    columns = some_rows("binary", 5)
    _, together = Attribution(folder, model).explain(columns)
    again = Attribution(folder, model)
    np.testing.assert_array_equal(again.explain(columns)[1], together)
    last = {name: values[-1:] for name, values in columns.items()}
    np.testing.assert_allclose(again.explain(last)[1][0], together[-1], atol=1e-6)


def test_bounded_memory_changes_no_result(trained, monkeypatch):
    folder, model = trained("torch", "binary")
    columns = some_rows("binary", 3)
    _, at_once = Attribution(folder, model).explain(columns)
    monkeypatch.setattr(shapley, "ROWS_AT_ONCE", 1)
    _, walk_by_walk = Attribution(folder, model).explain(columns)
    np.testing.assert_allclose(walk_by_walk, at_once, atol=1e-6)


def test_sampling_gives_the_exact_shapley_values_of_a_linear_model(tmp_path):
    rows = make_rows("regression", 200)
    model = write_candidate(tmp_path, contract_of("regression"), rows)
    attribution = Attribution(tmp_path, model)
    columns = some_rows("regression")
    _, values = attribution.explain(columns)

    with np.load(tmp_path / EXPLAINER) as file:
        background = np.nan_to_num(file["background"])
    ones = np.eye(background.shape[1], dtype=np.float32)
    bias = model.predict_encoded(np.zeros_like(ones[:1]))
    weights = (model.predict_encoded(ones) - bias).astype(np.float64)
    encoded = np.nan_to_num(model.encoder.encode(columns))
    by_column = weights * (encoded - background.mean(axis=0, dtype=np.float64))
    size, hour, day, mean, kind = by_column.T
    expected = np.stack([size, hour + day, mean, kind], axis=1)
    np.testing.assert_allclose(values[:, :, 0], expected, atol=1e-3)  # of answers about 50


def test_sampling_comes_close_to_the_exact_shapley_values_of_a_network(trained):
    folder, model = trained("torch", "binary")
    columns = some_rows("binary", 10)
    _, values = Attribution(folder, model).explain(columns)
    with np.load(folder / EXPLAINER) as file:
        background = file["background"]
    owner = np.array([FEATURES.index(column.feature) for column in model.encoder.columns])

    def worth(row, known):
        rows = np.where(np.isin(owner, known), row, background)
        return in_unit("binary", model.predict_encoded(rows)).mean()

    exact = np.zeros(values.shape)
    for at, row in enumerate(model.encoder.encode(columns)):
        for feature in range(4):
            others = [other for other in range(4) if other != feature]
            for size in range(4):
                weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                for known in itertools.combinations(others, size):
                    gain = worth(row, (*known, feature)) - worth(row, known)
                    exact[at, feature, 0] += weight * gain
    error = np.abs(values - exact).mean() / np.abs(exact).mean()
    assert error < 0.05


def test_one_feature_alone_gets_all_of_the_difference():
    def answer(matrix):
        return (matrix.astype(np.float64) ** 2).sum(axis=1, keepdims=True)

    background = np.array([[0.0, 1.0], [2.0, 1.0]], np.float32)
    walks = shapley.Walks(np.array([0, 0]), background, answer)
    assert walks.base.tolist() == [3.0]
    found = walks.contributions(np.array([[3.0, 1.0]], np.float32))
    assert found.tolist() == [[[7.0]]]


def test_trees_without_a_split_explain_nothing(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    booster = xgboost.train({}, xgboost.DMatrix(x, np.full(50, 7.0)), num_boost_round=2)
    explain_booster(booster, x, xgboost_contributions(booster, x), tmp_path / EXPLAINER)
    with np.load(tmp_path / EXPLAINER) as file:
        arrays = {name: file[name] for name in file.files if name != "method"}
    paths = shapley.TreePaths(np.arange(3), **arrays)
    assert paths.base == pytest.approx([7.0])
    assert not paths.contributions(x).any()


def test_trees_whose_splits_are_not_understood_end_the_training(tmp_path):
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=300), rng.integers(0, 6, 300)].astype(np.float32)
    y = x[:, 0] + 3 * (x[:, 1] % 2)
    sets = xgboost.DMatrix(x, y, feature_types=["q", "c"], enable_categorical=True)
    booster = xgboost.train({"max_cat_to_onehot": 2}, sets, num_boost_round=5)
    expected = booster.predict(sets, pred_contribs=True, strict_shape=True)
    with pytest.raises(RuntimeError, match="explanations differ from the engine's"):
        explain_booster(booster, x, expected, tmp_path / EXPLAINER)
    assert not (tmp_path / EXPLAINER).exists()


def test_an_explainer_of_another_model_is_found_out(trained, tmp_path):
    folder, model = trained("xgboost", "binary")
    rows = some_rows("binary")
    assert Attribution(folder, model).prove(rows) < 1e-5
    x, y = (np.load(folder / f"train_{kind}.npy") for kind in "xy")
    other = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y), 2)
    explain_booster(other, x, xgboost_contributions(other, x), tmp_path / EXPLAINER)
    with pytest.raises(UserError, match="explanations differ from the model's answers"):
        Attribution(tmp_path, model).prove(rows)


def test_the_same_training_gives_the_same_bytes_without_pickle(trained, tmp_path):
    folder, _ = trained("torch", "binary")
    explain_network(np.load(folder / "train_x.npy"), tmp_path / EXPLAINER)
    assert sha256(tmp_path / EXPLAINER) == sha256(folder / EXPLAINER)
    with np.load(tmp_path / EXPLAINER, allow_pickle=False) as file:
        assert file["background"].shape == (64, 5)
        assert str(file["method"]) == "permutation_shap"
