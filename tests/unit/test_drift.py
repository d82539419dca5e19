"""Drift measures: a moved feature must show, and one that has not moved must not."""

import numpy as np
import pyarrow as pa
import pytest

from slipway import drift
from slipway.encoder import EncodedColumn, Encoder, InputFeature


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_two_samples_of_one_distribution_do_not_raise_an_alarm(rng):
    before, after = rng.normal(size=50_000), rng.normal(size=20_000)
    assert drift.psi(before, after) < 0.002
    assert drift.ks(before, after) < 0.02


def test_a_shift_of_one_deviation_is_seen_at_its_known_size(rng):
    before, after = rng.normal(size=200_000), rng.normal(1, 1, size=200_000)
    # KS of N(0,1) and N(1,1) is 2 * Phi(1/2) - 1; the PSI of their densities is 1, of bins less.
    assert drift.ks(before, after) == pytest.approx(0.3829, abs=0.005)
    assert 0.8 < drift.psi(before, after) < 1.0


def test_psi_counts_by_hand():
    before = np.array([0.0] * 50 + [1.0] * 50)
    after = np.array([0.0] * 80 + [1.0] * 20)
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert drift.psi(before, after) == pytest.approx(expected)
    words = np.array(["a"] * 50 + ["b"] * 50), np.array(["a"] * 80 + ["b"] * 20)
    assert drift.psi_categories(*words) == pytest.approx(expected)


def test_values_that_turn_null_are_drift_even_if_the_rest_stays(rng):
    before = rng.normal(size=10_000)
    after = np.where(rng.random(10_000) < 0.5, np.nan, before)
    assert drift.psi(before, after) > 1
    assert drift.ks(before, after) < 0.03  # KS leaves nulls out


def test_a_column_that_is_null_throughout_has_no_ks_but_a_psi():
    nothing = np.full(100, np.nan)
    assert drift.ks(nothing, nothing) is None
    assert drift.psi(nothing, nothing) == 0
    assert drift.psi(nothing, np.zeros(100)) > 5


def test_an_empty_window_gives_no_number_instead_of_a_crash():
    nothing, something = np.empty(0), np.zeros(3)
    assert drift.psi(something, nothing) is None
    assert drift.psi(nothing, something) is None
    assert drift.ks(something, nothing) is None
    assert drift.psi_categories(something, nothing) is None


def test_a_category_never_seen_before_shows():
    assert drift.psi_categories(np.array(["a"] * 100), np.array(["a"] * 50 + ["new"] * 50)) > 0.3


def test_a_constant_feature_stays_at_zero():
    assert drift.psi(np.ones(100), np.ones(50)) == 0
    assert drift.ks(np.ones(100), np.ones(50)) == 0


def test_the_sample_is_the_same_at_each_call_and_keeps_order():
    table = pa.table({"n": range(1000)})
    first = drift.sample(table, 100)
    assert first.equals(drift.sample(table, 100))
    assert first["n"].to_pylist() == sorted(set(first["n"].to_pylist()))
    assert drift.sample(table, 2000) is table


def test_every_column_of_the_model_is_measured_under_its_name():
    feature = InputFeature("size", "float", "request", "keep")
    colour = InputFeature("colour", "string", "request", "keep")
    encoder = Encoder(
        (feature, colour),
        (EncodedColumn("size", "size"), EncodedColumn("colour", "colour", "", ("blue", "red"))),
        "UTC",
    )
    before = pa.table({"size": [1.0, 2.0, None], "colour": ["red", "blue", None]})
    after = pa.table({"size": [1.0, 2.0, None], "colour": ["red", "red", "green"]})
    size, colour = drift.feature_drift(encoder, before, after)
    assert size == {"feature": "size", "psi": 0, "ks": 0}
    assert colour["feature"] == "colour"
    assert colour["psi"] > 0.2
    assert colour["ks"] is None
