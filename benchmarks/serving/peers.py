"""The servers: how each is started, and where it takes a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.serving.cases import MODEL, Protocol

if TYPE_CHECKING:
    from benchmarks.serving.workload import Files

SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Place:
    """What a server is given to start with."""

    python: Path
    """Of its environment."""
    files: Files
    folder: Path
    """Empty, its own."""
    port: int
    """Of what is measured."""
    spare: tuple[int, int, int]
    """More ports that are free."""


@dataclass(frozen=True)
class Command:
    words: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    environment: str
    """Its folder under .bench/, or nothing: ours."""
    paths: Mapping[Protocol, str]
    """Of each protocol that it speaks; `{rows}` is filled in."""
    commands: Callable[[Place], list[Command]]
    """The processes that together are the server."""


def _ours(role: str, place: Place, package: Path, port: int, *flags: str) -> Command:
    return Command(
        [
            *(str(place.python), "-m", "serving", "--role", role, "--model_name", MODEL),
            *("--model_dir", str(package), "--http_port", str(port), *flags),
        ]
    )


def _predictor(place: Place) -> list[Command]:
    grpc = ("--grpc_port", str(place.spare[0]))
    return [_ours("predictor", place, place.files.package, place.port, *grpc)]


def _combined(store: str) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        features = place.files.features
        assert features
        flags = ("--feature_store", str(features.stores[store]))
        return [_ours("combined", place, features.package, place.port, *flags)]

    return commands


def _transformer(place: Place) -> list[Command]:
    features = place.files.features
    assert features
    flags = ("--feature_store", str(features.stores["sqlite"]))
    behind = ("--predictor_host", f"127.0.0.1:{place.spare[0]}")
    return [
        _ours("predictor", place, features.package, place.spare[0]),
        _ours("transformer", place, features.package, place.port, *flags, *behind),
    ]


def _program(name: str, place: Place, *flags: str, **more: str) -> Command:
    environment = {
        "BENCH_PORT": str(place.port),
        "BENCH_MODEL": str(place.files.package / "model.onnx"),
        "BENCH_ANSWERS": str(place.files.answers),
    }
    return Command([str(place.python), str(SERVERS / name), *flags], environment | more)


def _stock(place: Place) -> list[Command]:
    ports = ("--http_port", str(place.port), "--grpc_port", str(place.spare[0]))
    return [_program("stock_kserve.py", place, *ports)]


def _stock_feast(store: str, one_process: bool) -> Callable[[Place], list[Command]]:
    def commands(place: Place) -> list[Command]:
        features = place.files.features
        assert features
        more = {
            "BENCH_FEAST": str(features.repositories[store]),
            "BENCH_MODEL": str(features.package / "model.onnx"),
            "BENCH_ONE_PROCESS": str(int(one_process)),
        }
        front = ["--http_port", str(place.port), "--grpc_port", str(place.spare[0])]
        if one_process:
            return [_program("stock_kserve_feast.py", place, *front, **more)]
        behind = str(place.spare[1])
        return [
            _program(
                "stock_kserve.py",
                place,
                *("--http_port", behind, "--grpc_port", str(place.spare[2])),
                BENCH_MODEL=more["BENCH_MODEL"],
            ),
            _program(
                "stock_kserve_feast.py",
                place,
                *(*front, "--predictor_host", f"127.0.0.1:{behind}"),
                **more,
            ),
        ]

    return commands


def _mlserver(place: Place) -> list[Command]:
    settings = {
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": place.spare[0],
        "metrics_port": place.spare[1],
        # Its fastest: inference in the process that answers.
        "parallel_workers": 0,
        "debug": False,
    }
    (place.folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": MODEL, "implementation": "on_mlserver.Runtime"}
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    start = _program("on_mlserver.py", place)
    words = [str(place.python.parent / "mlserver"), "start", str(place.folder)]
    return [Command(words, {**start.environment, "PYTHONPATH": str(SERVERS)})]


def _bentoml(place: Place) -> list[Command]:
    start = _program("on_bentoml.py", place)
    words = [
        *(str(place.python.parent / "bentoml"), "serve", "on_bentoml:Bench"),
        *("--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(place.port)),
    ]
    environment = {"BENTOML_HOME": str(place.folder), "BENTOML_DO_NOT_TRACK": "true"}
    return [Command(words, {**start.environment, **environment})]


def _alone(program: str) -> Callable[[Place], list[Command]]:
    return lambda place: [_program(program, place)]


V1 = f"/v1/models/{MODEL}:predict"
V2 = f"/v2/models/{MODEL}/infer"
GRPC = "/inference.GRPCInferenceService/ModelInfer"
ALL: dict[Protocol, str] = {"v1": V1, "v2": V2, "binary": V2, "grpc": GRPC}
FEATURES: dict[Protocol, str] = {"features": V1}

ECHO, OURS, STOCK = "echo", "predictor", "kserve"
# Those whose ratios are bars stand beside each other, so that they are measured within a minute.
PEERS = (
    Peer(ECHO, "echo on uvicorn", "", {"v1": "/v1/{rows}", "v2": "/v2/{rows}"}, _alone("echo.py")),
    Peer(OURS, "**Slipway** predictor", "", ALL, _predictor),
    Peer(STOCK, "stock KServe 0.21", "kserve", ALL, _stock),
    Peer("mlserver", "MLServer", "mlserver", {"v2": V2, "grpc": GRPC}, _mlserver),
    Peer(
        "fastapi", "FastAPI + ONNX Runtime", "fastapi", {"v1": "/predict"}, _alone("on_fastapi.py")
    ),
    Peer("litserve", "LitServe", "litserve", {"v1": "/predict"}, _alone("on_litserve.py")),
    Peer("bentoml", "BentoML", "bentoml", {"v1": "/predict"}, _bentoml),
    Peer("ray", "Ray Serve", "ray", {"v1": "/"}, _alone("on_ray.py")),
    *(
        Peer(name, title, environment, FEATURES, commands)
        for name, title, environment, commands in (
            ("combined-sqlite", "**Slipway** combined, SQLite", "", _combined("sqlite")),
            (
                "kserve-feast-sqlite",
                "stock KServe: Feast SDK in the transformer, SQLite",
                "kserve",
                _stock_feast("sqlite", False),
            ),
            ("combined-redis", "**Slipway** combined, Redis", "", _combined("redis")),
            (
                "kserve-feast-redis",
                "stock KServe: Feast SDK in the transformer, Redis",
                "kserve",
                _stock_feast("redis", False),
            ),
            ("transformer", "**Slipway** transformer and predictor, SQLite", "", _transformer),
            (
                "kserve-feast-one-sqlite",
                "stock KServe: Feast SDK and model in one process, SQLite",
                "kserve",
                _stock_feast("sqlite", True),
            ),
            (
                "kserve-feast-one-redis",
                "stock KServe: Feast SDK and model in one process, Redis",
                "kserve",
                _stock_feast("redis", True),
            ),
        )
    ),
)
