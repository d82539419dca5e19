"""What is known of a request beside its rows."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping
from typing import Literal

from serving.trace import traceparent

Protocol = Literal["v1", "v2", "grpc"]
Headers = Mapping[bytes, bytes]
"""Names in lower case."""

NO_HEADERS: Headers = {}
_PROCESS = secrets.token_hex(6)
_count = itertools.count()


class Call:
    """A request on its way."""

    __slots__ = ("_id", "at", "context", "deadline", "headers", "protocol")

    def __init__(
        self, protocol: Protocol, deadline: float, headers: Headers = NO_HEADERS, given: str = ""
    ) -> None:
        """`deadline` is a moment of `time.monotonic()`, `given` the client's name of it."""
        self.protocol = protocol
        self.at = time.time()
        """When it came, in Unix seconds."""
        self.deadline = deadline
        self.headers = headers
        self.context: dict[str, str] | None = None
        """The trace context of a span of ours."""
        self._id = given

    @property
    def passed_on(self) -> dict[str, str]:
        """Headers of the call to the predictor that this request leads to."""
        context = self.context or traceparent(self.headers.items())
        return context | {"x-request-id": self.id}

    @property
    def id(self) -> str:
        """The client's, or one that no other request has."""
        if not self._id:
            self._id = f"{_PROCESS}-{next(_count):x}"
        return self._id

    @id.setter
    def id(self, given: str) -> None:
        self._id = given
