"""Who talks to whom, as the rendered objects say it, and whether their NetworkPolicies let them.

Addresses are read where the charts write them: in the pods' arguments and variables, in ConfigMaps,
in the declared secrets, in routes, monitors and webhooks. Policies are applied as Kubernetes does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from tests.charts.pods import LONG_RUNNING, Object, Pod, name_of, pods
from tests.charts.rules import texts


@dataclass(frozen=True)
class End:
    """A pod, or what is outside of the cluster's pods: then the namespace is empty."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)


OUTSIDE = End("")


@dataclass(frozen=True)
class Connection:
    source: End
    target: End
    port: int
    why: str


class Network:
    """The objects of a whole installation; each is in the namespace that it names."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = objects
        self.pods = pods(objects)
        self.policies = [item for item in objects if item["kind"] == "NetworkPolicy"]

    @cached_property
    def services(self) -> dict[tuple[str, str], Object]:
        found = {}
        for item in self.objects:
            if item["kind"] == "Service":
                found[item["metadata"]["name"], item["metadata"]["namespace"]] = item
        for pod in self.pods:
            if pod.owner["kind"] == "InferenceService":
                service = _of_kserve(pod)
                found[service["metadata"]["name"], self._at(pod)] = service
        return found

    @cached_property
    def address(self) -> re.Pattern[str]:
        names = "|".join(sorted({re.escape(namespace) for _, namespace in self.services}))
        return re.compile(
            rf"(?<![\w.-])([a-z][a-z0-9-]*)\.({names})(?:\.svc[a-z.]*)?(?::(\d+))?(?![\w.-])"
        )

    def problems(self) -> Iterator[str]:
        """Addresses that lead nowhere, and connections that no policy lets through."""
        for found in self.connections():
            if isinstance(found, str):
                yield found
            elif not self.permits(found):
                yield (
                    f"{found.why}: {found.source.namespace or 'the outside'} may not reach "
                    f"{found.target.namespace}:{found.port}"
                )

    def connections(self) -> Iterator[Connection | str]:
        yield from self._of_pods()
        yield from self._of_configuration()
        yield from self._of_secrets()
        yield from self._of_routes()
        yield from self._of_monitors()
        yield from self._of_webhooks()

    def _of_pods(self) -> Iterator[Connection | str]:
        for pod in self.pods:
            source = End(self._at(pod), pod.labels)
            for _, text in texts({"containers": list(pod.containers)}):
                for found in self._named(text, source, pod.name):
                    # Its own address, which it only tells others.
                    if isinstance(found, str) or found.target != source:
                        yield found

    def _of_configuration(self) -> Iterator[Connection | str]:
        """Of ConfigMaps, for the pods that read them: rendered ones, or any, such as steps."""
        for item in self.objects:
            if item["kind"] == "ConfigMap":
                meta = item["metadata"]
                readers = [
                    pod
                    for pod in self.pods
                    if self._at(pod) == meta["namespace"]
                    and any(text == meta["name"] for _, text in texts(pod.spec))
                ]
                labels = [pod.labels for pod in readers] or [{}]
                data = {k: v for k, v in item.get("data", {}).items() if k != "secrets.yaml"}
                for _, text in texts(data):
                    for each in labels:
                        yield from self._named(text, End(meta["namespace"], each), name_of(item))

    def _of_secrets(self) -> Iterator[Connection | str]:
        """Of the declared secrets, for a pod of the namespace that gets them: a model, or any."""
        models = {
            self._at(pod): End(self._at(pod), pod.labels)
            for pod in self.pods
            if pod.owner["kind"] == "InferenceService"
        }
        for item in self.objects:
            declared = item.get("data", {}).get("secrets.yaml") if "data" in item else None
            for secret in yaml.safe_load(declared)["secrets"] if declared else ():
                namespace = secret["namespace"]
                source = models.get(namespace, End(namespace))
                for _, text in texts(secret):
                    yield from self._named(text, source, f"Secret {namespace}/{secret['name']}")

    def _at(self, pod: Pod) -> str:
        return str(pod.owner["metadata"]["namespace"])

    def _named(self, text: str, source: End, why: str) -> Iterator[Connection | str]:
        for match in self.address.finditer(text):
            name, namespace, port = match.groups()
            yield from self._to_service(source, name, namespace, port and int(port), why)

    def _to_service(
        self, source: End, name: str, namespace: str, port: int | str | None, why: str
    ) -> Iterator[Connection | str]:
        service = self.services.get((name, namespace))
        if service is None:
            yield f"{why}: {name}.{namespace} is no service"
            return
        ports = [one for one in service["spec"]["ports"] if port in (one["port"], one.get("name"))]
        if port is None:  # said elsewhere; the first is the usual one
            ports = service["spec"]["ports"][:1]
        if not ports:
            yield f"{why}: {name}.{namespace} has no port {port}"
        for pod in self._behind(service):
            for one in ports:
                number = _number(pod, one.get("targetPort", one["port"]))
                yield Connection(source, End(namespace, pod.labels), number, why)

    def _behind(self, service: Object) -> list[Pod]:
        wanted = service["spec"].get("selector") or {}
        namespace = service["metadata"]["namespace"]
        return [
            pod
            for pod in self.pods
            if wanted and self._at(pod) == namespace and wanted.items() <= pod.labels.items()
        ]

    def _of_routes(self) -> Iterator[Connection | str]:
        for item in self.objects:
            if item["kind"] != "HTTPRoute":
                continue
            here = item["metadata"]["namespace"]
            parents = item["spec"]["parentRefs"]
            gateways = {parent.get("namespace", here) for parent in parents}
            sources = [
                End(self._at(pod), pod.labels)
                for pod in self.pods
                if self._at(pod) in gateways and pod.owner["kind"] in LONG_RUNNING
            ]
            for rule in item["spec"]["rules"]:
                for backend in rule.get("backendRefs", ()):
                    if backend.get("kind", "Service") != "Service":
                        continue
                    namespace = backend.get("namespace", here)
                    for source in sources:
                        yield from self._to_service(
                            source, backend["name"], namespace, backend["port"], name_of(item)
                        )

    def _of_monitors(self) -> Iterator[Connection | str]:
        for prometheus in self.objects:
            if prometheus["kind"] != "Prometheus":
                continue
            [own] = pods([prometheus])
            labels = {"app.kubernetes.io/name": "prometheus"} | own.labels
            source = End(prometheus["metadata"]["namespace"], labels)
            for item in self.objects:
                if item["kind"] == "ServiceMonitor":
                    yield from self._of_service_monitor(item, source)
                elif item["kind"] == "PodMonitor":
                    yield from self._of_pod_monitor(item, source)

    def _of_service_monitor(self, item: Object, source: End) -> Iterator[Connection | str]:
        spaces = _spaces(item)
        for service in self.services.values():
            meta = service["metadata"]
            inside = spaces is None or meta["namespace"] in spaces
            if inside and selects(item["spec"]["selector"], meta.get("labels", {})):
                for endpoint in item["spec"]["endpoints"]:
                    port = endpoint.get("port")
                    if any(one.get("name") == port for one in service["spec"]["ports"]):
                        where = (meta["name"], meta["namespace"])
                        yield from self._to_service(source, *where, port, name_of(item))

    def _of_pod_monitor(self, item: Object, source: End) -> Iterator[Connection | str]:
        spaces = _spaces(item)
        for pod in self.pods:
            inside = spaces is None or self._at(pod) in spaces
            if inside and selects(item["spec"]["selector"], pod.labels):
                for endpoint in item["spec"]["podMetricsEndpoints"]:
                    target = endpoint.get("portNumber") or endpoint.get("port")
                    number = _number(pod, target)
                    yield Connection(source, End(self._at(pod), pod.labels), number, name_of(item))

    def _of_webhooks(self) -> Iterator[Connection | str]:
        for item in self.objects:
            for hook in item.get("webhooks") or ():
                if called := hook["clientConfig"].get("service"):
                    where = called["name"], called["namespace"], called.get("port", 443)
                    yield from self._to_service(OUTSIDE, *where, name_of(item))

    def permits(self, connection: Connection) -> bool:
        source, target = connection.source, connection.target
        return self._open("Egress", source, target, connection.port) and self._open(
            "Ingress", target, source, connection.port
        )

    def _open(self, way: str, here: End, there: End, port: int) -> bool:
        """Do the policies of one end let the other through?"""
        if not here.namespace:
            return True
        key, side = ("egress", "to") if way == "Egress" else ("ingress", "from")
        governing = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == here.namespace
            and way in policy["spec"].get("policyTypes", ("Ingress",))
            and selects(policy["spec"].get("podSelector") or {}, here.labels)
        ]
        return not governing or any(
            _port_open(rule.get("ports"), port) and _peer(rule.get(side), here, there)
            for spec in governing
            for rule in spec.get(key) or ()
        )


def _of_kserve(pod: Pod) -> Object:
    """The Service that KServe makes for a component: with the labels of its pods, port 80 for the
    first port of the container, and every other port under its own number."""
    component = pod.labels["component"]
    meta = pod.owner["metadata"]
    first, *others = pod.spec["containers"][0]["ports"]
    return {
        "metadata": {
            "name": f"{meta['name']}-{component}",
            "namespace": meta["namespace"],
            "labels": pod.labels,
        },
        "spec": {
            "selector": {"app": pod.labels["app"]},
            "ports": [
                {"name": one["name"], "port": number, "targetPort": one["containerPort"]}
                for one, number in [(first, 80), *((one, one["containerPort"]) for one in others)]
            ],
        },
    }


def _number(pod: Pod, port: Any) -> int:
    if isinstance(port, int):
        return port
    for container in pod.containers:
        for one in container.get("ports") or ():
            if one.get("name") == port:
                return int(one["containerPort"])
    return {"web": {"Prometheus": 9090, "Alertmanager": 9093}.get(pod.owner["kind"], 0)}.get(
        port, 0
    )


def _spaces(item: Object) -> set[str] | None:
    """The namespaces that a monitor looks into; None for all."""
    selector = item["spec"].get("namespaceSelector") or {}
    if selector.get("any"):
        return None
    return set(selector.get("matchNames") or [item["metadata"]["namespace"]])


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for term in selector.get("matchExpressions") or ():
        value, wanted = labels.get(term["key"]), term.get("values") or ()
        fits = {
            "In": value in wanted,
            "NotIn": value not in wanted,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[term["operator"]]:
            return False
    return True


def _port_open(ports: Sequence[Object] | None, port: int) -> bool:
    return not ports or any(
        one.get("protocol", "TCP") == "TCP"
        and ("port" not in one or one["port"] <= port <= one.get("endPort", one["port"]))
        for one in ports
    )


def _peer(peers: Sequence[Object] | None, here: End, there: End) -> bool:
    if not peers:
        return True
    for peer in peers:
        if "ipBlock" in peer:
            if not there.namespace:
                return True
            continue
        if not there.namespace:
            continue
        space = peer.get("namespaceSelector")
        if space is None:
            inside = there.namespace == here.namespace
        else:
            inside = selects(space, {"kubernetes.io/metadata.name": there.namespace})
        if inside and selects(peer.get("podSelector") or {}, there.labels):
            return True
    return False
