"""Objects against the schemas of Kubernetes and of the CRDs in schemas/, strictly."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs

from tests.charts.pods import Object, name_of

FOLDER = Path(__file__).parent / "schemas"


@functools.cache
def _documents() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The schema of each kind, and the definitions that it refers to."""
    found = {}
    for file in FOLDER.glob("*.json"):
        document = json.loads(file.read_text())
        for kind, schema in document["kinds"].items():
            found[kind] = schema, document["$defs"]
    return found


@functools.cache
def _validator(kind: str) -> Any:
    schema, definitions = _documents()[kind]
    return jsonschema_rs.validator_for(schema | {"$defs": definitions})


def shaped(objects: Sequence[Object]) -> Iterator[str]:
    """Fields that do not exist, or hold what they must not."""
    own = {
        f"{crd['spec']['group']}/{version['name']}/{crd['spec']['names']['kind']}"
        for crd in objects
        if crd["kind"] == "CustomResourceDefinition"
        for version in crd["spec"]["versions"]
    }
    for item in objects:
        kind = f"{item['apiVersion']}/{item['kind']}"
        if kind not in _documents():
            if kind not in own:
                yield f"{name_of(item)}: no schema of {kind} is known"
            continue
        for error in _validator(kind).iter_errors(_without_null(item)):
            place = ".".join(map(str, error.instance_path))
            yield f"{name_of(item)}: {place}: {error.message[:300]}"


def _without_null(node: Any) -> Any:
    """As the API server takes it: null is nothing."""
    if isinstance(node, dict):
        return {name: _without_null(item) for name, item in node.items() if item is not None}
    return [_without_null(item) for item in node] if isinstance(node, list) else node
