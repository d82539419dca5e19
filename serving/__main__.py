"""`python -m serving`: one process of the runtime, with the flags that KServe gives a container."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from serving.app import App, Backend
from slipway.errors import UserError

DRAIN_SECONDS = 10


def main() -> int:
    arguments = _parse()
    # Also before the server takes over: the transformer's imports take seconds.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if arguments.until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        if arguments.check:
            return _check(arguments.check)
        _serve(arguments, _backend(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--role", choices=["predictor", "transformer"])
    what.add_argument(
        "--check",
        type=Path,
        metavar="PACKAGE",
        help="load a package, reproduce its reference predictions, say so as JSON, and end",
    )
    parser.add_argument("--model_name", default="model")
    parser.add_argument("--model_dir", type=Path, default=Path("/mnt/models"))
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--http_port", type=int, default=8080)
    parser.add_argument("--predictor_host", default="", help="HOST:PORT of the predictor")
    parser.add_argument("--predictor_protocol", choices=["v1", "v2"], default="v1")
    parser.add_argument("--feature_store", type=Path, help="folder of the online store")
    parser.add_argument(
        "--clock",
        choices=["wall", "store"],
        default="wall",
        help="what a feature's age is measured against: now, or the store's last materialisation",
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


def _backend(arguments: argparse.Namespace) -> Backend:
    if arguments.role == "predictor":
        from serving.predictor import Predictor

        return Predictor(arguments.model_name, arguments.model_dir)
    from serving.transformer import Transformer

    return Transformer(
        arguments.model_name,
        arguments.model_dir,
        arguments.feature_store,
        arguments.clock,
        arguments.predictor_host,
        arguments.predictor_protocol,
    )


def _serve(arguments: argparse.Namespace, backend: Backend) -> None:
    import uvicorn

    uvicorn.run(
        App(backend),
        host=arguments.host,
        port=arguments.http_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def _check(folder: Path) -> int:
    from serving.predictor import Predictor

    predictor = Predictor("check", folder)
    print(json.dumps({"largest_difference": predictor.largest_difference}))
    return 0


def _stop_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
