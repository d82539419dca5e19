"""Where people find the platform's pages and models, and how they log in."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import urlsplit

from ops.cluster import Cluster
from ops.platform import Values

TITLES = {
    "kfp": "Kubeflow Pipelines",
    "mlflow": "MLflow",
    "grafana": "Grafana",
    "prometheus": "Prometheus",
}


ROUTES = "httproutes.gateway.networking.k8s.io"


@dataclass(frozen=True)
class Place:
    """One line of the table that a deploy ends with."""

    name: str
    url: str
    login: str = ""


def places(cluster: Cluster, facts: Values, gateway: str) -> list[Place]:
    """Every host that a route of ours has, with the login where there is one."""
    parts = urlsplit(facts["url"])
    port = f":{parts.port}" if parts.port else ""
    direct = urlsplit(gateway).netloc
    routes = cluster.get(ROUTES) if cluster.knows(ROUTES) else []
    hosts = sorted(
        (host, route["metadata"]["namespace"])
        for route in routes
        for host in route["spec"].get("hostnames", [])
        if host.endswith(facts["domain"])
    )
    found = []
    for host, namespace in hosts:
        short = host.removesuffix(f".{facts['domain']}")
        name = TITLES.get(short, f"model {short}" if namespace == "models" else short)
        path = f"/v2/models/{short}" if namespace == "models" else ""
        login = _grafana(cluster) if short == "grafana" else ""
        found.append(Place(name, f"{parts.scheme}://{host}{port}{path}", login))
    if direct and not gateway.startswith(f"{parts.scheme}://127.0.0.1"):
        found.append(Place("gateway", gateway, "name the host in the Host header"))
    return found


def _grafana(cluster: Cluster) -> str:
    secret = cluster.one("secret", "grafana", "monitoring")
    if secret is None:
        return ""
    user, password = (
        base64.b64decode(secret["data"][key]).decode() for key in ("admin-user", "admin-password")
    )
    return f"{user} / {password}"
