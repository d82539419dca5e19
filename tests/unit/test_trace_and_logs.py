"""A trace goes on through our servers, and a log line can be found by it."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serving import trace
from serving.trace import Spans, trace_id, traceparent

ROOT = Path(__file__).parents[2]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def sent(*values, state=()):
    headers = [(b"host", b"x"), *((b"traceparent", value.encode()) for value in values)]
    return [*headers, *((b"tracestate", value.encode()) for value in state)]


def test_the_call_to_the_predictor_continues_the_trace_with_a_span_of_its_own():
    context = traceparent(sent(PARENT, state=["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]))
    version, passed, span, flags = context["traceparent"].split("-")
    assert (version, passed, flags) == ("00", TRACE, "01")
    assert len(span) == 16
    assert span not in (SPAN, traceparent(sent(PARENT))["traceparent"].split("-")[2])
    assert context["tracestate"] == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert trace_id(context) == TRACE


def test_grpc_metadata_are_texts():
    assert trace_id(traceparent([("user-agent", "x"), ("traceparent", PARENT)])) == TRACE


def test_no_trace_is_begun_for_a_request_without_one():
    assert traceparent(sent(state=["a=b"])) == {}
    assert trace_id({}) == ""


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-more",  # version 00 has four fields
        f"{PARENT}0",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-0\u0661",
        f"{PARENT}\n",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_a_malformed_traceparent_is_ignored(value):
    assert traceparent(sent(value, state=["a=b"])) == {}


def test_two_traceparents_are_none():
    assert traceparent(sent(PARENT, PARENT)) == {}


def test_a_later_version_is_read_as_far_as_it_is_known():
    context = traceparent(sent(f"cc-{TRACE}-{SPAN}-ff-what-comes"))
    assert context["traceparent"].startswith(f"00-{TRACE}-")
    assert context["traceparent"].endswith("-03")


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["a=1", " b=2 , ,c=3"], "a=1,b=2,c=3"),
        (["tenant@vendor=x"], "tenant@vendor=x"),
        (["a=1,a=2"], None),
        (["A=1"], None),
        (["a"], None),
        (["a=b=c"], None),
        (["a=\u00fc"], None),
        ([",".join(f"k{n}=v" for n in range(33))], None),
    ],
)
def test_a_malformed_tracestate_does_not_end_the_trace(values, kept):
    context = traceparent(sent(PARENT, state=values))
    assert trace_id(context) == TRACE
    assert context.get("tracestate") == kept


def test_a_span_is_below_the_callers_and_its_context_is_passed_on():
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, "m")
    span, context = spans.start("predict", sent(PARENT, state=["a=1"]))
    spans.end(span, 200, {"slipway.version": "v"})
    failed, alone = spans.start("predict", [])
    spans.end(failed, 503, {})
    spans.close()
    first, second = exporter.get_finished_spans()
    assert f"{first.parent.trace_id:032x}-{first.parent.span_id:016x}" == f"{TRACE}-{SPAN}"
    assert context == {
        "traceparent": f"00-{TRACE}-{first.context.span_id:016x}-01",
        "tracestate": "a=1",
    }
    assert first.attributes == {"http.response.status_code": 200, "slipway.version": "v"}
    assert first.resource.attributes["service.name"] == "m"
    assert second.parent is None
    assert trace_id(alone) == f"{second.context.trace_id:032x}"
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.UNSET,
        StatusCode.ERROR,
    )


def test_an_unsampled_trace_stays_unsampled():
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, "m")
    span, context = spans.start("predict", sent(f"00-{TRACE}-{SPAN}-00"))
    spans.end(span, 200, {})
    spans.close()
    assert context["traceparent"].endswith("-00")
    assert exporter.get_finished_spans() == ()


def test_opentelemetry_is_not_loaded_unless_it_is_asked_for():
    code = (
        "import sys; from serving import trace; assert trace.spans('m') is None;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"ENDPOINT": "collector:4318"}, "expected http:// or https://"),
        ({"ENDPOINT": "http://c:4317", "PROTOCOL": "grpc"}, "only http/protobuf"),
    ],
)
def test_a_setting_that_cannot_work_is_said_loudly(monkeypatch, caplog, setting, said):
    for name, value in setting.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    assert trace.spans("m") is None
    assert "NO TRACES ARE EXPORTED" in caplog.text
    assert said in caplog.text


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_spans_reach_the_collector_or_the_log_says_what_is_missing(monkeypatch, caplog):
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("NO_PROXY", "*")
        spans = trace.spans("m")
        if spans is None:
            assert "'opentelemetry.exporter" in caplog.text  # the library is not installed here
        else:
            spans.end(spans.start("predict", sent(PARENT))[0], 200, {})
            spans.close()
            [(path, body)] = server.received
            assert path == "/v1/traces"
            assert bytes.fromhex(TRACE) in body
        server.shutdown()


LOGS = """
import logging, sys, threading, warnings
from serving import logs
always = logs.configure(sys.argv[1], model="m")
always["version"] = "v1"
log = logging.getLogger("serving")
log.debug("not shown")
log.info("of %s", "everyone\\nERROR forged line\\x1b[31m \\udcff")
logging.getLogger("uvicorn.error").info("uvicorn says")
logging.getLogger("uvicorn.access").info("not shown")
logs.access("v1", 200, 0.5, {})
logs.access("v1", 404, 0.5, {})
logs.access("v2", 200, 1.25, {"request_id": "r1", "trace_id": "t1", "version": "v0"})
logs.access("v1", 503, 0.01, {"request_id": "r2"})
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a fault", extra={"request_id": "r3"})
warnings.warn("old")
thread = threading.Thread(target=lambda: [][0], name="t")
thread.start()
thread.join()
raise KeyError("the end")
"""


def logged(kind):
    done = subprocess.run(
        [sys.executable, "-c", LOGS, kind], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def test_every_line_is_one_json_object_that_says_where_it_is_from():
    lines = [json.loads(line) for line in logged("json")]
    assert all(line["model"] == "m" and line["time"].endswith("+00:00") for line in lines)
    first, uvicorn, slow, error, fault, warning, thread, last = lines
    assert first["message"] == "of everyone\nERROR forged line\x1b[31m \\udcff"
    assert (first["level"], first["logger"], first["version"]) == ("info", "serving", "v1")
    assert (uvicorn["logger"], uvicorn["message"]) == ("uvicorn.error", "uvicorn says")
    assert slow["level"] == "warning"
    assert (slow["request_id"], slow["trace_id"], slow["version"]) == ("r1", "t1", "v0")
    assert (slow["protocol"], slow["code"], slow["seconds"]) == ("v2", 200, 1.25)
    assert (error["level"], error["code"], error["request_id"]) == ("error", 503, "r2")
    assert (fault["message"], fault["request_id"]) == ("a fault", "r3")
    assert fault["traceback"].endswith("ZeroDivisionError: division by zero\n")
    assert "old" in warning["message"]
    assert "IndexError" in thread["traceback"]
    assert last["level"] == "critical"
    assert "KeyError: 'the end'" in last["traceback"]


def test_text_is_for_people_and_a_client_cannot_forge_a_line():
    lines = logged("text")
    assert "INFO serving of everyone\\x0aERROR forged line\\x1b[31m \\udcff model=m" in lines[0]
    assert any(line.endswith("code=503 seconds=0.01") for line in lines)
    assert "ZeroDivisionError: division by zero" in lines
