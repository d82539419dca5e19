"""Wait until services answer: what a pod does before its program starts.

    python -m ops wait --seconds 300 tcp://mariadb.storage:3306 http://mlflow.mlflow:5000/health

A TCP target must accept a connection, an HTTP one must answer with a status below 400.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from slipway.errors import UserError

_PAUSE = 1.0
_SAY = 5.0
"""Seconds between two tries, and between two lines of what is still waited for."""
_ANSWER = 3.0
"""Seconds that one try may take."""


class NotYet(Exception):
    """Why a thing is not ready; the text is for whoever watches."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops wait", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="give up after so many")
    parser.add_argument("targets", nargs="+", metavar="URL", help="tcp://host:port or http(s)://…")
    args = parser.parse_args(argv)
    return 0 if wait_for({url: _probe(url) for url in args.targets}, args.seconds) else 1


def wait_for(
    probes: Mapping[str, Callable[[], None]], seconds: float, *, ready: str = "answers"
) -> bool:
    """Run each probe until it raises `NotYet` no more; False after `seconds`.

    Says every few seconds what it still waits for and why, so that a pod's log tells who is late,
    and in the words of `ready` what has come.
    """
    started = time.monotonic()
    said = started
    left = dict(probes)
    why: dict[str, NotYet] = {}
    while True:
        for name, probe in list(left.items()):
            try:
                probe()
            except NotYet as reason:
                why[name] = reason
            else:
                del left[name]
                print(f"{name} {ready} after {time.monotonic() - started:.0f} s", flush=True)
        now = time.monotonic()
        if not left:
            return True
        if now - started >= seconds:
            print(f"error: gave up after {seconds:.0f} s: {_reasons(left, why)}", flush=True)
            return False
        if now - said >= _SAY:
            print(f"waiting for {_reasons(left, why)}", flush=True)
            said = now
        time.sleep(min(_PAUSE, max(0.0, seconds - (now - started))))


def _reasons(names: Iterable[str], why: Mapping[str, NotYet]) -> str:
    return "; ".join(f"{name} ({why[name]})" for name in names)


def _probe(url: str) -> Callable[[], None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname or port == -1:
        raise UserError(
            f"{url}: not a target to wait for.", "Write tcp://host:port or http://host:port/path."
        )
    host = parts.hostname
    if parts.scheme != "tcp":
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return lambda: _http(parts.scheme, host, port, path)
    if port is None:
        raise UserError(f"{url}: no port is given.", "Write tcp://host:port.")
    return lambda: _tcp(host, port)


def _tcp(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_ANSWER).close()
    except OSError as error:
        raise NotYet(_reason(error)) from None


def _http(scheme: str, host: str, port: int | None, path: str) -> None:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=_ANSWER)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotYet(_reason(error)) from None
    finally:
        connection.close()
    if status >= 400:
        raise NotYet(f"HTTP status {status}")


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such name yet"
    if isinstance(error, TimeoutError):
        return f"no answer within {_ANSWER:.0f} s"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or type(error).__name__).lower()
