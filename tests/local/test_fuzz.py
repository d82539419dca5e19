"""No input takes the server down, hangs it, or gets an answer that is not a clear refusal.

`make fuzz` runs the same for longer, led by the code that an input reaches.
"""

import json
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from serving.endpoint import HOST
from tests.fuzz import grpc_calls, judge, mutate
from tests.fuzz.grpc_calls import Channel
from tests.fuzz.messages import DEADLINE, Request
from tests.fuzz.models import KINDS, NUMBERS, write_kinds, write_numbers
from tests.fuzz.process import predictor
from tests.fuzz.target import Target, valid
from tests.fuzz.wire import Wire, exchange, send_bytes

CORPUS = sorted((Path(__file__).parent / "fuzz_corpus").iterdir())
GROWTH = 8 * 2**20
"""Bytes that a server may hold more after thousands of inputs."""

pytestmark = pytest.mark.local


def fuzz(inputs, **drawn):
    """The same inputs in every run. A request that fails is left in a file that the error names."""
    profile = settings(
        max_examples=inputs,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: profile(given(**drawn)(test))()


RANDOM = st.randoms(use_true_random=True)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    packages = {
        KINDS: write_kinds(folder / KINDS),
        NUMBERS: write_numbers(folder / NUMBERS),
    }
    with (
        predictor(KINDS, packages[KINDS], folder) as kinds,
        predictor(NUMBERS, packages[NUMBERS], folder) as numbers,
    ):
        yield {KINDS: kinds, NUMBERS: numbers}


@pytest.fixture(scope="module", params=[KINDS, NUMBERS])
def server(request, servers):
    return servers[request.param]


@pytest.fixture
def target(server):
    """The server, proven to answer what is right, and looked at after a test's inputs."""
    folder = server.folder
    right = valid(folder / server.name)
    target = Target(server.name, Wire(server.http).ask, right, folder / "found")
    for body in (target.valid.v1, target.valid.v1_lists):
        assert target.v1(json.dumps(body).encode()).status == 200
    assert target.v2(json.dumps(target.valid.v2).encode()).status == 200
    assert target.binary(*whole(target.valid)).status == 200
    target.statuses.clear()
    before = len(server.log.read_text())
    yield target
    server.check()
    said = server.log.read_text()[before:]
    assert "Traceback" not in said, said[:2000]
    assert Wire(server.http).ask(Request("GET", "/v2/health/ready")).status == 200
    channel = Channel(server.grpc_address)
    message = grpc_calls.typed(server.name, target.valid.v2).SerializeToString()
    assert channel.ask(message) == grpc.StatusCode.OK
    channel.close()


def whole(right):
    """A right body with binary tensors, and the size of its JSON part."""
    head = json.dumps(right.binary_head).encode()
    return b"%d" % len(head), head + b"".join(right.binary_parts)


def both_passed_and_refused(statuses, inputs):
    """A fault that nothing survives would only ever reach the first check."""
    assert sum(statuses.values()) >= inputs
    assert statuses[200] >= inputs / 50, statuses
    assert statuses[400] >= inputs / 5, statuses


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error": "The server failed."}'),
        (400, b'{"error": "ValueError: invalid literal for int()."}'),
        (400, b'{"error": "Traceback (most recent call last)."}'),
        (400, b'{"error": "Two\\nlines."}'),
        (400, b'{"error": ""}'),
        (400, b'{"detail": "Not found."}'),
        (400, b"Bad Request"),
        (200, b'{"predictions": [NaN]}'),
    ],
)
def test_an_answer_that_must_not_be_is_seen(status, body):
    with pytest.raises((AssertionError, ValueError)):
        judge.rest(status, "application/json", body, b"sent")


def test_json_of_the_v1_protocol(target):
    @fuzz(900, random=RANDOM)
    def _(random):
        body = target.valid.v1 if random.randrange(2) else target.valid.v1_lists
        target.v1(mutate.json_body(random, body))

    both_passed_and_refused(target.statuses, 900)


def test_json_of_the_v2_protocol(target):
    @fuzz(900, random=RANDOM)
    def _(random):
        target.v2(mutate.json_body(random, target.valid.v2))

    both_passed_and_refused(target.statuses, 900)


def test_binary_tensors_of_the_v2_protocol(target):
    @fuzz(900, random=RANDOM)
    def _(random):
        length, body = mutate.binary_body(
            random, target.valid.binary_head, target.valid.binary_parts
        )
        target.binary(length, body)

    both_passed_and_refused(target.statuses, 900)


def test_paths_methods_and_headers(target, server):
    version = json.loads(target.ask(Request("GET", f"/v2/models/{server.name}")).body)["versions"]

    @fuzz(300, random=RANDOM)
    def _(random):
        path = mutate.request_path(random, server.name, version[0])
        method = random.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
        body = random.choice([b"", b"{}", b"[]", json.dumps(target.valid.v1).encode()])
        request = Request(method, path, body, mutate.headers(random))
        if method == "HEAD":
            assert target.transport(request).status in {200} | judge.MEANT
        else:
            target.ask(request)

    assert {200, 404, 405} <= target.statuses.keys(), target.statuses


def test_any_bytes_on_a_socket(target, server):
    right = mutate.raw_requests(server.name, json.dumps(target.valid.v1).encode())
    answered = []

    @fuzz(250, random=RANDOM)
    def _(random):
        data = mutate.raw(random, random.choice(right))
        cut = random.randrange(len(data) + 1)
        answers = send_bytes(server.http, data[:cut], data[cut:])
        answered.append(len(answers))
        for answer in answers:
            if answer.status != 100 and (answer.body or answer.status < 400):
                judge.rest(answer.status, answer.headers["content-type"], answer.body, data)

    assert sum(count > 0 for count in answered) >= 100
    for data in right:
        pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
        [*_, answer] = send_bytes(server.http, *pieces)
        assert answer.status == 200, data


def test_grpc_messages(target, server):
    channel = Channel(server.grpc_address)
    right = [
        grpc_calls.typed(server.name, target.valid.v2),
        grpc_calls.raw(server.name, target.valid.v2, target.valid.binary_parts),
    ]
    for message in right:
        assert channel.ask(message.SerializeToString()) == grpc.StatusCode.OK
    codes = Counter()

    @fuzz(500, random=RANDOM)
    def _(random):
        codes[channel.ask(grpc_calls.wrong(random, random.choice(right)))] += 1

    channel.close()
    assert codes[grpc.StatusCode.OK] >= 10, codes
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] >= 100, codes


def test_any_bytes_on_a_grpc_connection(target, server):
    message = grpc_calls.typed(server.name, target.valid.v2).SerializeToString()
    right = grpc_calls.connection(message)
    lengths = set()

    @fuzz(250, random=RANDOM)
    def _(random):
        data = grpc_calls.wrong_connection(random, right)
        cut = random.randrange(len(data) + 1)
        lengths.add(len(exchange(server.grpc, data[:cut], data[cut:])))

    assert len(lengths) > 3  # some were answered, others refused in several ways
    with socket.create_connection((HOST, server.grpc), timeout=DEADLINE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in right:
            for at in range(0, len(data), 7):
                connection.sendall(data[at : at + 7])
        received = b""
        while received.count(b"prediction") < 2:
            received += connection.recv(2**16)


TEXTS = st.text(max_size=8)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    datetime.isoformat
)
GOOD = {
    "color": TEXTS,
    "note": st.none() | TEXTS,
    "at": MOMENTS,
    "size": st.floats(0, 1000) | st.integers(0, 1000),
    "weight": st.none() | st.floats(-1e9, 1e9),
    "count": st.none() | st.integers(-(2**63), 2**63 - 1) | st.just(7.0),
    "stars": st.integers(1, 5),
    "fresh": st.booleans(),
}
OTHERS = st.sampled_from([[], {}, [1], {"a": 1}, 2**64, "\0"])
BAD = {
    "color": st.none() | st.integers() | st.booleans() | OTHERS.filter(lambda v: v != "\0"),
    "note": st.integers() | OTHERS.filter(lambda v: v != "\0"),
    "at": st.none() | TEXTS | st.just("2024-03-01T00:00:00") | st.integers() | OTHERS,
    "size": st.none() | st.floats(max_value=-0.1, allow_infinity=False) | TEXTS | OTHERS,
    "weight": st.booleans() | TEXTS | st.just(3.5e38) | OTHERS.filter(lambda v: v != 2**64),
    "count": st.booleans() | TEXTS | st.just(0.5) | OTHERS,
    "stars": st.none() | st.sampled_from([0, 6, 2.5, -(2**63)]) | TEXTS | OTHERS,
    "fresh": st.none() | st.integers(0, 1) | TEXTS | OTHERS,
}


@pytest.mark.parametrize("server", [KINDS], indirect=True)
def test_the_protocols_agree_on_every_row_and_a_refusal_names_its_field(target):
    datatypes = {item["name"]: item["datatype"] for item in target.valid.v2["inputs"]}

    @fuzz(150, rows=st.lists(st.fixed_dictionaries(GOOD), min_size=1, max_size=3), data=st.data())
    def _(rows, data):
        wrong = data.draw(st.none() | st.sampled_from(sorted(BAD)))
        if wrong:
            rows[-1] = rows[-1] | {wrong: data.draw(BAD[wrong])}
        columns = {name: [row[name] for row in rows] for name in GOOD}
        tensors = [
            {"name": name, "datatype": datatypes[name], "shape": [len(rows)], "data": values}
            for name, values in columns.items()
        ]
        nested = [
            item | {"shape": [len(rows), 1], "data": [[value] for value in item["data"]]}
            for item in reversed(tensors)
        ]
        answers = [
            target.v1(json.dumps({"instances": rows}).encode()),
            target.v1(
                json.dumps({"instances": [[row[name] for name in GOOD] for row in rows]}).encode()
            ),
            target.v2(json.dumps({"inputs": tensors}).encode()),
            target.v2(json.dumps({"inputs": nested}).encode()),
        ]
        bodies = [json.loads(answer.body) for answer in answers]
        expected = {400 if wrong else 200}
        assert {answer.status for answer in answers} == expected, (wrong, rows, bodies)
        if wrong:
            assert all(f".{wrong}" in body["error"] for body in bodies), bodies
        else:
            found = [body.get("predictions") or body["outputs"][0]["data"] for body in bodies]
            assert all(predictions == found[0] for predictions in found)
            assert len(found[0]) == len(rows)

    both_passed_and_refused(target.statuses, 600)


def test_memory_stays_flat(target, server):
    channel = Channel(server.grpc_address)
    message = grpc_calls.typed(server.name, target.valid.v2)

    def send(inputs):
        for seed in inputs:
            random = Random(seed)
            target.v1(mutate.json_body(random, target.valid.v1))
            target.v2(mutate.json_body(random, target.valid.v2))
            right = target.valid
            target.binary(*mutate.binary_body(random, right.binary_head, right.binary_parts))
            channel.ask(grpc_calls.wrong(random, message))

    send(range(300))
    before = server.memory()
    send(range(300, 800))
    assert server.memory() - before < GROWTH
    channel.close()


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_what_once_broke_it_is_refused(servers, file):
    data = file.read_bytes()
    server = servers[NUMBERS if NUMBERS.encode() in data[:100] else KINDS]
    before = len(server.log.read_text())
    if file.suffix == ".http":
        answers = send_bytes(server.http, data)
        assert answers
        for answer in answers:
            judge.rest(answer.status, answer.headers["content-type"], answer.body, data)
    elif file.suffix == ".grpc":
        channel = Channel(server.grpc_address)
        channel.ask(data)
        channel.close()
    else:
        exchange(server.grpc, data)
    server.check()
    assert "Traceback" not in server.log.read_text()[before:]
