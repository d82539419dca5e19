"""`python -m serving`: one process of the runtime, with the flags that KServe gives a container."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import get_args

from serving.listeners import listen
from serving.settings import Limits, Role, Settings
from slipway.errors import UserError


def main() -> int:
    arguments = _parse()
    # Also before the server takes over: the imports of Feast take a second.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if arguments.until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    try:
        if arguments.check:
            return _check(arguments.check)
        return _serve(_settings(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _serve(settings: Settings) -> int:
    listeners = listen(settings)
    if settings.workers > 1:
        from serving.workers import run_workers

        return run_workers(settings, listeners)
    from serving.run import work

    work(settings, listeners)
    return 0


def _parse() -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--role",
        choices=get_args(Role),
        help="predictor: full rows in; transformer: looks up online features and asks a predictor; "
        "combined: looks them up and predicts, in one process",
    )
    what.add_argument(
        "--check",
        type=Path,
        metavar="PACKAGE",
        help="load a package, reproduce its reference predictions, say so as JSON, and end",
    )
    parser.add_argument("--model_name", default="model")
    parser.add_argument(
        "--model_dir", type=Path, default=Path("/mnt/models"), help="the model package"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http_port", type=int, default=8080)
    parser.add_argument("--grpc_port", type=int, help="left out: no gRPC")
    parser.add_argument("--predictor_host", default="", help="HOST:PORT of the predictor")
    parser.add_argument("--predictor_protocol", choices=["v1", "v2"], default="v2")
    parser.add_argument("--feature_store", type=Path, help="folder of the online store")
    parser.add_argument(
        "--clock",
        choices=["wall", "store"],
        default="wall",
        help="what a feature's age is measured against: now, or the store's last materialisation",
    )
    parser.add_argument("--payload_log", type=Path, help="folder for requests and answers")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the port")
    parser.add_argument("--log_format", choices=["json", "text"], default="json")
    group = parser.add_argument_group("limits")
    group.add_argument("--max_body", type=int, default=limits.body, help="bytes of a request")
    group.add_argument("--max_rows", type=int, default=limits.rows, help="rows of a request")
    group.add_argument(
        "--max_concurrency",
        type=int,
        default=limits.concurrency,
        help="requests at once in one process; more get 503",
    )
    group.add_argument(
        "--timeout", type=float, default=limits.seconds, help="seconds for an answer; then 504"
    )
    group.add_argument(
        "--read_timeout",
        type=float,
        default=limits.reading,
        help="seconds for a request to arrive whole; then 408",
    )
    group.add_argument(
        "--drain_timeout",
        type=float,
        default=Settings.drain_seconds,
        help="seconds for connections to end after SIGTERM",
    )
    parser.add_argument(
        "--until_stdin_closes",
        action="store_true",
        help="stop when stdin ends: so a child ends with its parent, whatever killed it",
    )
    arguments = parser.parse_args()
    if arguments.role == "transformer" and not arguments.predictor_host:
        parser.error("a transformer needs --predictor_host")
    return arguments


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        role=arguments.role,
        name=arguments.model_name,
        package=arguments.model_dir,
        http_port=arguments.http_port,
        host=arguments.host,
        grpc_port=arguments.grpc_port,
        predictor=arguments.predictor_host,
        predictor_protocol=arguments.predictor_protocol,
        feature_store=arguments.feature_store,
        clock=arguments.clock,
        payload_log=arguments.payload_log,
        workers=arguments.workers,
        log_format=arguments.log_format,
        drain_seconds=arguments.drain_timeout,
        limits=Limits(
            body=arguments.max_body,
            rows=arguments.max_rows,
            concurrency=arguments.max_concurrency,
            seconds=arguments.timeout,
            reading=arguments.read_timeout,
        ),
    )


def _check(folder: Path) -> int:
    from serving.served import reproduce
    from slipway.package import Model, verify

    verify(folder)
    print(json.dumps({"largest_difference": reproduce(folder, Model.load(folder))}))
    return 0


def _stop_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
