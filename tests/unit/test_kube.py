"""Calls of the Kubernetes API, against a server that answers as one in trouble does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from kubernetes.client import ApiException

from slipway import kube
from slipway.errors import UserError


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Answers every call with the next of `statuses`; the kubeconfig names it."""

    class Handler(BaseHTTPRequestHandler):
        statuses: ClassVar[list[int]] = []

        def do_GET(self):
            body = b'{"kind": "Status"}'
            self.send_response(self.statuses.pop(0))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *of):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        config = tmp_path / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {"server": f"http://127.0.0.1:{running.server_port}"},
                        }
                    ],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", f"{config}"
        )
        yield Handler
        running.shutdown()


def passes(api):
    """Whether a call fails in a way that is waited for."""
    try:
        api.call("GET", "/x")
    except ApiException as error:
        return api.passing(error)
    raise AssertionError("it was answered")


def test_a_server_that_is_away_is_waited_for_but_not_for_ever(server, monkeypatch):
    server.statuses = [503, 429, 500]
    api = kube.Kube("here")
    assert passes(api)
    assert passes(api)
    monkeypatch.setattr(kube, "PATIENCE", 0)
    assert not passes(api)


@pytest.mark.parametrize("between", [200, 404])
def test_whatever_it_answers_between_two_failures_starts_the_patience_anew(
    server, monkeypatch, between
):
    server.statuses = [503, between, 503]
    api = kube.Kube("here")
    assert passes(api)
    api._failing_since -= kube.PATIENCE  # long ago
    api.find("/x")
    assert passes(api)


def test_what_stays_wrong_is_not_waited_for(server):
    server.statuses = [404, 403]
    api = kube.Kube("here")
    assert not passes(api)
    with pytest.raises(UserError, match="Kubernetes forbids GET /x"):
        api.call("GET", "/x")


def test_a_context_that_is_not_there_is_one_sentence(server):
    with pytest.raises(UserError, match=r"no cluster can be reached.*nowhere"):
        kube.Kube("nowhere")
