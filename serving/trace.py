"""W3C trace context: what a request brings, checked, is what our own call to another server takes.

Spans of our own are exported only where `OTEL_EXPORTER_OTLP_ENDPOINT` says where to, and
opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http are installed; else neither is loaded.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

Headers = Iterable[tuple[bytes | str, bytes | str]]
"""Names in lower case, as ASGI and gRPC give them."""

PARENT, STATE = "traceparent", "tracestate"
_NAMES = {PARENT: PARENT, PARENT.encode(): PARENT, STATE: STATE, STATE.encode(): STATE}
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.A)
_KEY = r"[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{1,256}})", re.A)
_MEMBERS = 32
_KNOWN_FLAGS = 0x03  # sampled, random trace id
log = logging.getLogger("serving")


def traceparent(headers: Headers) -> dict[str, str]:
    """The trace context to pass on: `traceparent` with a span id of ours, and `tracestate`.

    Empty without a valid context: a malformed one is ignored, as W3C wants it.
    """
    received = _received(headers)
    if received is None:
        return {}
    trace, _, flags, state = received
    context = {PARENT: f"00-{trace}-{os.urandom(8).hex()}-{flags & _KNOWN_FLAGS:02x}"}
    if state:
        context[STATE] = state
    return context


def trace_id(context: Mapping[str, str]) -> str:
    """32 hex digits of what `traceparent` returned; empty if there is none."""
    return context[PARENT][3:35] if context else ""


def _received(headers: Headers) -> tuple[str, str, int, str] | None:
    """Trace id, span id, flags and state of a valid context."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        known = _NAMES.get(name)
        if known:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            (parents if known == PARENT else states).append(text.strip(" \t"))
    if len(parents) != 1:
        return None
    match = _PARENT.fullmatch(parents[0])
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # A later version may have more fields behind these four.
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return trace, span, int(flags, 16), _state(states)


def _state(values: list[str]) -> str:
    """`tracestate` as one header; empty where it is malformed, which leaves the trace valid."""
    members = [text for value in values for item in value.split(",") if (text := item.strip(" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match}
    return ",".join(members) if len(keys) == len(members) <= _MEMBERS else ""


class Spans:
    """A span of every request, exported in batches from a thread of its own."""

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = os.environ.get("OTEL_SERVICE_NAME") or service
        resource = Resource.create({"service.name": named})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("slipway.serving")

    def start(self, name: str, headers: Headers) -> tuple[Span, dict[str, str]]:
        """A span below the caller's, or a new trace; and the context to pass on."""
        from opentelemetry import trace as api

        received = _received(headers)
        parent, state = None, ""
        if received:
            trace, span, flags, state = received
            context = api.SpanContext(
                int(trace, 16),
                int(span, 16),
                is_remote=True,
                trace_flags=api.TraceFlags(flags),
                trace_state=api.TraceState.from_header([state] if state else []),
            )
            parent = api.set_span_in_context(api.NonRecordingSpan(context))
        started = self._tracer.start_span(name, parent, api.SpanKind.SERVER)
        own = started.get_span_context()
        passed = {PARENT: f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"}
        return started, passed | ({STATE: state} if state else {})

    def end(self, span: Span, code: int, attributes: Mapping[str, str | int | float]) -> None:
        """`code`: the HTTP status of the answer."""
        from opentelemetry.trace import StatusCode

        span.set_attributes({"http.response.status_code": code, **attributes})
        if code >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def spans(service: str) -> Spans | None:
    """Spans where the environment asks for them; `service` is their name unless it says one.

    A setting that cannot work is said in the log: it is not a reason to serve no predictions,
    because operators set it for every pod of a cluster.
    """
    endpoint, place = _setting("ENDPOINT")
    if not endpoint:
        return None
    protocol, protocol_place = _setting("PROTOCOL")
    wrong = ""
    if not endpoint.startswith(("http://", "https://")):
        wrong = f"{place} is {endpoint!r}: expected http:// or https://."
    elif protocol not in ("", "http/protobuf"):
        wrong = f"{protocol_place} is {protocol!r}: only http/protobuf is spoken here."
    else:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found, unused-ignore]
                OTLPSpanExporter,
            )

            return Spans(OTLPSpanExporter(), service)
        except ModuleNotFoundError as error:
            wrong = (
                f"{place} is set, but '{error.name}' is not installed: it takes opentelemetry-sdk "
                "and opentelemetry-exporter-otlp-proto-http."
            )
    log.error("NO TRACES ARE EXPORTED. %s", wrong)
    return None


def _setting(name: str) -> tuple[str, str]:
    """The value of OpenTelemetry's variable, for traces or for all, and the variable's name."""
    places = f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return next(((value, at) for at in places if (value := os.environ.get(at))), ("", places[1]))
