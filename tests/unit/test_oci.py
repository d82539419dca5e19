"""Digests and sizes come from the registry itself, here from one on loopback that wants a token."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ops import oci

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PULLED = "sha256:" + "b" * 64
CONTENT = {
    "1.0": (
        INDEX,
        {
            "manifests": [
                {"digest": "sha256:arm", "platform": {"os": "linux", "architecture": "arm64"}},
                {"digest": PULLED, "platform": {"os": "linux", "architecture": "amd64"}},
            ]
        },
    ),
    PULLED: (MANIFEST, {"config": {"size": 7}, "layers": [{"size": 100}, {"size": 1000}]}),
    "arm": (INDEX, {"manifests": [{"digest": "sha256:arm", "platform": {"os": "linux"}}]}),
}


class Registry(BaseHTTPRequestHandler):
    """As Docker Hub: 401 with a place for tokens; manifests for those who have one."""

    def do_GET(self):
        if self.path.startswith("/token"):
            assert "scope=repository%3Aacme%2Fapp%3Apull" in self.path
            self.answer(200, "application/json", {"token": "open"})
            return
        if self.headers.get("Authorization") != "Bearer open":
            there = f'Bearer realm="http://{self.headers["Host"]}/token",service="here"'
            self.answer(401, "text/plain", {}, f'{there},scope="repository:acme/app:pull"')
            return
        kind, content = CONTENT.get(self.path.rpartition("/")[2], (None, None))
        if kind and self.path.startswith("/v2/acme/app/manifests/"):
            assert kind in self.headers["Accept"]
            self.answer(200, kind, content)
        else:
            self.answer(404, "text/plain", {})

    do_HEAD = do_GET

    def answer(self, code, kind, content, challenge=""):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", "sha256:" + "a" * 64)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_digest_is_what_the_registry_says(host):
    assert oci.digest(f"{host}/acme/app:1.0") == "sha256:" + "a" * 64


def test_the_size_is_what_this_platform_pulls(host):
    assert oci.size(f"{host}/acme/app", "1.0") == 1107
    assert oci.size(f"{host}/acme/app", PULLED) == 1107


def test_an_image_without_this_platform_is_said(host):
    with pytest.raises(oci.RegistryError, match="nothing for linux/amd64"):
        oci.size(f"{host}/acme/app", "arm")


def test_an_unknown_tag_is_said(host):
    with pytest.raises(oci.RegistryError, match="answers 404"):
        oci.digest(f"{host}/acme/app:2.0")


def test_a_registry_that_is_not_there_is_said():
    with pytest.raises(oci.RegistryError, match=r"127\.0\.0\.1:9 cannot be reached"):
        oci.digest("127.0.0.1:9/acme/app:1.0")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("ghcr.io/a/b:1", ("ghcr.io", "a/b", "1")),
        ("ghcr.io/a/b@sha256:0", ("ghcr.io", "a/b", "sha256:0")),
        ("127.0.0.1:5000/a:1@sha256:0", ("127.0.0.1:5000", "a", "sha256:0")),
    ],
)
def test_names_are_taken_apart(image, parts):
    assert oci.split(image) == parts
