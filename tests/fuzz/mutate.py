"""Ways in which a right request goes wrong, drawn from a `Random`: the one of a test or of chance,
or of the seed that atheris gives with an input that reached new code.
"""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

_T = TypeVar("_T")

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 2**31, 2**53 + 1, -(2**63), 2**63, 2**64, 10**400),
    *(0.5, -0.0, 1e-320, 3.5e38, -3.5e38, 1.7e308, math.nan, math.inf, -math.inf, 1e15),
    *("", " ", "red", "\0", "\ud800", "ünï", "\u202e", "a" * 5000, "NaN", "1", "null", "{}"),
    *("2024-03-01T08:00:00Z", "2024-03-01T08:00:00", "0001-01-01T00:00:00+14:00", "2024-03-01"),
    *("9999-12-31T23:59:59-14:00", "2024-02-30T00:00:00Z", "2024-03-01T08:00:00+24:00"),
    *("2024-W09-5T08Z", "2024-03-01T08:00:00.1234567890123Z", "1583-10-10T00:00:00+00:00:01"),
    *("FP32", "FP64", "FP16", "INT8", "INT64", "UINT8", "UINT64", "BYTES", "BOOL", "FP8", "BF16"),
    *("prediction", "instances", "inputs", "binary_data", "binary_data_size", "a", "kinds"),
    *(
        [],
        {},
        [[]],
        [[], []],
        [None],
        [[1]],
        [[1, 2], [3]],
        [{}],
        {"a": 1},
        {"": []},
        {"b64": "AA=="},
    ),
    *([1], [0], [-1], [1, 1], [1, 3], [3], [2**40], [2**62, 4], [0, 2**63], [1.0], ["1"], [True]),
    *([0.5] * 300, ["x"] * 300, {"binary_data_size": -1}, {"binary_data": True}),
    {"binary_data_size": 2**62},
)
"""What is put in the place of a value."""

KEYS = ("", "instances", "inputs", "name", "shape", "datatype", "data", "outputs", "id", "size")

PIECES: tuple[bytes, ...] = (
    *(
        b"\0",
        b"\xff",
        b"\xff\xfe",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b'"',
        b"\\",
        b"\\u",
    ),
    *(b"[", b"]", b"{", b"}", b":", b",", b"[" * 200, b"[" * 5000, b'{"a":' * 900, b"]" * 900),
    *(b"NaN", b"-Infinity", b"1e999", b"-", b"1" * 400, b"0" * 40, b"\r\n", b"\r\n\r\n", b"\n"),
    *(b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\x00\x00\x00", b"null"),
    *(b"0x10", b"-1", b"+1", b"1_0", b"%00", b"%ff", b"../", b"\x00" * 64, b"\x80" * 12, b"true"),
)
"""What is put between bytes."""


def json_body(rng: Random, valid: Any) -> bytes:
    """`valid` as JSON with one to three faults: in its structure, its bytes, or both."""
    value = copy.deepcopy(valid)
    kind = rng.randrange(4)
    if kind:
        for _ in range(_few(rng)):
            value = _restructure(rng, value)
    text = json.dumps(value, ensure_ascii=rng.randrange(2) == 0)
    # A lone surrogate has no UTF-8; this is what a sloppy client sends for it.
    body = text.encode("utf-8", "surrogatepass")
    return body if kind in (1, 2) else raw(rng, body)


def raw(rng: Random, data: bytes) -> bytes:
    """`data` with one to three faults in its bytes."""
    for _ in range(_few(rng)):
        data = _pick(rng, _BYTES)(rng, data)
    return data


def binary_body(rng: Random, head: dict[str, Any], parts: list[bytes]) -> tuple[bytes, bytes]:
    """A body with binary tensors, and what its header says of its JSON part's size."""
    text = json.dumps(head).encode()
    parts = list(parts)
    fault = rng.randrange(5)
    if fault == 0:
        text = json_body(rng, head)
    elif fault == 1:
        at = rng.randrange(len(parts))
        parts[at] = binary_tensor(rng, parts[at])
    elif fault == 2:
        # The sizes still say what comes; what comes is not what the types say.
        at = rng.randrange(len(parts))
        parts[at] = binary_tensor(rng, parts[at])
        head = copy.deepcopy(head)
        head["inputs"][at]["parameters"]["binary_data_size"] = len(parts[at])
        text = json.dumps(head).encode()
    length = length_text(rng, len(text)) if fault == 3 else str(len(text)).encode()
    body = text + b"".join(parts)
    return length, raw(rng, body) if fault == 4 else body


def request_path(rng: Random, name: str, version: str) -> str:
    """A path near to one that exists, as it is written on the wire."""
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    path: str = _pick(
        rng,
        (
            *("/", v1, f"{v1}:predict", f"{v1}:explain", v2, f"{v2}/infer", f"{v2}/ready"),
            *(f"{v2}/versions/{version}{end}" for end in ("", "/infer", "/ready", "/nothing")),
            *("/v1/models", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
            *("/metrics", "/openapi.json", f"/v2/repository/models/{name}/load"),
        ),
    )
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(path) + 1)
        piece = _pick(
            rng,
            (
                *("/", "//", ":", "?", "%", "%2f", "%00", "%0a", "%ff", "%ed%a0%80", "..", "/../"),
                *(
                    "/versions",
                    "/versions/",
                    ":predict",
                    "nobody",
                    "~",
                    "a" * 300,
                    "#",
                    "&x=1",
                    "*",
                ),
            ),
        )
        path = path[:at] + piece + path[at + rng.randrange(3) :]
    return path if path.startswith("/") else f"/{path}"


def headers(rng: Random) -> list[tuple[bytes, bytes]]:
    """Headers that the server reads, mostly with what nobody would send."""
    names = (
        *(b"content-type", b"content-encoding", b"accept", b"accept-encoding", b"x-request-id"),
        *(b"inference-header-content-length", b"traceparent", b"tracestate", b"connection"),
        *(b"authorization", b"x-" + b"a" * 300, b"cookie", b"host"),
    )
    values = (
        *(b"", b"application/json", b"gzip", b"identity", b"\xff\xfe", b"a" * 3000, b"*/*;q=x"),
        *(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"00-xyz", b"-1", b"a=b,c"),
        *(b"application/openmetrics-text; version=1.0.0", b"keep-alive", b"\t\t", b"7" * 5000),
    )
    return [(_pick(rng, names), _pick(rng, values)) for _ in range(rng.randrange(3))]


def raw_requests(name: str, body: bytes) -> list[bytes]:
    """Right requests as bytes: by length, chunked, by an old client, two at once, and so on."""
    v1 = f"/v1/models/{name}:predict".encode()
    length = b"content-length: %d\r\n" % len(body)
    first, rest = body[:20], body[20:]
    chunks = b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(first), first, len(rest), rest)
    post = b"POST " + v1 + b" HTTP/1.1\r\nhost: a\r\n"
    get = b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\n\r\n"
    return [
        post + length + b"\r\n" + body,
        post + length + b"expect: 100-continue\r\n\r\n" + body,
        post + b"transfer-encoding: chunked\r\n\r\n" + chunks,
        b"POST " + v1 + b" HTTP/1.0\r\n" + length + b"\r\n" + body,
        post + length + b"connection: close\r\n\r\n" + body,
        get,
        get * 2,
        get + post + length + b"\r\n" + body,
    ]


def length_text(rng: Random, right: int) -> bytes:
    """What comes in a header that should say how long something is."""
    near = right + rng.randrange(-4, 5)
    return _pick(
        rng,
        (
            *(str(near).encode(), str(right).encode(), b"-1", b"0", b"", b" ", b"1e3", b"0x10"),
            *(b"99999999999999999999999", str(2**63).encode(), b"12,12", b"\xb2", b"1.0", b"+5"),
            *(str(right * 2).encode(), str(right // 2).encode(), b"null", b"7" * 5000),
        ),
    )


def binary_tensor(rng: Random, raw_bytes: bytes) -> bytes:
    """Little-endian bytes of a tensor, mostly with a length that lies."""
    if rng.randrange(3) == 0:
        return raw(rng, raw_bytes)
    if rng.randrange(2) == 0 and len(raw_bytes) >= 4:
        length = _pick(rng, (0, 1, 2, 5, 2**31 - 1, 2**31, 2**32 - 1, len(raw_bytes)))
        return struct.pack("<I", length) + raw_bytes[4:]
    return raw_bytes[: rng.randrange(len(raw_bytes) + 1)]


def _restructure(rng: Random, root: Any) -> Any:
    """`root` with a fault at one of its places; a place deep inside is as likely as one outside."""
    places = list(_places(root))
    if not places or rng.randrange(20) == 0:
        return copy.deepcopy(_pick(rng, VALUES))
    parent, key = _pick(rng, places)
    fault = rng.randrange(8)
    if fault == 0:
        del parent[key]
    elif fault == 1 and isinstance(parent, dict):
        parent[_pick(rng, KEYS)] = parent.pop(key)
    elif fault == 2:
        other, at = _pick(rng, places)
        if at in other if isinstance(other, dict) else at < len(other):
            parent[key] = copy.deepcopy(other[at])
    elif fault == 3:
        parent[key] = [parent[key]] * rng.randrange(4)
    elif fault == 4 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif fault == 5 and isinstance(parent, dict):
        parent[_pick(rng, KEYS)] = copy.deepcopy(_pick(rng, VALUES))
    else:
        parent[key] = copy.deepcopy(_pick(rng, VALUES))
    return root


def _places(node: Any) -> Any:
    """Every (container, key) below `node`; of long lists the start."""
    keys = (
        list(node)
        if isinstance(node, dict)
        else range(min(len(node), 8))
        if isinstance(node, list)
        else ()
    )
    for key in keys:
        yield node, key
        yield from _places(node[key])


def _flip(rng: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + _pick(rng, PIECES) + data[at:]


def _overwrite(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = _pick(rng, PIECES)
    return data[:at] + piece + data[at + len(piece) :]


def _cut(rng: Random, data: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:start] + data[end:]


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _repeat(rng: Random, data: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:end] + data[start:end] * rng.randrange(1, 4) + data[end:]


_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_flip, _insert, _overwrite, _cut, _truncate, _repeat),
)


def _few(rng: Random) -> int:
    """Mostly one: the second fault is seldom reached."""
    return _pick(rng, (1, 1, 1, 2, 4))


def _pick(rng: Random, choices: Sequence[_T]) -> _T:
    return choices[rng.randrange(len(choices))]
