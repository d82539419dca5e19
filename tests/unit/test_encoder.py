"""Training and serving share one encoder; these are the ways in which they could differ."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.arrow import ARROW_TYPES
from slipway.contract import load_contract
from slipway.encoder import Encoder, input_features

CONTRACT = load_contract(Path(__file__).parents[2] / "project.yaml")
MOMENT = datetime(2013, 7, 1, 16, 30, tzinfo=UTC)  # 12:30 on a Monday in New York


def table(rows: int = 3, **columns: list[object]) -> pa.Table:
    """A raw table of the reference project: nulls, but for the given columns."""
    return pa.table(
        {
            feature.name: pa.array(
                columns.get(feature.name, [None] * rows), ARROW_TYPES[feature.type]
            )
            for feature in input_features(CONTRACT)
        }
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.fit(CONTRACT, table(carrier=["UA", "AA", None]))


def column(encoder: Encoder, matrix: np.ndarray, name: str) -> list[float]:
    return matrix[:, [item.name for item in encoder.columns].index(name)].tolist()


def test_categories_get_the_same_code_whatever_the_order_of_rows(encoder):
    other = Encoder.fit(CONTRACT, table(carrier=[None, "AA", "UA"]))
    assert other == encoder


def test_an_unknown_or_missing_category_is_code_zero_not_a_crash(encoder):
    matrix = encoder.encode(table(carrier=["UA", "XX", None]))
    assert column(encoder, matrix, "carrier") == [2.0, 0.0, 0.0]


def test_a_missing_number_stays_missing(encoder):
    matrix = encoder.encode(table(distance=[12.5, None, 0.0]))
    values = column(encoder, matrix, "distance")
    assert (values[0], values[2]) == (12.5, 0.0)
    assert np.isnan(values[1])


def test_a_timestamp_is_seen_on_the_projects_clock_on_both_sides_of_a_dst_change(encoder):
    spring = [
        datetime(2013, 3, 10, 6, 59, tzinfo=UTC),
        datetime(2013, 3, 10, 7, 1, tzinfo=UTC),
        MOMENT,
    ]
    matrix = encoder.encode(table(scheduled_at=spring))
    assert column(encoder, matrix, "scheduled_at.minute_of_day") == [119.0, 181.0, 750.0]
    assert column(encoder, matrix, "scheduled_at.day_of_week") == [7.0, 7.0, 1.0]


NUMBERS = st.none() | st.floats(width=32, allow_nan=False) | st.integers(-(2**53), 2**53)
# Arrow forgets daylight saving time in 2038; no training set reaches that far.
MOMENTS = st.none() | st.datetimes(
    datetime(1900, 1, 1),
    datetime(2037, 1, 1),
    timezones=st.just(UTC),
)


@given(
    rows=st.lists(
        st.tuples(st.none() | st.sampled_from(["UA", "AA", "", "ö"]), MOMENTS, NUMBERS),
        min_size=1,
        max_size=4,
    )
)
def test_rows_of_a_request_encode_like_rows_of_the_training_set(encoder, rows):
    carrier, scheduled_at, distance = (list(values) for values in zip(*rows, strict=True))
    offline = table(len(rows), carrier=carrier, scheduled_at=scheduled_at, distance=distance)
    np.testing.assert_array_equal(encoder.encode(offline), encoder.encode(offline.to_pydict()))


def test_a_value_of_another_type_is_refused(encoder):
    strange = table().set_column(0, "carrier", pa.array(["UA", "AA", "XX"])).to_pydict()
    with pytest.raises(ValueError, match="could not convert"):
        encoder.encode(strange | {"distance": ["far", "near", "here"]})
    text = table().drop_columns(["distance"]).append_column("distance", pa.array(["a", "b", "c"]))
    with pytest.raises(pa.ArrowInvalid):
        encoder.encode(text)


def test_a_missing_column_is_refused(encoder):
    with pytest.raises(KeyError, match="distance"):
        encoder.encode(table().drop_columns(["distance"]))


def test_a_stored_encoder_is_the_same_encoder(encoder):
    assert Encoder.from_json(encoder.to_json()) == encoder
