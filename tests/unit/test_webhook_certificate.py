"""The certificate of KServe's webhooks: who trusts it, now and while it is renewed."""

import base64
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from ops.webhook_certificate import LIFE, NAMES, RENEW, Certificate, _patch, is_due, issue

NOW = datetime.now(UTC)


def handshake(server: Certificate, trusted: bytes, name: str, folder) -> str:
    """A TLS connection to `server` by a client that trusts `trusted`; the subject it was shown."""
    for file, text in (("tls.crt", server.certificate), ("tls.key", server.key)):
        (folder / file).write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).close()
        except ssl.SSLError:
            connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        client = ssl.create_default_context(cadata=trusted.decode())
        plain = socket.create_connection(listener.getsockname())
        with client.wrap_socket(plain, server_hostname=name) as secure:
            return dict(pair[0] for pair in secure.getpeercert()["subject"])["commonName"]
    finally:
        thread.join()
        listener.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_reaches_the_webhook(name, tmp_path):
    made = issue(NOW)
    assert handshake(made, made.authorities, name, tmp_path) == NAMES[0]


def test_another_name_or_another_authority_is_refused(tmp_path):
    made, other = issue(NOW), issue(NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, made.authorities, "elsewhere.kserve.svc", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, other.authorities, NAMES[0], tmp_path)


def test_while_it_is_renewed_old_and_new_certificate_are_trusted(tmp_path):
    old = issue(NOW - timedelta(days=3400))
    new = issue(NOW, trusted=old.authorities)
    for served in (old, new):
        assert handshake(served, new.authorities, NAMES[0], tmp_path)


def test_authorities_do_not_pile_up():
    made = issue(NOW)
    for _ in range(4):
        made = issue(NOW, trusted=made.authorities)
    assert made.authorities.count(b"BEGIN CERTIFICATE") == 2


def test_it_is_made_anew_in_its_last_year():
    made = issue(NOW)
    assert not is_due(made, NOW)
    assert not is_due(made, NOW + LIFE - RENEW - timedelta(days=1))
    assert is_due(made, NOW + LIFE - RENEW + timedelta(days=1))


@pytest.mark.parametrize(
    "kept",
    [
        Certificate(b"", b"", b""),
        Certificate(b"no certificate", b"", b"neither"),
        Certificate(issue(NOW).certificate, b"", issue(NOW).authorities),
    ],
    ids=["empty secret", "no certificates", "another authority's"],
)
def test_a_secret_that_does_not_fit_is_replaced(kept):
    assert is_due(kept, NOW)


def test_only_webhooks_of_kserve_are_changed_and_only_when_they_differ():
    bundle = base64.b64encode(b"ours").decode()
    ours = {"name": "kserve-webhook-server-service", "namespace": "kserve"}
    configuration = {
        "metadata": {"name": "some"},
        "webhooks": [
            {"clientConfig": {"service": ours}},
            {"clientConfig": {"service": ours, "caBundle": "old"}},
            {"clientConfig": {"service": ours, "caBundle": bundle}},
            {"clientConfig": {"service": {**ours, "namespace": "other"}}},
            {"clientConfig": {"url": "https://example.com"}},
        ],
    }
    patches = _patch(configuration, bundle)
    assert [one["path"] for one in patches] == [
        "/webhooks/0/clientConfig/caBundle",
        "/webhooks/1/clientConfig/caBundle",
    ]
    assert {one["value"] for one in patches} == {bundle}
