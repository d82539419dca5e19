"""What a deploy asks of a cluster and of its values before it touches anything.

Each raises `UserError` with the fix; whether the requests fit is in `ops.fit`.
"""

from __future__ import annotations

import json

from ops.cluster import Cluster, Object
from ops.platform import Platform
from slipway.errors import UserError

OLDEST = (1, 30)
"""Kubernetes; the charts say the same."""
Objects = dict[str, list[Object]]
"""By release."""
MODEL_VALUES = "SLIPWAY_MODEL_VALUES"
"""Of a step's environment: what every model of this cluster gets."""


def version(cluster: Cluster) -> str:
    """Of Kubernetes, as `1.34.4`."""
    found = json.loads(cluster.kubectl("version", "--output", "json"))["serverVersion"]
    number = str(found["gitVersion"]).removeprefix("v").split("-")[0].split("+")[0]
    if tuple(int(part) for part in number.split(".")[:2]) < OLDEST:
        raise UserError(
            f"the cluster runs Kubernetes {number}.",
            f"Upgrade it to {'.'.join(map(str, OLDEST))} or later.",
        )
    return number


def outside(cluster: Cluster, platform: Platform) -> None:
    """The cluster must bring what is used and not managed here."""
    for component in platform.unmanaged:
        if not platform.facts["components"][component].get("used", True):
            continue
        for crd in platform.components[component].get("crds", ()):
            if not cluster.knows(crd):
                raise UserError(
                    f"{component} is not managed here, and the cluster does not know {crd}.",
                    f"Install {component}, or set components.{component}.managed to true.",
                )


def kinds(cluster: Cluster, objects: Objects) -> None:
    """Every object is of a kind that the cluster knows, or that comes with the releases."""
    known = {one["name"] for one in json.loads(cluster.kubectl("get", "--raw", "/apis"))["groups"]}
    known |= {
        one["spec"]["group"]
        for release in objects.values()
        for one in release
        if one["kind"] == "CustomResourceDefinition"
    }
    for release, made in objects.items():
        for one in made:
            group, slash, _ = one["apiVersion"].partition("/")
            if slash and group not in known:
                raise UserError(
                    f"{release} makes a {one['kind']} ({one['metadata']['name']}), and neither the "
                    f"cluster nor a component that is managed here knows {group}.",
                    f"Manage the component that brings it (profile.yaml), or switch this object "
                    f"off in {release}.yaml of your VALUES folder.",
                )


def hosts(platform: Platform, objects: Objects) -> None:
    """Every host is under the domain of profile.yaml: `places` and scoring look there."""
    domain = platform.facts["domain"]
    for release, made in objects.items():
        for one in made:
            for host in _hosts(one):
                if host != domain and not host.endswith(f".{domain}"):
                    raise UserError(
                        f"{release} gives {one['kind']} {one['metadata']['name']} the host {host}, "
                        f"which is not under {domain}, the domain of profile.yaml.",
                        f"Give it one that is in {release}.yaml of your VALUES folder, or change "
                        "`domain`.",
                    )


def _hosts(one: Object) -> list[str]:
    if one["kind"] == "HTTPRoute":
        return one["spec"].get("hostnames") or []
    if one["kind"] == "Gateway":
        listeners = one["spec"]["listeners"]
        return [listener["hostname"] for listener in listeners if listener.get("hostname")]
    if one["kind"] == "ConfigMap" and (given := (one.get("data") or {}).get(MODEL_VALUES)):
        return [domain] if (domain := _domain(given)) else []
    return []


def _domain(model_values: str) -> str:
    try:
        route = json.loads(model_values).get("route", {})
        return str(route.get("domain", ""))
    except (ValueError, AttributeError):
        raise UserError(
            f"steps.env.{MODEL_VALUES} is no JSON object with a mapping `route`.",
            "Give it as a mapping in kfp.yaml of your VALUES folder; the chart makes JSON of it.",
        ) from None


def storage_class(cluster: Cluster, objects: Objects) -> None:
    """Claims that name no class need a default one."""
    claims = [
        claim["spec"]
        for release in objects.values()
        for one in release
        for claim in (
            [one]
            if one["kind"] == "PersistentVolumeClaim"
            else one.get("spec", {}).get("volumeClaimTemplates") or []
        )
    ]
    classes = cluster.get("storageclasses")
    names = {one["metadata"]["name"] for one in classes}
    default = any(
        one["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class")
        == "true"
        for one in classes
    )
    for claim in claims:
        wanted = claim.get("storageClassName")
        if wanted and wanted not in names:
            raise UserError(
                f"the cluster has no storage class '{wanted}'.",
                f"Name one that it has ({', '.join(sorted(names)) or 'none'}) in your values.",
            )
        if not wanted and not default:
            raise UserError(
                "the cluster has no default storage class, and the values name none.",
                f"Set storageClassName to one that it has: {', '.join(sorted(names)) or 'none'}.",
            )
