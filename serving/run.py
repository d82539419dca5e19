"""One worker process: the service, and the servers that bring it requests."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import uvloop

from serving.app import App
from serving.listeners import Listeners
from serving.logs import configure
from serving.metrics import Metrics
from serving.server import Server
from serving.service import Service
from serving.settings import Settings
from slipway.files import read_json
from slipway.package import verify

if TYPE_CHECKING:
    from serving.workers import Crew

SWITCH_SECONDS = 0.0005
"""How long a large batch in the worker thread may keep the event loop waiting."""


def work(settings: Settings, listeners: Listeners, crew: Crew | None = None) -> None:
    """Serve until SIGTERM or SIGINT, alone or as one of a crew.

    Raises `UserError` for a package or an online store that is not right.
    """
    verify(settings.package)
    fields = configure(settings.log_format, model=settings.name)
    sys.setswitchinterval(SWITCH_SECONDS)
    # What overflows is found by its result, and refused.
    np.seterr(over="ignore")
    # Every client is an open file.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_serve(settings, listeners, crew, fields))


async def _serve(
    settings: Settings, listeners: Listeners, crew: Crew | None, fields: dict[str, object]
) -> None:
    signature = read_json(settings.package / "signature.json")
    metrics = Metrics(
        settings.role,
        settings.name,
        signature["task"],
        signature["views"],
        crew.folder if crew else None,
    )
    service = Service(settings, metrics, crew, fields)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(service.obey()))
    await service.open()
    # What is loaded stays: no collection need look at it again, which took 50 ms of some request.
    gc.collect()
    gc.freeze()
    # A request of a hundred rows is a hundred lists: nothing to look for cycles in.
    gc.set_threshold(20_000, 20, 20)
    server = Server(App(service).begin, settings.limits, settings.drain_seconds, metrics)
    if listeners.grpc is None:
        await server.serve(listeners.http, service.drain)
    else:
        from serving.rpc.server import RpcServer

        rpc = RpcServer(service)
        await rpc.start(listeners.grpc)
        await server.serve(listeners.http, service.drain, rpc.stop)
    await service.close()
    metrics.close()
