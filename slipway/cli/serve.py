"""`slipway serve`: the champion on loopback, with the MLflow UI beside it, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from slipway.cli._options import project_option
from slipway.cli._requests import ENDPOINT, example_request
from slipway.errors import UserError
from slipway.files import read_json, write_json
from slipway.project import Project


@click.command()
@project_option
@click.option("--port", default=8080, show_default=True, help="Port of the endpoint.")
@click.option("--grpc-port", default=8081, show_default=True, help="Port of gRPC.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of the MLflow UI.")
def serve(project: Path, port: int, grpc_port: int, mlflow_port: int) -> None:
    """Serve the champion on loopback until Ctrl-C: KServe protocol, metrics, MLflow UI."""
    from serving.endpoint import serving
    from slipway.registry import Registry

    loaded = Project.load(project)
    name, home = loaded.contract.name, loaded.home
    click.echo(f"looking up the champion of {name}", err=True)
    champion = Registry(loaded).champion()
    if champion is None:
        raise UserError(f"{name} has no champion yet.", "Run `make demo` first.")
    state = home.feast / "state.json"
    if not state.exists():
        raise UserError(f"{home.feast} holds no online store.", "Run `make demo` first.")
    moment = read_json(state)["moment"]
    # The reference data ended long ago: on today's clock every feature would be stale.
    clock = "store" if loaded.contract.as_of else "wall"

    payloads = home.serving / "payloads"
    flags = (
        *("--feature_store", home.feast, "--clock", clock),
        *("--payload_log", payloads, "--grpc_port", str(grpc_port)),
    )

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with (
        serving(name, champion.package, home.serving, "combined", *flags, port=port) as endpoint,
        _mlflow(loaded, mlflow_port),
    ):
        endpoint.wait_until_ready()
        here = home.serving / ENDPOINT
        write_json(here, {"url": endpoint.url, "name": name, "version": champion.version})
        body = json.dumps({"instances": [example_request(loaded, champion.package)]})
        click.echo(
            f"\n{click.style(name, bold=True)} version {champion.version}, features as of {moment}"
            + (" (the clock stands there)" if clock == "store" else "")
            + f"""

  endpoint  {endpoint.url}/v1/models/{name}:predict   and {endpoint.url}/v2/models/{name}
  gRPC      127.0.0.1:{grpc_port}   inference.GRPCInferenceService
  metrics   {endpoint.url}/metrics   API {endpoint.url}/openapi.json
  payloads  {payloads}
  MLflow    http://127.0.0.1:{mlflow_port}

curl -s {endpoint.url}/v1/models/{name}:predict -d '{body}'

Ctrl-C stops all of it."""
        )
        try:
            while not stop.wait(1):
                endpoint.check()
        finally:
            here.unlink(missing_ok=True)
    click.echo("stopped", err=True)


@contextmanager
def _mlflow(project: Project, port: int) -> Iterator[None]:
    """The MLflow UI over the embedded store."""
    home = project.home
    home.serving.mkdir(parents=True, exist_ok=True)
    with (home.serving / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", home.tracking_uri),
                *("--default-artifact-root", home.artifacts.as_uri()),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # Eight more processes and 1.4 GB, for jobs that we do not have.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
