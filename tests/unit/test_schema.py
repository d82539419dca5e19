"""A client that sends something wrong gets one sentence with the field, never a wrong answer."""

import math
from datetime import UTC, datetime
from functools import partial

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from serving import v2
from serving.tensors import read_tensors
from slipway.schema import RequestError, Schema, request_schema, row_schema

SIGNATURE = {
    "features": [
        {
            "name": "origin",
            "type": "string",
            "source": "request",
            "on_null": "refuse",
            "range": [None, None],
        },
        {
            "name": "asked_for",
            "type": "timestamp",
            "source": "request",
            "on_null": "refuse",
            "range": [None, None],
        },
        {
            "name": "distance",
            "type": "float",
            "source": "request",
            "on_null": "refuse",
            "range": [1, 6000],
        },
        {
            "name": "stops",
            "type": "int",
            "source": "request",
            "on_null": "keep",
            "range": [0, None],
        },
        {
            "name": "charter",
            "type": "bool",
            "source": "request",
            "on_null": "refuse",
            "range": [None, None],
        },
        {
            "name": "weather__temp",
            "type": "float",
            "source": "weather",
            "on_null": "keep",
            "range": [None, None],
        },
    ],
    "entities": {
        "origin": {"type": "string", "description": ""},
        "tailnum": {"type": "string", "description": "The aircraft"},
    },
}
GOOD = {
    "origin": "JFK",
    "asked_for": "2013-11-05T18:00:00-05:00",
    "distance": 1400.5,
    "stops": None,
    "charter": False,
    "tailnum": "N14228",
}


@pytest.fixture
def schema():
    return request_schema(SIGNATURE)


def instances(*rows):
    return {"instances": list(rows)}


def tensors(count=1, **changes):
    kinds = {"distance": "FP64", "stops": "INT64", "charter": "BOOL"}
    found = [
        {
            "name": name,
            "datatype": kinds.get(name, "BYTES"),
            "shape": [count],
            "data": [value] * count,
        }
        for name, value in GOOD.items()
    ]
    return {"inputs": [tensor | changes.get(tensor["name"], {}) for tensor in found]}


def from_tensors(schema, body):
    return read_tensors(schema, v2.parse(body, b"").tensors)


def refusal(read, body):
    with pytest.raises(RequestError) as caught:
        read(body)
    assert caught.value.status == 400
    return caught.value.message


def test_a_client_sends_request_features_and_entity_keys_and_no_online_feature(schema):
    assert [field.name for field in schema.fields] == list(GOOD)


def test_the_predictor_takes_every_raw_feature_in_the_order_of_the_signature():
    names = [field.name for field in row_schema(SIGNATURE).fields]
    assert names == ["origin", "asked_for", "distance", "stops", "charter", "weather__temp"]


def test_both_protocols_read_the_same_values(schema):
    by_name = schema.from_instances(instances(GOOD, GOOD))
    by_order = schema.from_instances(instances(list(GOOD.values()), list(GOOD.values())))
    assert by_name == by_order == from_tensors(schema, tensors(2))
    assert by_name["asked_for"] == [datetime(2013, 11, 5, 23, tzinfo=UTC)] * 2
    assert by_name["distance"] == [1400.5] * 2
    assert by_name["stops"] == [None] * 2


def test_a_column_of_one_is_read_like_a_list(schema):
    nested = {"shape": [2, 1], "data": [["JFK"], ["JFK"]]}
    flat = {"shape": [2, 1], "data": ["JFK", "JFK"]}
    expected = from_tensors(schema, tensors(2))
    assert from_tensors(schema, tensors(2, origin=nested)) == expected
    assert from_tensors(schema, tensors(2, origin=flat)) == expected


def test_an_integer_that_a_data_frame_made_a_float_is_taken(schema):
    [stops] = schema.from_instances(instances(GOOD | {"stops": 2.0}))["stops"]
    assert stops == 2
    assert type(stops) is int


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("origin", 7, "a string, got 7."),
        ("origin", None, "a string, got null."),
        ("distance", "far", "a number of 32 bits from 1 to 6000, got 'far'."),
        ("distance", True, "a number of 32 bits from 1 to 6000, got True."),
        ("distance", 0.5, "got 0.5."),
        ("distance", 6001, "got 6001."),
        ("distance", math.nan, "got nan."),
        ("distance", math.inf, "got inf."),
        ("distance", [1], "got [1]."),
        ("distance", {"miles": 1}, "got {'miles': 1}."),
        ("stops", 1.5, "an integer of 64 bits from 0 or null, got 1.5."),
        ("stops", -1, "got -1."),
        ("stops", 2**63, "got 9223372036854775808."),
        ("stops", True, "got True."),
        ("charter", 1, "true or false, got 1."),
        ("asked_for", "tomorrow", "a time with its offset"),
        ("asked_for", "2013-11-05T18:00:00", "a time with its offset"),
        ("asked_for", "9999-12-31T23:59:59-14:00", "a time with its offset"),
        ("asked_for", 1383692400, "a time with its offset"),
        ("tailnum", 3, "a string or null, got 3."),
        ("tailnum", "N" * 500, None),
        ("tailnum", None, None),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_what_is_expected_and_what_came(
    schema, field, value, words
):
    bad = instances(GOOD, GOOD | {field: value})
    tensor = tensors(2, **{field: {"data": [GOOD[field], value]}})
    if words is None:
        assert schema.from_instances(bad) == from_tensors(schema, tensor)
        return
    message = refusal(schema.from_instances, bad)
    assert message.startswith(f"instances[1].{field}: expected ")
    assert words in message
    message = refusal(partial(from_tensors, schema), tensor)
    assert message.startswith(f"inputs.{field}.data[1]: expected ")
    assert words in message


def test_what_a_client_sent_is_shown_short(schema):
    message = refusal(schema.from_instances, instances(GOOD | {"distance": "x" * 10_000}))
    assert len(message) < 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "body: expected a JSON object, got []."),
        (None, "body: expected a JSON object, got null."),
        ({}, "instances: expected a list of rows, but it is missing."),
        ({"instance": [GOOD]}, "instances: expected a list of rows, but it is missing."),
        ({"instances": GOOD}, "instances: expected a list of rows, got {"),
        ({"instances": []}, "instances: expected at least one row, got an empty list."),
        (instances("JFK"), "instances[0]: expected an object or a list, got 'JFK'."),
        (instances(GOOD, [1, 2]), "instances[1]: expected 6 values in the order origin, asked_for"),
        (instances(GOOD, {}), "instances[1]: 'asked_for' is missing, 'charter' is missing"),
        (instances(GOOD | {"origins": "JFK"}), "instances[0]: 'origins' is not a field; expected"),
    ],
)
def test_a_malformed_v1_request_is_refused(schema, body, words):
    assert words in refusal(schema.from_instances, body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [2]}, "inputs.stops.data: expected 2 values as in its shape, got 1."),
        ({"shape": []}, "inputs.stops.shape: expected [rows] or [rows, 1], got []."),
        ({"shape": [1, 2]}, "inputs.stops.shape"),
        ({"shape": [-1]}, "inputs.stops.shape"),
        ({"shape": [True]}, "inputs.stops.shape"),
        ({"shape": [0], "data": []}, "inputs.stops.shape"),
        ({"shape": "1"}, "inputs.stops.shape: expected a list like [1], got '1'."),
        ({"shape": [2], "data": [1, 2]}, "got 1 in 'origin' and 2 in 'stops'."),
        ({"shape": [1, 1], "data": [[1, 2]]}, "inputs.stops.data[0]"),
        ({"datatype": "BYTES"}, "inputs.stops.datatype: expected INT64 or INT32, got 'BYTES'."),
        ({"data": None}, "inputs.stops.data: expected a list of values, got null."),
        ({"name": "origin"}, "there is a second tensor 'origin'."),
        ({"name": "stop"}, "inputs: 'stops' is missing, 'stop' is not a field; expected"),
        ({"name": None}, "inputs[3].name: expected a string, got null."),
    ],
)
def test_a_malformed_v2_request_is_refused(schema, change, words):
    assert words in refusal(partial(from_tensors, schema), tensors(stops=change))


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["2013-11-05T18:00:00Z", "2013-11-05"]),
    st.sampled_from([0, 1, 6000, 6000.0, 2**63 - 1, 2**63, -(2**63), 3.4e38, 3.5e38]),
    st.lists(st.integers(), max_size=2),
)


@given(name=st.sampled_from([n for n in GOOD if n != "asked_for"]), value=ANYTHING)
def test_the_published_json_schema_accepts_what_the_server_accepts(name, value):
    schema = request_schema(SIGNATURE)
    body = instances(GOOD | {name: value})
    published = Draft202012Validator(schema.json_schema(), format_checker=FormatChecker())
    try:
        schema.from_instances(body)
    except RequestError:
        assert not published.is_valid(body)
    else:
        assert published.is_valid(body)


@given(st.recursive(ANYTHING, lambda inner: st.dictionaries(st.text(max_size=9), inner)))
def test_no_json_makes_the_server_fail_instead_of_refuse(value):
    schema: Schema = request_schema(SIGNATURE)
    for body in (value, {"instances": value}, {"instances": [value]}, {"inputs": [value]}):
        try:
            parsed = orjson.loads(orjson.dumps(body))
        except (orjson.JSONEncodeError, TypeError):
            continue
        for read in (schema.from_instances, partial(from_tensors, schema)):
            with pytest.raises(RequestError):
                read(parsed)
