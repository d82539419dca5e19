"""Structured logs on stderr: one JSON object a line, or text for people."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import orjson

SLOW_SECONDS = 1.0
"""A request that takes longer is worth a line."""
FIELDS = ("model", "version", "request_id", "trace_id", "protocol", "code", "seconds")
"""What a log call may say in `extra`, apart from its message."""
_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), 127)}
log = logging.getLogger("serving")


def configure(format: Literal["json", "text"], **always: Any) -> dict[str, Any]:
    """Send every logger's lines to stderr, uvicorn's and those of uncaught errors too.

    `always` are fields of each line, such as the model; the dict that is returned holds them and
    may be changed later.
    """
    formatter = _Json(always) if format == "json" else _Text(always)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # A line per request is worth less than it costs.
    for name in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    return always


def access(protocol: str, code: int, seconds: float, fields: Mapping[str, Any]) -> None:
    """A line for an answer that is a server's error or was slow; none for all others."""
    if code >= 500 or seconds >= SLOW_SECONDS:
        level = logging.ERROR if code >= 500 else logging.WARNING
        extra = {"protocol": protocol, "code": code, "seconds": round(seconds, 6), **fields}
        log.log(level, "answered %d after %.3f s", code, seconds, extra=extra)


class _Fields(logging.Formatter):
    def __init__(self, always: Mapping[str, Any]) -> None:
        super().__init__()
        self._always = always

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        said = {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name)}
        return {**self._always, **said}


class _Json(_Fields):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        # A path that is not UTF-8 has lone surrogates, which JSON cannot hold.
        line = {
            name: value.encode("utf-8", "backslashreplace").decode()
            if isinstance(value, str)
            else value
            for name, value in line.items()
        }
        return orjson.dumps(line, default=str).decode()


class _Text(_Fields):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")
        fields = "".join(f" {name}={value}" for name, value in self.fields(record).items())
        line = f"{time} {record.levelname} {record.name} {record.getMessage()}{fields}"
        # What a client wrote must not look like a line of ours, or steer a terminal.
        line = line.translate(_CONTROL).encode("utf-8", "backslashreplace").decode()
        if record.exc_info and record.exc_info[0]:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("%s", error or kind.__name__, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else "?"
        exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
        log.critical("thread %s ended: %s", name, args.exc_value, exc_info=exc_info)
