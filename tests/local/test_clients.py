"""Clients that others wrote, and commands as people type them, work against the server as it is."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from slipway.files import read_json
from tests.fuzz.models import KINDS, NUMBERS, write_kinds, write_numbers
from tests.fuzz.process import predictor
from tests.fuzz.target import valid

CLIENTS = Path(__file__).parent / "clients"
PREDICT, INFER = f"/v1/models/{KINDS}:predict", f"/v2/models/{KINDS}/infer"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
EXAMPLES = 10
"""Requests that schemathesis makes for each path, right ones and wrong ones each."""

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    with predictor(KINDS, write_kinds(folder / KINDS), folder) as server:
        yield server


@pytest.fixture(scope="module")
def right(server):
    return valid(server.folder / KINDS)


@pytest.fixture(scope="module")
def expected(server, right):
    """The predictions of the rows that every client sends, as the package has them."""
    reference = read_json(server.folder / KINDS / "reference.json")
    rows = [list(row) for row in zip(*reference["rows"].values(), strict=True)]
    return [reference["predictions"][rows.index(row)] for row in right.v1_lists["instances"]]


# Clients of KServe, Triton and gRPC


@pytest.mark.parametrize(
    ("command", "ways"),
    [
        (["kserve_rest.py", "{url}", KINDS], 3),
        (["kserve_grpc.py", "{grpc}", KINDS], 2),
        (["triton.py", "http", "{http}", KINDS], 4),
        (["triton.py", "grpc", "{grpc}", KINDS], 2),
        (["reflection.py", "{grpc}", KINDS], 1),
    ],
    ids=["kserve REST", "kserve gRPC", "triton HTTP", "triton gRPC", "reflection and health"],
)
def test_a_client_of_others_gets_the_models_predictions(server, right, expected, command, ways):
    # Each in a process of its own: their protocol buffers have the same names and clash in one.
    http = server.url.removeprefix("http://")
    filled = [part.format(url=server.url, http=http, grpc=server.grpc_address) for part in command]
    done = subprocess.run(
        [sys.executable, str(CLIENTS / filled[0]), *filled[1:]],
        input=json.dumps(right.v1 | right.v2),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr[-2000:]}\n{server.log.read_text()[-2000:]}"
    found = json.loads(done.stdout)
    assert len(found) == ways
    for way, predictions in found.items():
        assert predictions == pytest.approx(expected, abs=1e-7), way


# curl as people type it


def curl(*options):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "10", *options],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["-d", "{body}"],
        ["--json", "{body}"],
        ["-d", "@{file}"],
        ["--data-binary", "@{file}"],
        ["-H", "Content-Type: application/json; charset=utf-8", "-d", "{body}"],
        ["-H", "Content-Type:", "-d", "{body}"],
        ["-H", "Transfer-Encoding: chunked", "-d", "@{file}"],
        ["-H", "Expect: 100-continue", "--data-binary", "@{file}"],
        ["-X", "POST", "-T", "{file}"],
        ["--http1.0", "-d", "{body}"],
        ["--http2", "-d", "{body}"],
        ["-H", "Connection: close", "-d", "{body}"],
        ["-H", "Host: model.namespace.example.com", "-d", "{body}"],
        ["-L", "--compressed", "-d", "{body}"],
    ],
    ids=" ".join,
)
def test_curl_gets_predictions_however_it_is_typed(server, right, expected, options, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(right.v1, indent=2))
    filled = [part.replace("{body}", json.dumps(right.v1)) for part in options]
    filled = [part.replace("{file}", str(file)) for part in filled]
    for path, key in ((PREDICT, "predictions"), (PREDICT + "?a=b", "predictions")):
        answer = json.loads(curl(*filled, server.url + path))
        assert answer[key] == pytest.approx(expected, abs=1e-7)


def test_curl_gets_a_megabyte_of_rows_predicted(server, right, expected, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"instances": right.v1["instances"] * 3000}))
    assert file.stat().st_size > 2**20  # from here curl first asks whether it may send it
    for options in ([], ["-H", "Transfer-Encoding: chunked"]):
        body = curl("--data-binary", f"@{file}", *options, server.url + PREDICT)
        assert json.loads(body)["predictions"] == pytest.approx(expected * 3000, abs=1e-6)


def test_curl_keeps_its_connection_over_several_requests(server, right, expected):
    found = curl(
        "-w", "\n%{num_connects}\n", "-d", json.dumps(right.v1), *[server.url + PREDICT] * 3
    )
    lines = found.split()
    assert [json.loads(line)["predictions"] for line in lines[::2]] == [
        pytest.approx(expected, abs=1e-7)
    ] * 3
    assert lines[1::2] == [b"1", b"0", b"0"]


@pytest.mark.parametrize(
    ("options", "path", "status", "words"),
    [
        ([], PREDICT, 405, "expected POST, got GET"),
        (["-d", "{bad"], PREDICT, 400, "not valid JSON"),
        (["-d", "instances=1"], PREDICT, 400, "not valid JSON"),
        (["-d", ""], PREDICT, 400, "not valid JSON"),
        (["-F", "instances=1"], PREDICT, 400, "not valid JSON"),
        (["-X", "POST"], PREDICT, 400, "not valid JSON"),
        (["-d", "{}"], "/v1/models/nobody:predict", 404, "nobody"),
        (["-d", "{}"], "/predict", 404, "/predict"),
        (
            ["-H", "Content-Encoding: gzip", "--data-binary", "@{gzip}"],
            PREDICT,
            415,
            "uncompressed",
        ),
    ],
)
def test_curl_gets_a_sentence_for_a_mistake(server, options, path, status, words, tmp_path):
    zipped = tmp_path / "request.gz"
    zipped.write_bytes(gzip.compress(b"{}"))
    options = [part.replace("{gzip}", str(zipped)) for part in options]
    body, code = curl("-w", "\n%{http_code}", *options, server.url + path).rsplit(b"\n", 1)
    assert int(code) == status
    answer = json.loads(body)
    assert list(answer) == ["error"]
    assert words in answer["error"]


def test_curl_heads_have_no_body(server):
    for path in ("/v2/health/live", "/v2/health/ready", f"/v1/models/{KINDS}"):
        assert b" 200 OK" in curl("--head", server.url + path).splitlines()[0]


# The OpenAPI document


@pytest.fixture(scope="module")
def document(server):
    answer = httpx.get(f"{server.url}/openapi.json", trust_env=False)
    assert answer.status_code == 200
    return answer.json()


def test_the_openapi_document_is_one_and_its_examples_are_right(server, document):
    validate(document)
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for name, path in (("Rows", PREDICT), ("Tensors", INFER)):
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            validator = jsonschema_rs.Draft202012Validator(schema)
            assert schemas[name]["examples"]
            for example in schemas[name]["examples"]:
                validator.validate(example)
                assert client.post(path, json=example).status_code == 200


def test_the_openapi_document_says_exactly_which_rows_are_taken(document, right):
    schema = {"$ref": "#/components/schemas/Rows", "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema)
    row = right.v1["instances"][0]
    assert validator.is_valid({"instances": [row, list(row.values())]})
    wrong = [row | {"stars": 6}, row | {"fresh": 1}, row | {"more": 1}, list(row.values())[1:], {}]
    for instance in (*wrong, [*row.values(), 1]):
        assert not validator.is_valid({"instances": [instance]}), instance


def test_the_openapi_document_of_a_model_of_numbers_also_has_the_matrix(tmp_path):
    with predictor(NUMBERS, write_numbers(tmp_path / NUMBERS), tmp_path) as server:
        document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
        schema = {"$ref": "#/components/schemas/Tensors", "components": document["components"]}
        data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": data}]}
        jsonschema_rs.Draft202012Validator(schema).validate(body)
        answer = httpx.post(f"{server.url}/v2/models/{NUMBERS}/infer", json=body, trust_env=False)
    validate(document)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["shape"] == [2]


def test_schemathesis_finds_no_answer_that_the_openapi_document_does_not_tell(server):
    api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in api.get_all_operations()]
    asked = {(operation.method.upper(), operation.path) for operation in operations}
    assert {("POST", PREDICT), ("POST", INFER), ("GET", f"/v2/models/{KINDS}")} <= asked
    seen = set()
    for operation in operations:
        # Unloaded, every other path would only ever say so.
        if operation.path.endswith("/unload"):
            continue
        varied = operation.method == "post" or operation.path_parameters
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if varied else (None,)
        for mode in modes:
            seen |= conforming(operation, mode or GenerationMode.POSITIVE)
    assert {200, 400, 404} <= seen


def texts(value):
    """Every text in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def conforming(operation, mode):
    """The statuses of answers that are as the document says."""
    checks = list(CHECKS)
    if operation.path == PREDICT:
        # Here the document is exact: what it allows is predicted, and nothing else.
        checks += [positive_data_acceptance, negative_data_rejection]
    seen = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        # Of the first and the last year, which are not in every time zone, OpenAPI has no word.
        assume(not {"0001-", "9999-"} & {text[:5] for text in texts(case.body)})
        answer = case.call(timeout=10)
        case.validate_response(answer, checks=checks)
        seen.add(answer.status_code)

    run()
    return seen
