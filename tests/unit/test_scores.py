"""Scores equal scikit-learn's, on the rows and on every resample."""

import numpy as np
import pytest
from sklearn import metrics

from slipway.contract.checks import METRICS
from slipway.scores import interval, resampled, row_losses, scores

RNG = np.random.default_rng(1)
ROWS = 400
BINARY = RNG.integers(0, 2, ROWS)
# Rounded, so that there are ties.
CHANCES = np.round(np.clip(BINARY * 0.3 + RNG.random(ROWS) * 0.7, 0.01, 0.99), 2)
CLASSES = RNG.integers(0, 3, ROWS)
SHARES = RNG.dirichlet([1, 1, 1], ROWS) * 0.7 + np.eye(3)[CLASSES] * 0.3
VALUES = RNG.normal(10, 3, ROWS)
GUESSES = VALUES + RNG.normal(0, 1, ROWS)


def expected(task, labels, predictions):
    if task == "binary":
        return {
            "roc_auc": metrics.roc_auc_score(labels, predictions),
            "pr_auc": metrics.average_precision_score(labels, predictions),
            "log_loss": metrics.log_loss(labels, predictions),
            "brier": metrics.brier_score_loss(labels, predictions),
        }
    if task == "multiclass":
        chosen = predictions.argmax(1)
        return {
            "roc_auc": metrics.roc_auc_score(labels, predictions, multi_class="ovr"),
            "log_loss": metrics.log_loss(labels, predictions),
            "accuracy": metrics.accuracy_score(labels, chosen),
            "f1_macro": metrics.f1_score(labels, chosen, average="macro"),
            "brier": ((predictions - np.eye(3)[labels]) ** 2).sum(1).mean(),
        }
    return {
        "rmse": metrics.root_mean_squared_error(labels, predictions),
        "mae": metrics.mean_absolute_error(labels, predictions),
        "r2": metrics.r2_score(labels, predictions),
    }


CASES = [
    ("binary", BINARY, CHANCES),
    ("multiclass", CLASSES, SHARES),
    ("regression", VALUES, GUESSES),
]


@pytest.mark.parametrize(("task", "labels", "predictions"), CASES)
def test_every_metric_of_the_contract_is_scikit_learns(task, labels, predictions):
    found = scores(task, labels, predictions)
    assert set(found) == set(METRICS[task])
    assert found == pytest.approx(expected(task, labels, predictions), abs=1e-12)


@pytest.mark.parametrize(("task", "labels", "predictions"), CASES)
def test_a_resample_scores_as_the_rows_that_it_drew(task, labels, predictions):
    found = resampled(task, labels, {"model": predictions}, samples=30, seed=5)["model"]
    generator = np.random.default_rng(5)
    for sample in range(30):
        drawn = generator.integers(0, ROWS, ROWS)
        wanted = expected(task, labels[drawn], predictions[drawn])
        assert {m: v[sample] for m, v in found.items()} == pytest.approx(wanted, abs=1e-9)


def test_models_are_compared_on_the_same_resamples():
    found = resampled("binary", BINARY, {"a": CHANCES, "b": CHANCES}, samples=20)
    np.testing.assert_array_equal(found["a"]["roc_auc"], found["b"]["roc_auc"])


def test_an_auc_of_one_class_does_not_exist_instead_of_being_zero():
    found = scores("binary", np.ones(4), np.array([0.1, 0.2, 0.3, 0.4]))
    assert np.isnan(found["roc_auc"])
    assert np.isfinite(found["log_loss"])


def test_an_interval_holds_the_value_it_is_of():
    found = resampled("binary", BINARY, {"model": CHANCES}, samples=300)["model"]["roc_auc"]
    low, high = interval(found)
    assert low < scores("binary", BINARY, CHANCES)["roc_auc"] < high


def test_an_impossible_certainty_is_a_finite_loss():
    assert np.isfinite(row_losses("binary", np.array([1.0]), np.array([0.0], np.float32))).all()
