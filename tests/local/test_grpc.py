"""What a gRPC client gets: right answers or one clear sentence; what a hostile one cannot do."""

import asyncio
import gzip
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import orjson
import pytest
import uvloop
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from serving import v2
from serving.app import load_json
from serving.metrics import Metrics
from serving.rpc import frames, http2
from serving.rpc.frames import Code, frame
from serving.rpc.headers import Reader, write
from serving.rpc.inference import SERVICE
from serving.rpc.protos import inference_pb2 as pb
from serving.rpc.server import RpcServer
from serving.service import Service
from serving.settings import Limits, Settings
from slipway.files import read_json
from slipway.schema import RequestError
from tests.fuzz.models import KINDS, NUMBERS, write_kinds, write_numbers

ROOT = Path(__file__).parents[2]
PROTO = "serving/rpc/protos/inference.proto"
INFER = f"/{SERVICE}/ModelInfer"
INFER_PATH = INFER.encode()
LIMITS = Limits(body=200_000, rows=1_000, reading=0.5)
TYPES = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
pytestmark = pytest.mark.local


class Server:
    """A worker's gRPC server on a thread's event loop, for one model."""

    def __init__(self, name, package, limits):
        self.settings = Settings("predictor", name, package, 0, "127.0.0.1", limits=limits)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve(started)))
        self._thread.start()
        assert started.wait(20)

    async def _serve(self, started):
        signature = read_json(self.settings.package / "signature.json")
        self.metrics = Metrics("predictor", self.settings.name, signature["task"])
        self.service = Service(self.settings, self.metrics)
        await self.service.open()
        self.loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self.rpc = RpcServer(self.service)
        await self.rpc.start(self.listener)
        started.set()
        await self._stopped.wait()
        await self.service.close()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def close(self):
        self.call(self.rpc.stop(0))
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)

    @property
    def shared(self):
        return self.rpc._shared

    def counted(self, code):
        text = self.metrics.render()[0].decode()
        lines = [
            line
            for line in text.splitlines()
            if line.startswith("slipway_requests_total{")
            and 'protocol="grpc"' in line
            and f'code="{code}"' in line
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def running(name, package, limits=LIMITS):
    server = Server(name, package, limits)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    return {KINDS: write_kinds(folder / KINDS), NUMBERS: write_numbers(folder / NUMBERS)}


@pytest.fixture(scope="module")
def kinds(packages):
    with running(KINDS, packages[KINDS]) as server:
        yield server


@pytest.fixture(scope="module")
def numbers(packages):
    with running(NUMBERS, packages[NUMBERS]) as server:
        yield server


@pytest.fixture(scope="module")
def channel(kinds):
    with grpc.insecure_channel(kinds.address, OPTIONS) as channel:
        yield channel


@pytest.fixture(scope="module")
def reference(packages):
    return read_json(packages[KINDS] / "reference.json")


def call(channel, name, request, answer=None, **options):
    """The answer of a method of the inference service."""
    method = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[name]
    kind = getattr(pb, method.output_type.name)
    send = channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=kind.FromString,
    )
    return send(request, timeout=10, **options)


def ask(channel, message, path=INFER, **options):
    """The answer's bytes to a message's."""
    return channel.unary_unary(path)(message, timeout=10, **options)


def refused(channel, request, path=INFER, **options):
    message = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, message, path, **options)
    return caught.value.code(), caught.value.details()


def datatype(name):
    return {"size": "FP64", "weight": "FP64", "count": "INT64", "stars": "INT64"}.get(
        name, "BOOL" if name == "fresh" else "BYTES"
    )


def whole(columns):
    """The rows without a null, which a typed tensor cannot say."""
    rows = [row for row in zip(*columns.values(), strict=True) if None not in row]
    return dict(zip(columns, zip(*rows, strict=True), strict=True))


def whole_predictions(reference):
    rows = zip(zip(*reference["rows"].values(), strict=True), reference["predictions"], strict=True)
    return [prediction for row, prediction in rows if None not in row]


def encoded(values, kind):
    if kind == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, {"FP64": "<f8", "INT64": "<i8", "BOOL": "u1"}[kind]).tobytes()


def request_of(columns, raw=False, name=KINDS):
    request = pb.ModelInferRequest(model_name=name, id="mine")
    for key, values in columns.items():
        kind = datatype(key)
        tensor = request.inputs.add(name=key, datatype=kind, shape=[len(values)])
        if raw:
            request.raw_input_contents.append(encoded(values, kind))
        elif kind == "BYTES":
            tensor.contents.bytes_contents.extend(value.encode() for value in values)
        else:
            field = {"FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
            getattr(tensor.contents, field[kind]).extend(values)
    return request


def matrix_of(rows, name=NUMBERS):
    request = pb.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="rows", datatype="FP32", shape=[len(rows), 3])
    tensor.contents.fp32_contents.extend(np.ravel(rows).tolist())
    return request


# Right answers


def test_typed_tensors_get_the_models_predictions_and_their_id_back(channel, reference, kinds):
    answer = call(channel, "ModelInfer", request_of(whole(reference["rows"])))
    output = answer.outputs[0]
    assert (answer.model_name, answer.id) == (KINDS, "mine")
    assert answer.model_version == kinds.service.model.version
    assert (output.name, output.datatype) == ("prediction", "FP32")
    assert list(output.contents.fp32_contents) == pytest.approx(whole_predictions(reference))
    assert list(output.shape) == [len(whole_predictions(reference))]
    assert not answer.raw_output_contents


def test_raw_tensors_get_a_raw_answer_with_the_same_predictions(channel, reference):
    answer = call(channel, "ModelInfer", request_of(whole(reference["rows"]), raw=True))
    [raw] = answer.raw_output_contents
    assert np.frombuffer(raw, "<f4").tolist() == pytest.approx(whole_predictions(reference))
    assert not answer.outputs[0].HasField("contents")


def test_a_null_is_a_nan_as_in_rests_binary_tensors(channel, kinds, reference):
    columns = {name: values[:1] for name, values in whole(reference["rows"]).items()}
    columns["weight"] = [float("nan")]
    body = {"instances": [{name: values[0] for name, values in columns.items()}]}
    body["instances"][0]["weight"] = None
    model = kinds.service.model
    expected = model.model.model.predict(model.schema.from_instances(body)).tolist()
    raw = call(channel, "ModelInfer", request_of(columns, raw=True)).raw_output_contents[0]
    assert np.frombuffer(raw, "<f4").tolist() == pytest.approx(expected)
    typed = call(channel, "ModelInfer", request_of(columns)).outputs[0].contents
    assert list(typed.fp32_contents) == pytest.approx(expected)


def test_typed_numbers_are_read_as_they_are_however_many(numbers):
    # The length of their message takes one byte more at 128, 16,384 and so on.
    with grpc.insecure_channel(numbers.address) as channel:
        for rows in (1, 5, 10, 11, 12, 600, 1_000):
            values = np.random.default_rng(rows).normal(size=(rows, 3))
            values[:, 2] = np.clip(values[:, 2], -9, 9)
            request = matrix_of(values.tolist())
            # A field that nobody knows, as a newer client may send it.
            contents = request.inputs[0].contents
            contents.MergeFromString(b"\xa0\x06\x07")
            if rows == 1_000:
                request.inputs[0].datatype = "FP64"
                contents.fp64_contents.extend(contents.fp32_contents)
                contents.ClearField("fp32_contents")
            typed = call(channel, "ModelInfer", request).outputs[0].contents.fp32_contents
            request.inputs[0].ClearField("contents")
            request.inputs[0].datatype = "FP32"
            request.raw_input_contents.append(values.astype("<f4").tobytes())
            raw = call(channel, "ModelInfer", request).raw_output_contents[0]
            assert list(typed) == np.frombuffer(raw, "<f4").tolist()


def test_a_matrix_is_rows_of_numbers(numbers, packages):
    reference = read_json(packages[NUMBERS] / "reference.json")
    rows = list(zip(*whole(reference["rows"]).values(), strict=True))
    with grpc.insecure_channel(numbers.address) as channel:
        answer = call(channel, "ModelInfer", matrix_of(rows))
    found = list(answer.outputs[0].contents.fp32_contents)
    assert found == pytest.approx(whole_predictions(reference), rel=1e-5)


def test_a_request_without_an_id_gets_one(numbers):
    with grpc.insecure_channel(numbers.address) as channel:
        found = {call(channel, "ModelInfer", matrix_of([[1, 2, 3]])).id for _ in range(3)}
    assert len(found) == 3
    assert "" not in found


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_request_is_understood(channel, reference, compression):
    request = request_of(whole(reference["rows"]))
    assert call(channel, "ModelInfer", request, compression=compression).id == "mine"


def test_parameters_do_not_get_in_the_way(channel, reference):
    request = request_of(whole(reference["rows"]))
    request.parameters["sequence_id"].int64_param = 7
    request.inputs[0].parameters["note"].string_param = "x"
    request.outputs.add(name="prediction").parameters["classification"].int64_param = 1
    assert call(channel, "ModelInfer", request).id == "mine"


def test_a_request_in_many_frames_is_one_request(numbers):
    rows = np.ones((1_000, 3)).tolist()
    with grpc.insecure_channel(numbers.address) as channel:
        answer = call(channel, "ModelInfer", matrix_of(rows))
    assert len(answer.outputs[0].contents.fp32_contents) == 1_000


# The other methods


def test_the_server_and_its_model_say_what_they_are(channel, kinds):
    assert call(channel, "ServerLive", pb.ServerLiveRequest()).live
    assert call(channel, "ServerReady", pb.ServerReadyRequest()).ready
    assert call(channel, "ModelReady", pb.ModelReadyRequest(name=KINDS)).ready
    server = call(channel, "ServerMetadata", pb.ServerMetadataRequest())
    assert server.name == v2.SERVER["name"]
    assert list(server.extensions) == v2.SERVER["extensions"]
    model = call(channel, "ModelMetadata", pb.ModelMetadataRequest(name=KINDS))
    served = kinds.service.model
    assert list(model.versions) == [served.version]
    assert {item.name: item.datatype for item in model.inputs} == {
        name: datatype(name) for name in served.schema.names
    }
    assert [(item.name, list(item.shape)) for item in model.outputs] == [("prediction", [-1])]


def test_a_version_can_be_asked_for_by_its_name(channel, kinds, reference):
    request = request_of(whole(reference["rows"]))
    request.model_version = kinds.service.model.version
    assert call(channel, "ModelInfer", request).id == "mine"
    request.model_version = "1"
    code, words = refused(channel, request)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "no version '1'" in words


@pytest.mark.parametrize("field", ["model_name", "triton_model_name"])
def test_a_model_is_unloaded_and_loaded_by_clients_of_kserve_and_of_triton(packages, field):
    with (
        running(NUMBERS, packages[NUMBERS]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        named = {field: NUMBERS}
        assert call(
            channel, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(**named)
        ).isUnloaded
        [entry] = call(channel, "RepositoryIndex", pb.RepositoryIndexRequest()).models
        assert entry.state == "UNAVAILABLE"
        assert not call(channel, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True)).models
        assert not call(channel, "ModelReady", pb.ModelReadyRequest(name=NUMBERS)).ready
        assert not call(channel, "ServerReady", pb.ServerReadyRequest()).ready
        assert refused(channel, matrix_of([[1, 2, 3]]))[0] == grpc.StatusCode.UNAVAILABLE
        assert call(channel, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(**named)).isLoaded
        assert call(channel, "ModelInfer", matrix_of([[1, 2, 3]])).model_name == NUMBERS


def test_a_probe_asks_the_standard_health_service(packages):
    with (
        running(NUMBERS, packages[NUMBERS]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", SERVICE, NUMBERS):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == serving
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == serving
        server.call(server.service.unload())
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.cancel()
        wait_for(lambda: not any(item.streams for item in server.shared.connections))


def test_a_tool_learns_the_services_and_messages_by_reflection(channel):
    found = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in found.get_services()
    pool = DescriptorPool(found)
    kind = pool.FindServiceByName(SERVICE).methods_by_name["ModelInfer"].input_type
    assert kind.fields_by_name["raw_input_contents"].number == 7
    assert pool.FindServiceByName("grpc.health.v1.Health").methods_by_name
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("inference.Nothing")


def test_the_generated_module_is_what_its_proto_makes(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", "--python_out=."]
    subprocess.run([*command, "--pyi_out=.", str(ROOT / PROTO)], cwd=tmp_path, check=True)
    for suffix in ("py", "pyi"):
        path = PROTO.replace(".proto", f"_pb2.{suffix}")
        made, kept = ((folder / path).read_bytes() for folder in (tmp_path, ROOT))
        assert made == kept, f"make it again: protoc of {PROTO}"


def test_a_server_without_grpc_does_not_pay_for_it():
    code = "import sys, serving.run; print([m for m in sys.modules if m in {'hpack', 'grpc'} or "
    code += "m.startswith(('google.protobuf', 'serving.rpc'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_server_needs_no_grpc_library():
    code = "import sys, serving.rpc.server; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# Mistakes


def tensor(request, name):
    return next(item for item in request.inputs if item.name == name)


def _drop(request):
    del request.inputs[0]


def _twice(request):
    request.inputs.append(request.inputs[0])


def _set(name, **changes):
    def change(request):
        item = tensor(request, name)
        for key, value in changes.items():
            if key == "shape":
                item.shape[:] = value
            elif key == "datatype":
                item.datatype = value
            else:
                getattr(item.contents, key)[:] = value

    return change


def _move(name, source, to, values):
    def change(request):
        contents = tensor(request, name).contents
        contents.ClearField(source)
        getattr(contents, to).extend(values)

    return change


def _both(request):
    request.raw_input_contents.extend([b""] * len(request.inputs))


def _few_raw(request):
    request.raw_input_contents.append(b"")


def _output(request):
    request.outputs.add(name="other")


MISTAKES = {
    "a field is missing": (_drop, "'color' is missing"),
    "a tensor twice": (_twice, "there is a second tensor 'color'"),
    "a datatype that the field does not have": (
        _set("size", datatype="BYTES", fp64_contents=[], bytes_contents=[b"1"]),
        "inputs.size.datatype: expected FP64 or FP32, got 'BYTES'.",
    ),
    "no such datatype": (_set("size", datatype="FP12"), "expected FP64 or FP32, got 'FP12'"),
    "contents of another datatype": (
        _move("size", "fp64_contents", "int64_contents", [1]),
        "inputs.size.contents: expected fp64_contents for FP64, got int64_contents.",
    ),
    "contents of a datatype that has none": (
        _set("size", datatype="FP16"),
        "inputs.size.contents: FP16 has none; send raw_input_contents.",
    ),
    "more values than the shape says": (
        _set("size", fp64_contents=[1, 2]),
        "inputs.size.data: expected 1 values as in its shape, got 2.",
    ),
    "no values": (_set("size", fp64_contents=[]), "expected 1 values as in its shape, got 0"),
    "another number of rows": (
        _set("size", shape=[2], fp64_contents=[1, 2]),
        "expected as many rows in every tensor, got 1 in 'color' and 2 in 'size'",
    ),
    "a negative shape": (_set("size", shape=[-1]), "expected [rows] or [rows, 1], got [-1]"),
    "a huge shape": (_set("size", shape=[2**62]), f"expected {2**62} values"),
    "a wrong rank": (_set("size", shape=[1, 1, 1]), "expected [rows] or [rows, 1]"),
    "no rank": (_set("size", shape=[]), "expected [rows] or [rows, 1], got []"),
    "a value beyond its range": (
        _set("size", fp64_contents=[1001]),
        "inputs.size.data[0]: expected a number of 32 bits from 0 to 1000, got 1001.0.",
    ),
    "NaN where no null may be": (_set("size", fp64_contents=[float("nan")]), "got nan"),
    "infinity": (_set("weight", fp64_contents=[float("inf")]), "got inf"),
    "text that is not UTF-8": (
        _set("color", bytes_contents=[b"\xff\xfe"]),
        "inputs.color.data[0]: expected UTF-8",
    ),
    "a time without its offset": (
        _set("at", bytes_contents=[b"2024-01-01T00:00:00"]),
        "inputs.at.data[0]: expected a time with its offset",
    ),
    "typed and raw": (_both, "inputs.color.contents: expected none beside raw_input_contents."),
    "too few raw contents": (
        _few_raw,
        "raw_input_contents: expected one for each of the 8 inputs, got 1.",
    ),
    "another output": (_output, "outputs[0].name: expected 'prediction', got 'other'."),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_invalid_argument_with_one_sentence(channel, reference, mistake):
    change, sentence = MISTAKES[mistake]
    request = request_of({name: values[:1] for name, values in whole(reference["rows"]).items()})
    change(request)
    code, words = refused(channel, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in words
    assert words.endswith(".")


RAW_MISTAKES = {
    "too few bytes": ("size", lambda raw: raw[:-1], "inputs.size: expected 8 bytes"),
    "too many bytes": ("count", lambda raw: raw * 2, "inputs.count: expected 8 bytes"),
    "a text that is cut off": ("color", lambda raw: raw[:-1], "inputs.color: element 0 is cut off"),
    "two texts": ("color", lambda raw: raw * 2, "expected 1 elements"),
    "not UTF-8": ("color", lambda _: b"\2\0\0\0\xff\xfe", "expected UTF-8"),
    "no truth value": ("fresh", lambda _: b"\7", "expected bytes of 0 or 1, got 7"),
    "NaN where no null may be": ("size", lambda _: b"\xff" * 8, "got nan"),
}


@pytest.mark.parametrize("mistake", RAW_MISTAKES)
def test_a_mistake_in_raw_contents_is_an_invalid_argument(channel, reference, mistake):
    name, change, sentence = RAW_MISTAKES[mistake]
    columns = {key: values[:1] for key, values in whole(reference["rows"]).items()}
    request = request_of(columns, raw=True)
    at = list(columns).index(name)
    request.raw_input_contents[at] = change(request.raw_input_contents[at])
    code, words = refused(channel, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in words


def test_rest_and_grpc_say_the_same_of_the_same_mistake(kinds, channel, reference):
    columns = {name: values[:1] for name, values in whole(reference["rows"]).items()}
    for name, value in (("size", -1.0), ("stars", 6), ("at", "noon"), ("weight", 1e39)):
        wrong = {**columns, name: [value]}
        inputs = [
            {"name": key, "datatype": datatype(key), "shape": [1], "data": list(values)}
            for key, values in wrong.items()
        ]
        body = orjson.dumps({"inputs": inputs})
        with pytest.raises(RequestError) as caught:
            v2.columns(kinds.service.model, v2.read(body, None, load_json))
        assert refused(channel, request_of(wrong))[1] == caught.value.message


def test_what_is_no_message_is_an_invalid_argument(channel):
    for junk in (b"\xff\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe", random.randbytes(500)):
        code, words = refused(channel, junk)
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert words == "The message is not an inference.ModelInferRequest."


def test_a_model_that_is_not_here_is_not_found(channel):
    for name, request in (
        ("ModelInfer", pb.ModelInferRequest(model_name="other")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="other")),
        ("ModelReady", pb.ModelReadyRequest(name="other")),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="other")),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="other")),
    ):
        code, words = refused(channel, request, f"/{SERVICE}/{name}")
        assert code == grpc.StatusCode.NOT_FOUND
        assert words == f"There is no model 'other'; this is '{KINDS}'."


def test_a_method_that_is_not_here_is_unimplemented(channel):
    code, words = refused(channel, b"", f"/{SERVICE}/ModelConfig")
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert words == f"There is no method /{SERVICE}/ModelConfig."


def test_too_large_a_request_is_refused_before_it_is_read(channel, kinds):
    code, words = refused(channel, b"\0" * 10_000_000)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert words == "The body is larger than 200000 bytes; send fewer rows."
    wait_for(lambda: kinds.shared.buffered == 0)


def test_a_bomb_is_not_unpacked(numbers):
    with Peer(numbers) as peer:
        packed = gzip.compress(bytes(50_000_000))
        body = b"\1" + len(packed).to_bytes(4, "big") + packed
        assert peer.grpc(body, more=((b"grpc-encoding", b"gzip"),))[0] == b"3"
        body = b"\1" + (5).to_bytes(4, "big") + b"other"
        assert peer.grpc(body, more=((b"grpc-encoding", b"gzip"),))[0] == b"3"
        assert peer.grpc(body, more=((b"grpc-encoding", b"br"),))[0] == b"12"


def test_too_many_rows_are_an_invalid_argument(numbers):
    with grpc.insecure_channel(numbers.address) as channel:
        code, words = refused(channel, matrix_of(np.zeros((1_001, 3)).tolist()))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert words == "Expected at most 1000 rows in a request, got 1001; send several."


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", b"Expected one message, got none."),
        (b"\0\0\0", b"Expected one message, got none."),
        (b"\0\0\0\0\7abc", b"Expected one message of 7 bytes after its length, got 3."),
        (b"\0\0\0\0\1abc", b"Expected one message of 1 bytes after its length, got 3."),
    ],
)
def test_a_request_that_is_not_one_message_is_an_invalid_argument(numbers, body, words):
    with Peer(numbers) as peer:
        assert peer.grpc(body) == (b"3", words)


def test_a_deadline_that_has_passed_is_said_so(numbers):
    body = prefixed(matrix_of([[1, 2, 3]]))
    with Peer(numbers) as peer:
        assert peer.grpc(body, more=((b"grpc-timeout", b"1n"),))[0] == b"4"
        assert peer.grpc(body, more=((b"grpc-timeout", b"10S"),))[0] == b"0"
        assert peer.grpc(body, more=((b"grpc-timeout", b"soon"),))[0] == b"3"


def test_our_own_failure_is_internal_without_its_text(packages, monkeypatch):
    with (
        running(NUMBERS, packages[NUMBERS]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        monkeypatch.setattr(server.service, "current", lambda *_: 1 / 0)
        code, words = refused(channel, matrix_of([[1, 2, 3]]))
    assert code == grpc.StatusCode.INTERNAL
    assert words == "The server failed; its log says why."


def test_answers_are_counted_by_what_they_were(packages):
    with (
        running(NUMBERS, packages[NUMBERS]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for _ in range(3):
            call(channel, "ModelInfer", matrix_of([[1, 2, 3]]))
        refused(channel, b"\xff\xff")
        refused(channel, pb.ModelInferRequest(model_name="other"))
        refused(channel, b"", f"/{SERVICE}/ModelConfig")
        refused(channel, b"\0" * 300_000)
        assert [server.counted(code) for code in (200, 400, 404, 413, 501)] == [3, 1, 1, 1, 1]
        assert server.metrics.in_flight == 0


# Pressure


def test_more_requests_than_allowed_at_once_are_told_to_come_again(packages):
    limits = replace(LIMITS, concurrency=0)
    with (
        running(NUMBERS, packages[NUMBERS], limits) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        code, words = refused(channel, matrix_of([[1, 2, 3]]))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert words == "Too many requests at once; try again later."


def test_a_server_that_stops_answers_everything_it_has_accepted(packages):
    server = Server(NUMBERS, packages[NUMBERS], LIMITS)
    request = matrix_of([[1, 2, 3]])
    stopping = threading.Event()
    fine, lost = [], []

    def client():
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as own:
            while True:
                try:
                    fine.append(call(own, "ModelInfer", request).id)
                except grpc.RpcError as error:
                    lost.append((stopping.is_set(), error.code(), error.details()))
                    return

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(client) for _ in range(8)]
        wait_for(lambda: len(fine) > 100)
        stopping.set()
        server.call(server.rpc.stop(10))
        for item in running:
            item.result(20)
    answered = server.counted(200)
    server.loop.call_soon_threadsafe(server._stopped.set)
    # What they asked after the end reached nobody, and they know it.
    assert all(item[:2] == (True, grpc.StatusCode.UNAVAILABLE) for item in lost), lost
    assert all("onnect" in item[2] for item in lost), lost
    assert len(fine) == answered
    assert len(set(fine)) == len(fine)


def test_stalled_clients_are_hung_up_and_do_not_hurt_others(packages):
    with running(NUMBERS, packages[NUMBERS]) as server:
        # Some say nothing, some stop within a frame, some within a message.
        hello = frames.PREFACE + frames.settings({})
        begun = hello + post(1) + frame(frames.DATA, 0, 1, b"\0\0\0\0\xff" + b"x" * 50)
        stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        for at, client in enumerate(stalled):
            client.sendall((b"", hello[:30], begun, begun[:-20])[at % 4])
        with grpc.insecure_channel(server.address) as channel:
            request = matrix_of([[1, 2, 3]])
            for _ in range(50):
                assert call(channel, "ModelInfer", request).model_name == NUMBERS
            wait_for(lambda: server.shared.buffered == 0)
            # A client that is alive between requests stays.
            wait_for(lambda: len(server.shared.connections) <= 101)
            assert call(channel, "ModelInfer", request).model_name == NUMBERS
        for client in stalled:
            client.close()


def test_a_client_that_gives_up_leaves_nothing_behind(packages):
    with running(NUMBERS, packages[NUMBERS]) as server:
        with Peer(server) as peer:
            peer.send(post(1) + frame(frames.DATA, 0, 1, b"\0\0\0\xff\xff" + b"x" * 5_000))
            wait_for(lambda: server.shared.buffered > 5_000)
            peer.send(frames.reset(1, Code.CANCEL))
            wait_for(lambda: server.shared.buffered == 0)
            peer.send(post(3) + frame(frames.DATA, 0, 3, b"\0\0\0\xff\xff" + b"x" * 5_000))
            wait_for(lambda: server.shared.buffered > 5_000)
        wait_for(lambda: server.shared.buffered == 0 and not server.shared.connections)


# HTTP/2 as hostile clients speak it


class Peer:
    """A client that sends the frames it is told to."""

    def __init__(self, server, settings=None):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self.reader, self.rest, self.next = Reader(), b"", 1
        self.send(frames.PREFACE + frames.settings(settings or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def frames(self):
        """What comes, until the server closes."""
        while True:
            while len(self.rest) >= frames.HEADER_BYTES:
                size, kind, flags, number = frames.header(self.rest, 0)
                end = frames.HEADER_BYTES + size
                if len(self.rest) < end:
                    break
                payload, self.rest = self.rest[frames.HEADER_BYTES : end], self.rest[end:]
                yield kind, flags, number, payload
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return
            if not data:
                return
            self.rest += data

    def expect(self, kind):
        return next(payload for found, _, _, payload in self.frames() if found == kind)

    def grpc(self, body, path=INFER_PATH, more=()):
        """Status and sentence of a call."""
        number, self.next = self.next, self.next + 2
        self.send(post(number, path, more))
        # What it does not want to read it resets.
        for at in range(0, max(1, len(body)), frames.MAX_FRAME):
            last = at + frames.MAX_FRAME >= len(body)
            chunk = body[at : at + frames.MAX_FRAME]
            self.send(frame(frames.DATA, frames.END_STREAM if last else 0, number, chunk))
        for kind, flags, found, payload in self.frames():
            if kind == frames.HEADERS and found == number and flags & frames.END_STREAM:
                fields = dict(self.reader._decode(payload))
                return fields[b"grpc-status"], fields.get(b"grpc-message", b"")
        raise AssertionError("no answer")


def post(number, path=INFER_PATH, more=(), flags=frames.END_HEADERS):
    block = write(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    )
    return frame(frames.HEADERS, flags, number, block)


def prefixed(request):
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


LONG = struct.Struct(">L")
FAULTS = {
    "HTTP/1": (b"GET / HTTP/1.1\r\nhost: here\r\n\r\n", None),
    "a frame that is too large": (frame(frames.DATA, 0, 1, bytes(2**14 + 1)), 6),
    "headers on the server's stream": (post(2), 1),
    "headers on an old stream": (
        post(5, flags=0x5) + post(3, flags=0x5),
        5,
    ),
    "data of a stream that is not there": (frame(frames.DATA, 0, 1, b"x"), 1),
    "headers that are no HPACK": (frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
    "headers without an end": (
        frame(frames.HEADERS, 0, 1, b"\0") + frame(frames.CONTINUATION, 0, 1, b"\0") * 50,
        11,
    ),
    "headers without a size": (
        frame(frames.HEADERS, 0, 1, b"\0") + frame(frames.CONTINUATION, 0, 1, bytes(9_000)) * 3,
        11,
    ),
    "a header list that grows by references": (
        frame(frames.HEADERS, 4, 1, b"\x40\1a\x7f\x81\x1e" + b"b" * 3_968 + b"\xbe" * 10),
        11,
    ),
    "something between headers": (
        frame(frames.HEADERS, 0, 1, b"\0") + frame(frames.PING, 0, 0, bytes(8)),
        1,
    ),
    "more padding than payload": (frame(frames.DATA, 8, 1, b"\x09abc"), 1),
    "a push": (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), 1),
    "a window beyond all size": (frames.window_update(0, 2**31 - 1), 3),
    "a window that grows by nothing": (frames.window_update(0, 0), 1),
    "a wrong setting": (frames.settings({frames.INITIAL_WINDOW: 2**31}), 3),
    "settings of a stream": (frame(frames.SETTINGS, 0, 1), 1),
    "a short ping": (frame(frames.PING, 0, 0, b"x"), 6),
    "the end of a stream that is not there": (frames.reset(7, Code.CANCEL), 1),
    "streams given up faster than answered": (
        b"".join(post(n) + frames.reset(n, Code.CANCEL) for n in range(1, 1_001, 2)),
        11,
    ),
    "streams that the server has to give up": (
        b"".join(
            frame(frames.HEADERS, 5, n, write((b":method", b"POST"))) for n in range(1, 1_001, 2)
        ),
        11,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_that_breaks_http2_is_told_how_and_hung_up(numbers, fault):
    sent, code = FAULTS[fault]
    if code is None:
        with socket.create_connection(("127.0.0.1", numbers.port), timeout=5) as client:
            client.sendall(sent)
            while client.recv(4096):
                pass
        return
    with Peer(numbers) as peer:
        peer.send(sent)
        assert LONG.unpack_from(peer.expect(frames.GOAWAY), 4)[0] == code
        assert list(peer.frames()) == []


def test_a_client_with_a_tiny_window_gets_its_answer_in_pieces(numbers):
    with Peer(numbers, {frames.INITIAL_WINDOW: 3}) as peer:
        body = prefixed(matrix_of(np.ones((9, 3)).tolist()))
        peer.send(post(1) + frame(frames.DATA, frames.END_STREAM, 1, body))
        found = b""
        for kind, flags, _, payload in peer.frames():
            if kind == frames.DATA:
                assert len(payload) <= 3
                found += payload
                peer.send(frames.window_update(1, 3))
            if kind == frames.HEADERS and flags & frames.END_STREAM:
                break
    answer = pb.ModelInferResponse.FromString(found[5:])
    assert len(answer.outputs[0].contents.fp32_contents) == 9


def test_a_client_that_never_takes_its_answer_is_given_up(numbers):
    with Peer(numbers, {frames.INITIAL_WINDOW: 0}) as peer:
        body = prefixed(matrix_of([[1, 2, 3]]))
        peer.send(post(1) + frame(frames.DATA, frames.END_STREAM, 1, body))
        assert LONG.unpack(peer.expect(frames.RST_STREAM))[0] == Code.CANCEL


def test_a_client_that_asks_without_listening_is_stopped(packages):
    with running(NUMBERS, packages[NUMBERS]) as server:
        asked = prefixed(matrix_of(np.ones((200, 3)).tolist()))
        with Peer(server, {frames.INITIAL_WINDOW: 2**30}) as peer:
            peer.send(frames.window_update(0, 2**30))
            peer.socket.settimeout(0.2)
            number = 1
            # At last it is not even read any more, and then hung up.
            with suppress(TimeoutError, ConnectionError):
                while number < 200_000:
                    peer.send(post(number) + frame(frames.DATA, frames.END_STREAM, number, asked))
                    number += 2
            assert number < 200_000
            wait_for(lambda: not server.shared.connections)


def test_more_streams_than_allowed_are_refused_one_by_one(numbers):
    with Peer(numbers) as peer:
        peer.send(b"".join(post(n) for n in range(1, 2 * http2.MAX_STREAMS + 3, 2)))
        assert LONG.unpack(peer.expect(frames.RST_STREAM))[0] == Code.REFUSED_STREAM


def test_a_client_that_does_not_speak_grpc_is_told_what_this_is(numbers):
    block = write((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"))
    with Peer(numbers) as peer:
        peer.send(frame(frames.HEADERS, 5, 1, block))
        assert dict(peer.reader._decode(peer.expect(frames.HEADERS)))[b":status"] == b"415"
        assert b"gRPC" in peer.expect(frames.DATA)


def test_a_header_table_that_changes_does_not_bring_back_old_headers(numbers):
    # Literals with indexing: the same references mean other fields afterwards.
    names = [b"x-a", b"x-b"]
    body = prefixed(matrix_of([[1, 2, 3]]))
    with Peer(numbers) as peer:
        for number, path in ((1, INFER.encode()), (3, INFER.encode()), (5, b"/other"), (7, b"")):
            added = b"\x44" + bytes([len(path)]) + path if path and number != 3 else b"\xbe"
            fixed = b"\x83\x86" + added
            fixed += write((b"content-type", b"application/grpc"), (names[0], b"1"))
            peer.send(frame(frames.HEADERS, 4, number, fixed))
            peer.send(frame(frames.DATA, frames.END_STREAM, number, body))
            found = next(
                dict(peer.reader._decode(payload))[b"grpc-status"]
                for kind, flags, at, payload in peer.frames()
                if kind == frames.HEADERS and flags & frames.END_STREAM and at == number
            )
            assert found == (b"0" if number < 5 else b"12")


def test_no_bytes_break_the_server(packages):
    """Right conversations with wrong bytes in them."""
    body = prefixed(matrix_of([[1, 2, 3]]))
    reflection = b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    right = b"".join(
        (
            frames.PREFACE,
            frames.settings({frames.INITIAL_WINDOW: 100_000}),
            *(post(n) + frame(frames.DATA, 1, n, body) for n in (1, 3)),
            frame(frames.PING, 0, 0, bytes(8)),
            post(5, reflection) + frame(frames.DATA, 0, 5, b"\0\0\0\0\2\x3a\0"),
            frames.window_update(5, 100),
            frames.reset(5, Code.CANCEL),
            frames.goaway(0, Code.NO_ERROR),
        )
    )
    pick = random.Random(7)
    with running(NUMBERS, packages[NUMBERS]) as server:
        for _ in range(400):
            wrong = bytearray(right)
            for _ in range(pick.choice((1, 1, 2, 8))):
                at = pick.randrange(len(wrong))
                wrong[at : at + pick.choice((0, 1, 4))] = pick.randbytes(pick.choice((0, 1, 4)))
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
                cut = pick.randrange(len(wrong))
                with suppress(OSError):
                    client.sendall(wrong[:cut])
                    client.sendall(wrong[cut:])
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
        wait_for(lambda: not server.shared.connections)
        assert server.shared.buffered == 0
        assert server.metrics.in_flight == 0
        assert server.counted(500) == 0
        with grpc.insecure_channel(server.address) as channel:
            assert call(channel, "ModelInfer", matrix_of([[1, 2, 3]])).model_name == NUMBERS


def test_reflection_serves_files_as_protobuf_wrote_them(channel):
    found = ProtoReflectionDescriptorDatabase(channel).FindFileByName(PROTO)
    assert isinstance(found, FileDescriptorProto)
    assert found.package == "inference"
