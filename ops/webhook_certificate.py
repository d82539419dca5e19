"""The certificate of KServe's webhooks, where no cert-manager makes one.

    python -m ops webhook-certificate --context kind-slipway --wait 60

Puts a certificate into the secret that KServe's manager mounts, and the authority that signed it
into every webhook configuration that names KServe's service. A deployment runs it before KServe
(the manager does not start without its secret) and after it (then there are webhooks); what is
right already is left alone. `--wait` also waits until the webhooks answer: a ready Deployment is
not reached by the API server at once.

It lasts ten years and is made anew by a run in the last of them. The authority before stays trusted
until the next time, because a running manager sees its new secret a minute later; it reloads it
without a restart.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ops.cluster import Cluster, ClusterError, Object, connect
from ops.wait import NotYet, wait_for

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

NAMESPACE = "kserve"
SERVICE = "kserve-webhook-server-service"
SECRET = "kserve-webhook-server-cert"  # noqa: S105 (a name)
NAMES = (f"{SERVICE}.{NAMESPACE}.svc", f"{SERVICE}.{NAMESPACE}")
"""What the API server calls the service."""
KINDS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
LIFE = timedelta(days=3650)
RENEW = timedelta(days=365)
"""Rest of its life in which it is made anew."""

_ASKED = json.dumps(
    {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "asked-only", "namespace": NAMESPACE},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "none"}]}},
    }
)
"""Never stored: a dry run that every webhook of KServe sees."""


@dataclass(frozen=True)
class Certificate:
    """PEM texts: a serving certificate with its key, and the authorities to trust."""

    certificate: bytes
    key: bytes
    authorities: bytes


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops webhook-certificate", description=__doc__)
    parser.add_argument("--context", required=True, help="of the kubeconfig")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for the webhooks")
    args = parser.parse_args(argv)
    cluster = connect(args.context)
    changed = ensure(cluster)
    print("\n".join(changed) or "the certificate of KServe's webhooks is right already")
    if not args.wait:
        return 0
    return 0 if wait_for({"KServe's webhooks": lambda: _answer(cluster)}, args.wait) else 1


def ensure(cluster: Cluster, now: datetime | None = None) -> list[str]:
    """Make the secret and the webhooks fit; says what it changed."""
    now = now or datetime.now(UTC)
    changed = []
    found = cluster.one("secret", SECRET, NAMESPACE)
    kept = _read(found) if found else None
    if not kept or is_due(kept, now):
        kept = issue(now, trusted=kept.authorities if kept else b"")
        cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--field-manager=slipway", "-f", "-"),
            text=json.dumps(_secret(kept)),
        )
        changed.append(f"secret {NAMESPACE}/{SECRET}: a certificate until {now + LIFE:%Y-%m-%d}")
    bundle = base64.b64encode(kept.authorities).decode()
    for kind in KINDS:
        for one in cluster.get(kind):
            if patch := _patch(one, bundle):
                name = one["metadata"]["name"]
                cluster.kubectl("patch", kind, name, "--type=json", "--patch", json.dumps(patch))
                changed.append(f"{kind[:-1]} {name}: trusts it")
    return changed


def issue(now: datetime, trusted: bytes = b"") -> Certificate:
    """A new authority, a certificate that it signed, and no way to sign another.

    Of `trusted`, the newest authority stays in the bundle, behind the new one.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, signer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # Of two authorities with one name a client may try the wrong one.
    issuer = f"{SERVICE} {secrets.token_hex(8)}"
    authority = _sign(
        issuer, issuer, signer, signer, now, x509.BasicConstraints(ca=True, path_length=0)
    )
    named = x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES])
    certificate = _sign(NAMES[0], issuer, key, signer, now, named)
    before = x509.load_pem_x509_certificates(trusted)[:1] if trusted else []
    return Certificate(
        certificate=_pem(certificate),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        authorities=b"".join(_pem(one) for one in (authority, *before)),
    )


def is_due(kept: Certificate, now: datetime) -> bool:
    """Whether it ends soon, is for another name, or is not signed by its authority."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate = x509.load_pem_x509_certificate(kept.certificate)
        authority = x509.load_pem_x509_certificates(kept.authorities)[0]
        certificate.verify_directly_issued_by(authority)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return True
    names = named.value.get_values_for_type(x509.DNSName)
    return certificate.not_valid_after_utc - now < RENEW or not set(NAMES) <= set(names)


def _sign(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + LIFE)
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .sign(signer, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _secret(kept: Certificate) -> Object:
    files = {"tls.crt": kept.certificate, "tls.key": kept.key, "ca.crt": kept.authorities}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "slipway"},
        },
        "type": "kubernetes.io/tls",
        "data": {file: base64.b64encode(text).decode() for file, text in files.items()},
    }


def _read(secret: Object) -> Certificate:
    data = secret.get("data") or {}
    return Certificate(
        *(base64.b64decode(data.get(file, "")) for file in ("tls.crt", "tls.key", "ca.crt"))
    )


def _patch(configuration: Object, bundle: str) -> list[Object]:
    """What makes the webhooks of KServe's service trust `bundle`."""
    return [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index, hook in enumerate(configuration.get("webhooks", []))
        if (service := hook["clientConfig"].get("service"))
        and (service["name"], service["namespace"]) == (SERVICE, NAMESPACE)
        and hook["clientConfig"].get("caBundle") != bundle
    ]


def _answer(cluster: Cluster) -> None:
    try:
        cluster.kubectl("create", "--dry-run=server", "-f", "-", text=_ASKED)
    except ClusterError as error:
        if "failed calling webhook" in str(error) or "no matches for kind" in str(error):
            raise NotYet(str(error).splitlines()[-1]) from None
