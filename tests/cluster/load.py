"""A client that keeps asking, and counts what was lost.

    with Load(url, host, path, body) as load:
        ...                      # promote, kill, roll
    assert load.lost == []

By hand: python tests/cluster/load.py URL HOST PATH BODY SECONDS
"""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import httpx


@dataclass
class Load:
    """`connections` clients that send a request each `pause` seconds, until the block ends."""

    url: str
    host: str
    path: str
    body: Any
    connections: int = 8
    pause: float = 0.05
    timeout: float = 15
    answers: Counter[str] = field(default_factory=Counter)
    """How often which prediction came: it tells the version."""
    lost: list[str] = field(default_factory=list)
    """What was not answered with 200, and when, in seconds since the start."""
    slowest: float = 0.0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self.timeout + 5)
        assert not self._thread.is_alive(), "a request was not answered at all"
        assert self.answers, f"nothing was answered, so nothing can be told:\n{self}"

    @property
    def sent(self) -> int:
        return self.answers.total() + len(self.lost)

    def __str__(self) -> str:
        told = f"{self.sent} sent, answers {dict(self.answers)}, slowest {self.slowest:.2f} s"
        return "\n".join([f"{told}, {len(self.lost)} lost", *self.lost[:20]])

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except Exception as error:  # a client that ended sees no loss: that is one
            self._lose(f"no more was asked, because of {error!r}")

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=self.connections)
        headers = {"host": self.host, "content-type": "application/json"}
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, limits=limits, timeout=self.timeout, trust_env=False
        ) as client:
            await asyncio.gather(*(self._one(client) for _ in range(self.connections)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        content = json.dumps(self.body)
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = await client.post(self.path, content=content)
            except httpx.HTTPError as error:
                self._lose(f"{type(error).__name__} {error}")
            else:
                if answer.status_code == 200:
                    self.answers[str(answer.json()["predictions"][0])] += 1
                else:
                    self._lose(f"{answer.status_code} {answer.text[:100]}")
            self.slowest = max(self.slowest, time.monotonic() - started)
            await asyncio.sleep(self.pause)

    def _lose(self, what: str) -> None:
        self.lost.append(f"{time.monotonic() - self._began:.1f} s: {what}")


if __name__ == "__main__":
    _url, _host, _path, _body, _seconds = sys.argv[1:]
    with Load(_url, _host, _path, json.loads(_body)) as running:
        time.sleep(float(_seconds))
    print(running)
