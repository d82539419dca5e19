"""What every answer must be, whatever was asked."""

from __future__ import annotations

import json
import math
from typing import Any

MEANT = {400, 404, 405, 408, 413, 414, 415, 422, 429, 431, 503, 504}
"""The statuses of a refusal; any other one, a 500 above all, is a fault of the server."""

LEAKS = (
    *("Traceback", "Error(", "Exception", 'File "', "object at 0x", "<class", "NoneType", ".py"),
    *("numpy", "orjson", "pyarrow", "onnxruntime", "asyncio", "protobuf", "serving.", "slipway."),
    *("RecursionError", "ValueError", "TypeError", "KeyError", "codec", "argument", "struct."),
)
"""Words of exception texts and of our insides, that a sentence for a client never holds."""

LONGEST = 1000
"""Characters of a sentence: what a client sent must be shown short."""


def refusal(message: str, sent: bytes) -> None:
    """Raises `AssertionError` unless `message` is one sentence for a client that sent `sent`."""
    assert message, "an empty error"
    assert len(message) <= LONGEST, f"{len(message)} characters: {message[:200]}"
    assert "\n" not in message, message
    assert message.endswith("."), message
    leaked = [word for word in LEAKS if word in message and word.encode() not in sent]
    assert not leaked, f"{leaked} in {message}"


def rest(status: int, content_type: str, body: bytes, sent: bytes) -> None:
    """Raises `AssertionError` unless a REST answer is right in form."""
    if status == 200:
        if content_type.startswith("application/json"):
            finite(json.loads(body, parse_constant=_constant))
        return
    assert status in MEANT, f"{status}: {body[:300]!r}"
    assert content_type.startswith("application/json"), f"{status} {content_type}: {body[:300]!r}"
    answer = json.loads(body)
    assert isinstance(answer, dict), body
    assert answer.keys() == {"error"}, body
    refusal(answer["error"], sent)


def finite(value: Any) -> None:
    """Raises `AssertionError` for NaN or infinity anywhere: JSON has none, and clients fail."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            finite(item)
    elif isinstance(value, float):
        assert math.isfinite(value), value


def _constant(name: str) -> Any:
    raise AssertionError(f"{name} in an answer")
