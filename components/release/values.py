"""What Helm is told about a model: values of charts/model, made and changed without a cluster.

A model's versions stand in `versions`, each with everything that its pods depend on, so that a new
version never touches the pods of the one before. Traffic is their `weight`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from slipway.contract import Contract
from slipway.contract.model import Replicas, Resources
from slipway.errors import UserError

Values = dict[str, Any]
ALL = 100


def entry_of(contract: Contract, version: str, uri: str, image: str) -> Values:
    """The entry of a version that gets no requests yet, as the contract's `serving` wants it."""
    serving = contract.serving
    server: Values = {
        "mode": serving.mode,
        "image": image_of(image),
        "replicas": _replicas(serving.replicas),
        "resources": _resources(serving.resources),
        "featureStore": {
            "enabled": bool(contract.views),
            # Of data that ended in the past, every feature would be too old on today's clock.
            "clock": "store" if contract.as_of else "wall",
        },
    }
    if serving.mode == "split":
        server["transformer"] = {
            "replicas": _replicas(serving.transformer.replicas),
            "resources": _resources(serving.transformer.resources),
        }
    return {"version": version, "storageUri": uri, "weight": 0, "server": server}


def image_of(reference: str) -> Values:
    """`repository[:tag][@digest]` in parts. Raises `UserError` for one that names no build."""
    match = re.fullmatch(
        r"(?P<repository>[^@]+?)(:(?P<tag>[^/@:]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?", reference
    )
    if not match or not (match["tag"] or match["digest"]):
        raise UserError(
            f"SLIPWAY_SERVE_IMAGE is '{reference}', which names no build of the serving runtime.",
            "Set it to repository:tag or repository@sha256:….",
        )
    return {name: value or "" for name, value in match.groupdict().items()}


def of_cluster(model: str) -> Values:
    """Values that this cluster wants for every model, from `SLIPWAY_MODEL_VALUES`."""
    text = os.environ.get("SLIPWAY_MODEL_VALUES") or "{}"
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserError(f"SLIPWAY_MODEL_VALUES is not JSON: {error}.", "Mend it.") from None
    if not isinstance(given, dict):
        raise UserError("SLIPWAY_MODEL_VALUES is no JSON object.", 'Write {"value": …}.')
    return {**given, "model": model, "versions": [], "previous": {}}


def find(values: Mapping[str, Any], version: str) -> Values | None:
    return next((item for item in values["versions"] if item["version"] == version), None)


def weight(values: Mapping[str, Any], version: str) -> int:
    entry = find(values, version)
    return int(entry["weight"]) if entry else 0


def incumbent(values: Mapping[str, Any], version: str) -> Values | None:
    """The entry beside `version` that gets most of the requests; None if no other gets any."""
    others = [item for item in values["versions"] if item["version"] != version and item["weight"]]
    return max(others, key=lambda item: int(item["weight"]), default=None)


def same(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Whether both entries make the same pods."""
    return one is not None and {**one, "weight": 0} == {**other, "weight": 0}


def put(values: Mapping[str, Any], entry: Mapping[str, Any]) -> Values:
    """With this entry, in place of the same version's, whose requests it gets."""
    changed = deepcopy(dict(values))
    placed = {**deepcopy(dict(entry)), "weight": weight(values, entry["version"])}
    if old := find(changed, entry["version"]):
        changed["versions"][changed["versions"].index(old)] = placed
        # What served until now is what a rollback brings back, even under the same number.
        if placed["weight"] == ALL and not same(old, entry):
            changed["previous"] = {**old, "weight": 0}
    else:
        changed["versions"].append(placed)
    return changed


def shift(values: Mapping[str, Any], version: str, percent: int) -> Values:
    """With `percent` of the requests for `version`, and the rest for the incumbent.

    Where there is none, the version gets all.
    """
    changed = deepcopy(dict(values))
    other = incumbent(changed, version)
    if other is None:
        percent = ALL
    for item in changed["versions"]:
        item["weight"] = 0
        if item["version"] == version:
            item["weight"] = percent
        elif other is not None and item["version"] == other["version"]:
            item["weight"] = ALL - percent
    if percent == ALL and other is not None:
        changed["previous"] = {**other, "weight": 0}
    return changed


def only(values: Mapping[str, Any], version: str) -> Values:
    """Without the versions beside `version`, but for one that is shadowed."""
    shadow = values.get("shadow", {}).get("version")
    changed = deepcopy(dict(values))
    changed["versions"] = [
        item for item in changed["versions"] if item["version"] in (version, shadow)
    ]
    return changed


def back(values: Mapping[str, Any], version: str) -> Values:
    """As it was before `version`, for one that failed: requests go to the version before.

    One that alone gets requests stays; only its settings of before come back.
    """
    changed = deepcopy(dict(values))
    previous = changed.get("previous") or {}
    before = previous.get("version")
    other = incumbent(changed, version) or (
        find(changed, before) if before and before != version else None
    )
    if other is not None:
        changed = {**shift(changed, other["version"], ALL), "previous": previous}
    elif before == version:
        changed = {**put(changed, previous), "previous": {}}
    if other is not None or not weight(changed, version):
        changed["versions"] = [item for item in changed["versions"] if item["version"] != version]
    return changed


def _replicas(replicas: Replicas) -> Values:
    return {
        "min": replicas.min,
        "max": replicas.most,
        "metric": replicas.metric,
        "target": replicas.target,
    }


def _resources(resources: Resources) -> Values:
    limits = {"memory": resources.memory_limit}
    if resources.cpu_limit:
        limits["cpu"] = resources.cpu_limit
    return {"requests": {"cpu": resources.cpu, "memory": resources.memory}, "limits": limits}
