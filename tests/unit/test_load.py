"""The client that counts lost requests in tests/cluster sees every way to lose one."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cluster.load import Load

GOOD = (200, json.dumps({"predictions": [10.0]}))
CLOSED = (0, "")
"""The connection is closed without an answer."""


@contextmanager
def load(*answers):
    """A load on a server that gives these answers once, and good ones before and after."""
    left = [GOOD, GOOD, *answers]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            status, text = left.pop(0) if left else GOOD
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with Load(url, "m.localhost", "/", {}, connections=1, pause=0, timeout=2) as running:
                end = time.monotonic() + 10
                while not running.lost and running.sent < 50 and time.monotonic() < end:
                    time.sleep(0.02)
            yield running
        finally:
            server.shutdown()
            thread.join()


def test_where_all_is_answered_nothing_is_lost():
    with load() as running:
        assert running.lost == []
        assert running.answers["10.0"] == running.sent >= 50


@pytest.mark.parametrize(
    "answer", [(502, "bad gateway"), (404, "no route"), CLOSED, (200, "<html>"), (200, "{}")]
)
def test_whatever_is_no_prediction_is_lost(answer):
    with load(answer) as running:
        assert len(running.lost) == 1


def test_a_load_that_nobody_answered_proves_nothing():
    nobody = Load("http://127.0.0.1:9", "m.localhost", "/", {}, connections=1)
    with pytest.raises(AssertionError, match="nothing was answered"), nobody:
        time.sleep(0.2)
