"""The ways in, each as a function of bytes: what a fuzzer varies, and how a right input looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz import grpc_calls, judge, mutate
from tests.fuzz.direct import Direct
from tests.fuzz.models import KINDS, NUMBERS, write_kinds, write_numbers
from tests.fuzz.target import Target, keep, valid
from tests.fuzz.wire import answers

NAMES = ("v1", "v2", "binary", "explain", "grpc", "http", "http2")


@dataclass(frozen=True)
class Case:
    right: list[bytes]
    run: Callable[[bytes], bool]
    """Whether an input was answered with a prediction. Raises `AssertionError` for an answer that
    must not be, `TimeoutError` for none."""
    wrong: Callable[[Random, bytes], bytes]
    """An input with faults."""


def load(name: str, folder: Path) -> Case:
    """The case `name`; models and what it finds go to `folder`."""
    # Matrices and the range checks of numbers are reached by the second model.
    model, write = (NUMBERS, write_numbers) if name == "binary" else (KINDS, write_kinds)
    package = folder / model
    if not package.exists():
        write(package)
    direct = Direct(model, package)
    right = valid(package)
    target = Target(model, direct.ask, right, folder / "found")
    rows = [json.dumps(right.v1).encode(), json.dumps(right.v1_lists).encode()]
    if name == "v1":
        return Case(rows, lambda data: target.v1(data).status == 200, _json)
    if name == "explain":
        return Case(rows, lambda data: target.explain(data).status == 200, _json)
    if name == "v2":
        tensors = [json.dumps(right.v2).encode()]
        return Case(tensors, lambda data: target.v2(data).status == 200, _json)
    if name == "binary":
        return _binary(target)
    if name == "grpc":
        return _grpc(direct, target)
    if name == "http":
        return _http(direct, target)
    return _http2(direct, target)


def _json(rng: Random, data: bytes) -> bytes:
    try:
        return mutate.json_body(rng, json.loads(data))
    except (ValueError, RecursionError):
        return mutate.raw(rng, data)


def _binary(target: Target) -> Case:
    """The input is the header's value, a line end, and the body."""
    head = json.dumps(target.valid.binary_head).encode()
    parts = target.valid.binary_parts

    def run(data: bytes) -> bool:
        length, _, body = data.partition(b"\n")
        return target.binary(length, body).status == 200

    def wrong(rng: Random, data: bytes) -> bytes:
        if rng.randrange(2):
            return mutate.raw(rng, data)
        return b"\n".join(mutate.binary_body(rng, target.valid.binary_head, parts))

    matrix = {"name": "x", "datatype": "FP64", "shape": [3, 3]}
    whole = json.dumps({"inputs": [matrix | {"parameters": {"binary_data_size": 72}}]}).encode()
    right = [
        b"%d\n" % len(head) + head + b"".join(parts),
        b"%d\n" % len(whole) + whole + b"".join(parts),
    ]
    return Case(right, run, wrong)


def _grpc(direct: Direct, target: Target) -> Case:
    right = [
        grpc_calls.typed(target.name, target.valid.v2),
        grpc_calls.raw(target.name, target.valid.v2, target.valid.binary_parts),
    ]

    def run(data: bytes) -> bool:
        try:
            return direct.infer(data)
        except Exception as error:
            error.add_note(f"for the message in {keep(target.found, 'grpc', data)}")
            raise

    def wrong(rng: Random, data: bytes) -> bytes:
        return (
            grpc_calls.wrong(rng, rng.choice(right)) if rng.randrange(2) else mutate.raw(rng, data)
        )

    return Case([message.SerializeToString() for message in right], run, wrong)


def _http(direct: Direct, target: Target) -> Case:
    def run(data: bytes) -> bool:
        try:
            found = answers(direct.exchange(direct.http, data))
            for answer in found:
                if answer.status != 100 and (answer.body or answer.status < 400):
                    judge.rest(answer.status, answer.headers["content-type"], answer.body, data)
        except Exception as error:
            error.add_note(f"for the bytes in {keep(target.found, 'http', data)}")
            raise
        return any(answer.status == 200 for answer in found)

    body = json.dumps(target.valid.v1).encode()
    return Case(mutate.raw_requests(target.name, body), run, mutate.raw)


def _http2(direct: Direct, target: Target) -> Case:
    message = grpc_calls.typed(target.name, target.valid.v2).SerializeToString()
    frames = grpc_calls.connection(message)

    def run(data: bytes) -> bool:
        try:
            received = direct.exchange(direct.grpc, data)
            assert b"Traceback" not in received, received
            assert b"The server failed" not in received, received
        except Exception as error:
            error.add_note(f"for the bytes in {keep(target.found, 'http2', data)}")
            raise
        return b"prediction" in received

    def wrong(rng: Random, data: bytes) -> bytes:
        if rng.randrange(2):
            return grpc_calls.wrong_connection(rng, frames)
        return mutate.raw(rng, data)

    return Case([b"".join(frames)], run, wrong)
