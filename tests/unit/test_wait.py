"""A pod that waits says for what, goes on as soon as it may, and gives up in the end."""

import http.server
import socket
import subprocess
import sys
import threading
import time

import pytest

from ops.__main__ import main
from ops.wait import NotYet, wait_for
from slipway.errors import UserError


@pytest.fixture
def web():
    """A server that answers with the status that its path names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/?")))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_it_goes_on_when_all_answer(web, capsys):
    assert main(["wait", "--seconds", "5", f"tcp://{web}", f"http://{web}/204"]) == 0
    assert capsys.readouterr().out.count("answers after 0 s") == 2


def test_it_gives_up_and_names_who_is_late_and_why(web, closed, capsys):
    bad, gone = f"http://{web}/503", f"http://{web}/404"
    targets = [f"tcp://{closed}", bad, gone, f"http://{web}/200", "tcp://no.invalid:1"]
    assert main(["wait", "--seconds", "0.2", *targets]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        f"error: gave up after 0 s: tcp://{closed} (connection refused); "
        f"{bad} (HTTP status 503); {gone} (HTTP status 404); tcp://no.invalid:1 (no such name yet)"
    )


def test_it_says_every_few_seconds_what_it_waits_for(monkeypatch, capsys):
    monkeypatch.setattr("ops.wait._SAY", 0.2)
    monkeypatch.setattr("ops.wait._PAUSE", 0.05)
    ready = time.monotonic() + 0.5

    def late():
        if time.monotonic() < ready:
            raise NotYet("still starting")

    assert wait_for({"quick": lambda: None, "slow": late}, 10)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "quick answers after 0 s"
    assert said[1] == "waiting for slow (still starting)"
    assert len(said) < 6, "not a line for each try"


@pytest.mark.parametrize("url", ["mariadb:3306", "tcp://host", "http://", "tcp://host:port"])
def test_what_is_no_target_is_refused(url):
    from ops import wait

    with pytest.raises(UserError, match=r"Write tcp://host:port"):
        wait.main([url])


def test_a_pod_that_waits_ends_at_once_when_it_is_told_to(closed):
    command = [sys.executable, "-m", "ops", "wait", "--seconds", "60", f"tcp://{closed}"]
    with subprocess.Popen(command) as process:
        time.sleep(1.5)
        process.terminate()
        assert process.wait(5) == 143


def test_an_unknown_command_lists_those_that_there_are(capsys):
    assert main(["wiat"]) == 2
    assert "wait until services answer" in capsys.readouterr().err
