"""Writes tests/charts/schemas/*.json: what Kubernetes and the CRDs of others say objects look like.

Reads tests/charts/schemas/sources.txt and, through `go mod download`, the modules that it names.
One whose sum differs is refused. The schemas are strict: a field that is not declared is an error.
Texts, defaults and rules in CEL are left out, and what occurs twice is written once.
"""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "charts" / "schemas"
GROUPS = {
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
}
KEPT = (
    "type", "required", "enum", "pattern", "multipleOf", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "exclusiveMinimum",
    "exclusiveMaximum",
)  # fmt: skip
EITHER = {"type": ["integer", "string"]}
FREE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": EITHER,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["number", "string"]},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": {},
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps": {},
}
Schema = dict[str, Any]


# As Kubernetes reads YAML: a lone `=` is a text.
yaml.CSafeLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def main() -> int:
    listed = FOLDER / "sources.txt"
    lines = listed.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#"):
            continue
        module, version, known, *patterns = line.split()
        answer = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{version}"],
            capture_output=True,
            text=True,
        )
        got = json.loads(answer.stdout or "{}")
        if "Dir" not in got:
            print(
                f"schemas: {module} {version}: {got.get('Error') or answer.stderr}", file=sys.stderr
            )
            return 1
        if known not in ("h1:?", got["Sum"]):
            print(
                f"schemas: {module} {version} has the sum {got['Sum']}, {listed} says {known}. "
                "Do not use it before you know why.",
                file=sys.stderr,
            )
            return 1
        lines[number] = " ".join([module, version, got["Sum"], *patterns])
        files = sorted(file for pattern in patterns for file in Path(got["Dir"]).glob(pattern))
        if files and files[0].name == "swagger.json":
            kinds = kubernetes(json.loads(files[0].read_text()))
        else:
            kinds = dict(found for file in files for found in resources(file))
        name = module.removesuffix("/v3").rpartition("/")[2]
        text = json.dumps(shared(kinds), separators=(",", ":"), sort_keys=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")
        print(f"{name:<20} {version:<9} {len(kinds):3} kinds {len(text) / 1000:7.0f} kB")
    listed.write_text("\n".join(lines) + "\n")
    return 0


def kubernetes(document: Schema) -> dict[str, Schema]:
    """Kinds of Kubernetes' own API, by `apiVersion/kind`."""
    definitions = document["definitions"]

    def resolve(name: str, above: tuple[str, ...]) -> Schema:
        if name in FREE or name in above:
            return FREE.get(name, {})
        return strict(definitions[name], lambda ref: resolve(ref, (*above, name)))

    kinds = {}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            fields = definition.get("properties", {})
            if kind["group"] in GROUPS and "metadata" in fields and "items" not in fields:
                schema = resolve(name, ())
                schema["properties"] |= {"status": {}}
                at = "/".join(filter(None, (kind["group"], kind["version"], kind["kind"])))
                kinds[at] = schema
    return kinds


def resources(file: Path) -> Iterator[tuple[str, Schema]]:
    """Kinds of the CustomResourceDefinitions in a file."""
    for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
        if not document or document.get("kind") != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema.setdefault("properties", {}).update(
                {"metadata": {"type": "object"}, "status": {}}
            )
            yield f"{spec['group']}/{version['name']}/{spec['names']['kind']}", schema


def strict(schema: Schema, resolve: Any = None) -> Schema:
    """The part of an OpenAPI schema that says what is allowed, as JSON Schema."""
    if "$ref" in schema:
        return resolve(schema["$ref"].rpartition("/")[2])  # type: ignore[no-any-return]
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return EITHER
    kept: Schema = {name: schema[name] for name in KEPT if name in schema}
    if "items" in schema:
        kept["items"] = strict(schema["items"], resolve)
    for word in ("allOf", "anyOf", "oneOf"):
        if word in schema:
            kept[word] = [loose(item) for item in schema[word]]
    if "not" in schema:
        kept["not"] = loose(schema["not"])
    if "properties" in schema:
        kept["properties"] = {
            name: strict(field, resolve) for name, field in schema["properties"].items()
        }
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        kept["additionalProperties"] = strict(more, resolve)
    elif (
        kept.get("properties")
        and more is None
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and not schema.get("x-kubernetes-embedded-resource")
    ):
        kept["additionalProperties"] = False
    return kept


def loose(schema: Schema) -> Schema:
    """The same inside `anyOf` and its like, which name only some of the fields."""
    kept = strict(schema)
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    if "properties" in schema:
        kept["properties"] = {name: loose(field) for name, field in schema["properties"].items()}
    return kept


def shared(kinds: dict[str, Schema]) -> Schema:
    """The same schemas, with what occurs more than once under `$defs`."""
    seen: Counter[str] = Counter()

    def key(node: Schema) -> str:
        return json.dumps(node, sort_keys=True)

    def count(node: Any) -> None:
        if isinstance(node, dict):
            text = key(node) if "type" in node or "properties" in node else ""
            if len(text) > 150:
                seen[text] += 1
                if seen[text] > 1:
                    return
            for item in node.values():
                count(item)
        elif isinstance(node, list):
            for item in node:
                count(item)

    count(kinds)
    names = {
        text: hashlib.sha256(text.encode()).hexdigest()[:8] for text, n in seen.items() if n > 1
    }

    def fold(node: Any, top: bool = False) -> Any:
        if isinstance(node, dict):
            if not top and (name := names.get(key(node))):
                return {"$ref": f"#/$defs/{name}"}
            return {field: fold(item) for field, item in node.items()}
        return [fold(item) for item in node] if isinstance(node, list) else node

    definitions = {name: fold(json.loads(text), top=True) for text, name in names.items()}
    return {"kinds": {at: fold(schema) for at, schema in kinds.items()}, "$defs": definitions}


if __name__ == "__main__":
    sys.exit(main())
