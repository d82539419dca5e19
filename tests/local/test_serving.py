"""What a client gets from the running endpoint: right answers, or one clear sentence."""

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from openapi_spec_validator import validate
from small_model import write_package

from feature_repo.build import build
from feature_repo.materialize import materialize
from serving.endpoint import free_port, serving
from serving.metrics import Metrics
from serving.online import OnlineFeatures
from serving.replay import offline_rows, replay
from slipway import names
from slipway.data import DataStore, SourceData
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.package import Model, digest, seal
from slipway.project import Project
from slipway.schema import request_schema
from slipway.sources import read_source

ROOT = Path(__file__).parents[2]
MOMENT = datetime(2013, 11, 15, 17, tzinfo=UTC)
NAME = "flight-delay"
PREDICT, INFER = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
ROW = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "IAH",
    "tailnum": "N14228",
    "scheduled_at": "2013-11-15T14:00:00-05:00",
    "distance": 1400,
}
pytestmark = pytest.mark.local


@dataclass(frozen=True)
class Flights:
    """The real flights, built into features, and a model of them."""

    project: Project
    version: str
    training_set: Path
    package: Path
    store: Path
    """The online store as of `MOMENT`."""

    @property
    def views(self):
        return self.project.contract.views

    def asked_after(self, moment, rows):
        table = pq.read_table(self.training_set / "training_set.parquet")
        asked = table[self.project.contract.target.event_timestamp]
        later = table.filter(pc.and_(pc.greater_equal(asked, moment), pc.less(asked, moment + DAY)))
        return later.take(np.linspace(0, len(later) - 1, rows).astype(int))


DAY = timedelta(hours=24)


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_HOME", str(home))
        project = Project.load(ROOT / "project.yaml")
        contract = project.contract
        data = DataStore(project.home.data_uri)
        manifest, _ = data.write(
            {
                name: SourceData(
                    read_source(name, source, project.root, contract.timezone), source.uri
                )
                for name, source in contract.sources.items()
            }
        )
        built = build(project, data, manifest.id, contract.resolve_as_of())
        training_set = home / "training_set"
        training_set.mkdir()
        built.fetch_training_set(training_set / "training_set.parquet")
        rows = pq.read_table(
            training_set / "training_set.parquet", filters=[("window", "=", "train")]
        )
        some = rows.take(np.arange(0, len(rows), 8))
        write_package(home / "package", contract, some)
        shutil.copy(project.path, home / "package" / "contract.yaml")
        seal(home / "package")
        materialize(project, built.id, MOMENT, home / "store")
        yield Flights(project, built.id, training_set, home / "package", home / "store")


STORE = ("--clock", "store", "--feature_store")


@pytest.fixture(scope="module")
def combined(flights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("combined")
    flags = (*STORE, flights.store)
    with serving(NAME, flights.package, folder, "combined", *flags) as endpoint:
        endpoint.wait_until_ready()
        yield endpoint


@pytest.fixture(scope="module")
def predictor(flights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    with serving(NAME, flights.package, folder, "predictor") as endpoint:
        endpoint.wait_until_ready()
        yield endpoint


@contextmanager
def transformer(flights, predictor, folder, protocol="v2"):
    flags = (*STORE, flights.store, "--predictor_host", predictor, "--predictor_protocol", protocol)
    with serving(NAME, flights.package, folder, "transformer", *flags) as endpoint:
        yield endpoint


def client_of(endpoint):
    return httpx.Client(base_url=endpoint.url, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def client(combined):
    with client_of(combined) as client:
        yield client


@pytest.fixture(scope="module")
def direct(predictor):
    """A client of the predictor."""
    with client_of(predictor) as client:
        yield client


def reference_rows(package):
    reference = read_json(package / "reference.json")
    rows = zip(*reference["rows"].values(), strict=True)
    return [dict(zip(reference["rows"], row, strict=True)) for row in rows], reference


def tensors(**columns):
    kinds = {"distance": "FP64"}
    return {
        "inputs": [
            {
                "name": name,
                "shape": [len(values)],
                "datatype": kinds.get(name, "BYTES"),
                "data": values,
            }
            for name, values in columns.items()
        ]
    }


def altered(package, folder, change):
    """A sealed copy of `package` with another signature."""
    shutil.copytree(package, folder)
    signature = read_json(folder / "signature.json")
    change(signature)
    write_json(folder / "signature.json", signature)
    seal(folder)
    return folder


def entities(rows):
    return {name: rows[name].to_pylist() for name in ("carrier", "origin", "dest", "tailnum")}


# No skew between training and serving


def test_real_flights_get_online_what_they_get_offline(flights):
    found = replay(
        flights.project, flights.package, flights.training_set, flights.version, rows=120
    )
    assert found["rows"] == 480
    assert found["requests"] == 484
    assert len(found["moments"]) == 4
    assert found["metric"] == "roc_auc"
    assert 0.55 < found["offline"] < 0.9
    assert abs(found["difference"]) <= 1e-6
    assert found["largest_difference"] <= 1e-6
    assert 0 < found["p50_ms"] < found["p99_ms"]


def test_every_online_feature_equals_its_offline_one_by_name_and_value(flights):
    rows = flights.asked_after(MOMENT, 400)
    expected = offline_rows(flights.project, flights.version, rows, MOMENT)
    metrics = Metrics("combined", NAME, "binary", flights.views)

    async def read():
        reader = OnlineFeatures(flights.store, flights.package, "store", metrics)
        await reader.start()
        try:
            return await reader.read(entities(rows), metrics.of("v"))
        finally:
            await reader.close()

    found = asyncio.run(read())
    wanted = [f"{name}__{item}" for name, view in flights.views.items() for item in view.features]
    assert sorted(found) == sorted(wanted)
    for name, values in found.items():
        assert values == expected[name].to_pylist(), name
    assert sum(value is None for values in found.values() for value in values) > 100
    assert sum(value is not None for values in found.values() for value in values) > 8000


# The protocol


def test_both_protocols_and_both_kinds_of_rows_answer_alike(flights, client, direct):
    other = ROW | {"tailnum": None, "dest": "XXX"}
    by_name = client.post(PREDICT, json={"instances": [ROW, other]}).json()["predictions"]
    ordered = [field.name for field in request_schema(Model.load(flights.package).signature).fields]
    lists = [[row[name] for name in ordered] for row in (ROW, other)]
    by_order = client.post(PREDICT, json={"instances": lists}).json()["predictions"]
    columns = {name: [ROW[name], other[name]] for name in ordered}
    v2 = client.post(INFER, json={"id": "mine", **tensors(**columns)}).json()
    assert by_name == by_order == v2["outputs"][0]["data"]
    assert all(0 < value < 1 for value in by_name)
    assert by_name[0] != by_name[1]
    assert v2 | {"outputs": None} == {
        "model_name": NAME,
        "model_version": digest(flights.package)[:12],
        "id": "mine",
        "outputs": None,
    }
    assert {k: v2["outputs"][0][k] for k in ("name", "datatype", "shape")} == {
        "name": "prediction",
        "datatype": "FP32",
        "shape": [2],
    }
    rows, reference = reference_rows(flights.package)
    for server in (direct, client):
        found = server.post(PREDICT, json={"instances": rows}).json()["predictions"]
        assert np.float32(found).tolist() == reference["predictions"]


def test_a_transformer_answers_like_one_process_over_either_protocol(
    flights, predictor, client, tmp_path
):
    rows = {"instances": [ROW, ROW | {"tailnum": None}]}
    expected = client.post(PREDICT, json=rows).json()
    for protocol in ("v1", "v2"):
        with (
            transformer(flights, predictor.address, tmp_path / protocol, protocol) as endpoint,
            client_of(endpoint) as through,
        ):
            endpoint.wait_until_ready()
            assert through.post(PREDICT, json=rows).json() == expected
            answer = through.post(f"/v1/models/{NAME}:explain", json=rows)
            assert answer.status_code == 404
            assert "ask its predictor" in answer.json()["error"]


def test_what_the_predictor_refuses_reaches_the_client_with_its_sentence(
    flights, predictor, tmp_path
):
    def widen(signature):
        for item in signature["features"]:
            item["range"] = [None, None]

    package = altered(flights.package, tmp_path / "package", widen)
    wide = replace(flights, package=package)
    with (
        transformer(wide, predictor.address, tmp_path) as endpoint,
        client_of(endpoint) as through,
    ):
        endpoint.wait_until_ready()
        answer = through.post(PREDICT, json={"instances": [ROW | {"distance": 7000}]})
    assert answer.status_code == 400
    assert re.search(r"distance.*expected .* from 1 to 6000.*got 7000", answer.json()["error"])


def test_a_predictor_that_is_gone_is_a_503_and_comes_back(flights, tmp_path):
    port = free_port()
    address = f"127.0.0.1:{port}"
    with transformer(flights, address, tmp_path) as endpoint, client_of(endpoint) as through:
        wait_for(lambda: through.get("/v2/health/live").status_code == 200)
        assert through.get("/v2/health/ready").status_code == 503
        answer = through.post(PREDICT, json={"instances": [ROW]})
        assert answer.status_code == 503
        assert answer.json()["error"] == f"The predictor at {address} does not answer."
        assert answer.headers["retry-after"] == "1"
        for _ in range(2):
            with serving(NAME, flights.package, tmp_path / "p", "predictor", port=port) as again:
                again.wait_until_ready()
                assert through.post(PREDICT, json={"instances": [ROW]}).status_code == 200


def test_a_trace_goes_on_to_the_predictor_with_a_span_of_our_own(flights, tmp_path):
    seen = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.update(self.headers)
            body = json.dumps(
                {"outputs": [{"name": "prediction", "shape": [1], "data": [0.5]}]}
            ).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "mine"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{fake.server_port}"
        with transformer(flights, address, tmp_path) as endpoint, client_of(endpoint) as through:
            wait_for(lambda: through.get("/v2/health/live").status_code == 200)
            answer = through.post(PREDICT, json={"instances": [ROW]}, headers=headers)
        fake.shutdown()
    assert answer.json() == {"predictions": [0.5]}
    assert answer.headers["x-request-id"] == seen["x-request-id"] == "mine"
    assert seen["traceparent"].split("-")[1] == trace
    assert seen["traceparent"].split("-")[2] != "00f067aa0ba902b7"


def test_what_was_asked_and_answered_can_be_read_afterwards(flights, tmp_path):
    flags = (*STORE, flights.store, "--payload_log", tmp_path / "log")
    with (
        serving(NAME, flights.package, tmp_path, "combined", *flags) as endpoint,
        client_of(endpoint) as client,
    ):
        endpoint.wait_until_ready()
        rows = [ROW, ROW | {"tailnum": None}]
        predictions = client.post(
            PREDICT, json={"instances": rows}, headers={"x-request-id": "mine"}
        ).json()["predictions"]
        client.post(PREDICT, content=b"{}")
    found = pq.read_table(tmp_path / "log" / NAME).sort_by("row").to_pylist()
    assert [(row["id"], row["row"]) for row in found] == [("mine", 0), ("mine", 1)]
    assert [row["prediction"] for row in found] == [np.float32(value) for value in predictions]
    assert [row["tailnum"] for row in found] == ["N14228", None]
    assert found[0]["plane__seats"] > 0
    assert found[1]["plane__seats"] is None
    assert {row["version"] for row in found} == {digest(flights.package)[:12]}


def wait_for(check, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models", {"models": [NAME]}),
        (f"/v1/models/{NAME}", {"name": NAME, "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (f"/v2/models/{NAME}/ready", {"name": NAME, "ready": True}),
    ],
)
def test_a_client_can_ask_whether_the_model_is_there(client, direct, path, expected):
    for server in (client, direct):
        answer = server.get(path)
        assert (answer.status_code, answer.json()) == (200, expected)


def test_metadata_says_what_to_send_and_what_comes_back(client, direct, flights):
    assert client.get("/v2").json()["name"] == "slipway"
    found = client.get(f"/v2/models/{NAME}").json()
    assert [item["name"] for item in found["inputs"]] == [
        *("carrier", "origin", "dest", "scheduled_at", "distance"),
        "tailnum",
    ]
    assert found["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    rows = found["parameters"]["request_schema"]["properties"]["instances"]["items"]
    assert rows["properties"]["distance"]["maximum"] == 6000
    full = direct.get(f"/v2/models/{NAME}").json()
    assert len(full["inputs"]) == len(Model.load(flights.package).encoder.features)


def test_the_openapi_document_shows_both_kinds_of_rows_and_its_examples_are_taken(client):
    document = client.get("/openapi.json").json()
    validate(document)
    schemas = document["components"]["schemas"]
    widths = set()
    for name, path in (("Rows", PREDICT), ("Tensors", INFER)):
        for example in schemas[name]["examples"]:
            answer = client.post(path, json=example)
            assert answer.status_code == 200, answer.text
            widths.add(len((example.get("instances") or [example.get("inputs")])[0]))
    assert len(widths) == 2, "entity keys and request features, and full rows"


def test_an_explanation_adds_up_by_the_names_that_the_client_knows(client, flights):
    body = {"instances": [ROW, ROW | {"tailnum": None}]}
    found = client.post(f"/v1/models/{NAME}:explain", json=body).json()
    assert found["predictions"] == pytest.approx(
        client.post(PREDICT, json=body).json()["predictions"], abs=1e-6
    )
    wanted = [feature.name for feature in Model.load(flights.package).encoder.features]
    for prediction, parts in zip(found["predictions"], found["explanations"], strict=True):
        assert list(parts) == wanted
        margin = found["base"] + sum(parts.values())
        assert 1 / (1 + np.exp(-margin)) == pytest.approx(prediction, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", PREDICT, b"", 400, "body: not valid JSON"),
        ("POST", PREDICT, b'{"instances": [', 400, "body: not valid JSON"),
        ("POST", PREDICT, b"\xff\xfe", 400, "body: not valid JSON"),
        ("POST", PREDICT, b'{"instances": [NaN]}', 400, "JSON has no NaN or Infinity, send null"),
        ("POST", PREDICT, b'{"instances": [[-Infinity]]}', 400, "JSON has no NaN or Infinity"),
        ("POST", PREDICT, b"[]", 400, "body: expected a JSON object, got []."),
        (
            "POST",
            PREDICT,
            {"instances": [ROW | {"distance": "far"}]},
            400,
            "[0].distance: expected",
        ),
        ("POST", PREDICT, {"instances": [ROW | {"distance": 9e9}]}, 400, "[0].distance: expected"),
        ("POST", PREDICT, {"instances": [ROW, {"carrier": "UA"}]}, 400, "'dest' is missing"),
        ("POST", PREDICT, {"instances": [ROW | {"x": 1}]}, 400, "'x' is not a field"),
        ("POST", PREDICT, {"instances": [[1], [1, 2]]}, 400, "instances[0]: expected 6 values"),
        ("POST", INFER, {"instances": [ROW]}, 400, "inputs: expected a list of tensors"),
        ("POST", INFER, {"inputs": []}, 400, "inputs: 'carrier' is missing"),
        ("POST", PREDICT.replace(NAME, "other"), {"instances": [ROW]}, 404, "no model 'other'"),
        ("POST", INFER.replace(NAME, "other"), {"inputs": []}, 404, "no model 'other'"),
        ("GET", "/v1/models/other", None, 404, "There is no model 'other'"),
        ("GET", "/v2/models/other/ready", None, 404, "There is no model 'other'"),
        ("GET", "/v3", None, 404, "nothing here"),
        ("POST", f"/v1/models/{NAME}:explain", {"instances": []}, 400, "at least one row"),
        ("POST", f"/v1/models/{NAME}:classify", {"instances": [ROW]}, 404, "nothing here"),
        ("GET", f"/v2/models/{NAME}/versions/7", None, 404, "There is no version '7'"),
        ("GET", PREDICT, None, 405, "expected POST, got GET"),
        ("PUT", INFER, {"inputs": []}, 405, "expected POST, got PUT"),
        ("DELETE", "/v1/models", None, 405, "expected GET, got DELETE"),
    ],
)
def test_a_clients_mistake_is_a_4xx_with_one_sentence(
    client, direct, method, path, body, status, words
):
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    answer = client.request(method, path, content=content)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    if status == 405:
        assert answer.headers["allow"] in ("GET", "POST")
    if "dest" not in words and "6 values" not in words:
        assert direct.request(method, path, content=content).status_code == status


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 7}, "id: expected a string, got 7."),
        ({"outputs": [{"name": "logits"}]}, "outputs[0].name: expected 'prediction'"),
        ({"outputs": [{"name": "prediction"}], "parameters": {"a": 1}}, None),
        ({"id": None}, None),
    ],
)
def test_the_parts_of_a_v2_request_beside_its_tensors(client, change, words):
    body = tensors(**{name: [value] for name, value in ROW.items()}) | change
    answer = client.post(INFER, json=body)
    if words:
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    else:
        assert answer.status_code == 200
        assert answer.json()["id"]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/vnd.acme+json",
    ],
)
def test_any_content_type_is_taken(client, kind):
    answer = client.post(
        PREDICT, content=json.dumps({"instances": [ROW]}), headers={"content-type": kind}
    )
    assert answer.status_code == 200


def test_a_body_without_end_is_refused_and_the_server_goes_on(client):
    def endless():
        for _ in range(40):
            yield b" " * 2**20

    assert client.post(PREDICT, content=b" " * (17 * 2**20)).status_code == 413
    assert client.post(PREDICT, content=endless()).status_code == 413
    gzip = client.post(PREDICT, content=b"x", headers={"content-encoding": "gzip"})
    assert gzip.status_code == 415
    assert client.post(PREDICT, json={"instances": [ROW]}).status_code == 200


def test_every_answer_is_counted_by_protocol_code_model_and_version(client, flights):
    def counted():
        text = client.get("/metrics").text
        found = re.findall(rf'^{names.REQUESTS}\{{code="(\d+)",(.*)\}} (\S+)$', text, re.M)
        return {(code, labels): float(value) for code, labels, value in found}

    labels = f'model="{NAME}",protocol="v1",version="{digest(flights.package)[:12]}"'
    before = counted()
    client.post(PREDICT, json={"instances": [ROW]})
    client.post(PREDICT, content=b"{")
    after = counted()
    for code in ("200", "400"):
        assert after[code, labels] == before.get((code, labels), 0) + 1
    text = client.get("/metrics").text
    assert f'{names.LATENCY}_bucket{{le="0.0001",{labels}}}' in text
    assert f'{names.MODEL_INFO}{{model="{NAME}",role="combined",task="binary"' in text
    # A client's invention must not become a label.
    client.post("/v1/models/nonsense:predict", content=b"{}")
    assert "nonsense" not in client.get("/metrics").text


# Processes


def test_the_predictor_loads_none_of_the_heavy_libraries_and_stays_small(predictor, direct):
    assert direct.post(PREDICT, content=b"{}").status_code == 400
    process = psutil.Process(predictor.process.pid)
    loaded = " ".join(item.path for item in process.memory_maps())
    assert "onnxruntime" in loaded
    for name in ("pyarrow", "pandas", "torch", "ray", "pydantic_core", "scipy", "grpc", "duckdb"):
        assert f"site-packages/{name}" not in loaded, name
    assert process.memory_info().rss < 120 * 2**20


def test_sigterm_ends_a_server_cleanly(flights, tmp_path):
    with serving(NAME, flights.package, tmp_path, "predictor") as endpoint:
        endpoint.wait_until_ready()
    assert endpoint.process.returncode == 0
    assert "Traceback" not in endpoint.log.read_text()
    with pytest.raises(UserError, match="The predictor ended with code 0"):
        endpoint.check()


def test_a_server_ends_with_a_parent_that_was_killed(flights, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from serving.endpoint import serving\n"
        "package, folder = map(Path, sys.argv[1:])\n"
        "with serving('m', package, folder, 'predictor') as e:\n"
        "    e.wait_until_ready()\n"
        "    print(e.process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(flights.package), str(tmp_path)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive


def test_a_taken_port_is_named(flights, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"Port {port} on 127.0.0.1"),
            serving(NAME, flights.package, tmp_path, "predictor", port=port),
        ):
            pass


def test_a_package_whose_features_are_not_there_is_refused_and_the_old_one_goes_on(
    flights, tmp_path
):
    package = tmp_path / "package"
    shutil.copytree(flights.package, package)
    flags = (*STORE, flights.store)
    with (
        serving(NAME, package, tmp_path / "log", "combined", *flags) as endpoint,
        client_of(endpoint) as client,
    ):
        endpoint.wait_until_ready()
        signature = read_json(package / "signature.json")
        signature["features"][-1]["name"] = "plane__wings"
        write_json(package / "signature.json", signature)
        seal(package)
        answer = client.post(f"/v2/repository/models/{NAME}/load")
        assert answer.status_code == 409
        assert answer.json()["error"].startswith("The package ")
        assert client.post(PREDICT, json={"instances": [ROW]}).status_code == 200


def test_an_altered_package_is_not_served_and_the_error_shows_why(flights, tmp_path):
    package = shutil.copytree(flights.package, tmp_path / "package")
    (package / "model.onnx").write_bytes(b"another model")
    with (
        serving(NAME, package, tmp_path, "predictor") as endpoint,
        pytest.raises(UserError, match=r"ended with code 2(?s:.*)model\.onnx altered"),
    ):
        endpoint.wait_until_ready()


def test_a_package_that_computes_something_else_is_not_served(flights, tmp_path):
    package = shutil.copytree(flights.package, tmp_path / "package")
    reference = read_json(package / "reference.json")
    reference["predictions"][3] += 0.00001
    write_json(package / "reference.json", reference)
    seal(package)
    done = subprocess.run(
        [sys.executable, "-m", "serving", "--check", str(package)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "does not reproduce its reference predictions" in done.stderr
