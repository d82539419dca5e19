"""Where a client outside the cluster reaches the gateway."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

from ops import kind
from ops.cluster import Cluster, Object
from ops.platform import Values
from slipway.errors import UserError

SECONDS = 3
GATEWAYS = "gateways.gateway.networking.k8s.io"


def address(cluster: Cluster, facts: Values, given: str = "") -> str:
    """`http://HOST:PORT` of the first place where the gateway answers, or of the one given.

    Requests name the service that they want in their Host header.
    """
    tried = [given] if given else list(dict.fromkeys(_places(cluster, facts)))
    for url in tried:
        if answers(url, facts["domain"]):
            return url
    raise UserError(
        f"the gateway answers at none of {', '.join(tried) or 'no address'}.",
        "Name its address with GATEWAY=http://HOST:PORT.",
    )


def answers(url: str, domain: str) -> bool:
    """Whether something speaks HTTP there: a 404 of the gateway is an answer as well."""
    parts = urlsplit(url)
    of = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = of(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request("GET", "/", headers={"Host": f"kfp.{domain}"})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _places(cluster: Cluster, facts: Values) -> Iterator[str]:
    parts = urlsplit(facts["url"])
    if kind.is_kind(cluster.context):
        yield f"{parts.scheme}://127.0.0.1:{parts.port}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    yield f"{parts.scheme}://{parts.hostname}:{port}"
    gateway = facts["gateway"]
    found = (
        cluster.one(GATEWAYS, gateway["name"], gateway["namespace"])
        if cluster.knows(GATEWAYS)
        else None
    )
    for one in (found or {}).get("status", {}).get("addresses", []):
        yield f"{parts.scheme}://{one['value']}:{port}"
    for service in cluster.get("services", namespace=gateway["namespace"]):
        yield from _of_service(cluster, service, parts.scheme)


def _of_service(cluster: Cluster, service: Object, scheme: str) -> Iterator[str]:
    web = [
        port
        for port in service["spec"].get("ports", [])
        if port.get("name") in ("web", "websecure")
    ]
    for port in web:
        for entry in service["status"].get("loadBalancer", {}).get("ingress", []):
            yield f"{scheme}://{entry.get('ip') or entry.get('hostname')}:{port['port']}"
        if "nodePort" not in port:
            continue
        for node in cluster.get("nodes"):
            for one in node["status"]["addresses"]:
                if one["type"] == "InternalIP":
                    yield f"{scheme}://{one['address']}:{port['nodePort']}"
