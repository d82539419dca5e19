"""The OpenAPI 3.1 document of one served model: its paths, its fields, its refusals, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.tensors import DATATYPES, tensor_metadata
from slipway import __version__
from slipway.files import read_json
from slipway.schema import OUTPUT, Field, Schema

if TYPE_CHECKING:
    from serving.served import Served

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXAMPLE_ROWS = 2
_REFUSALS = {
    400: ("Refused", "The request is not what the model takes; the sentence names the field."),
    404: ("Unknown", "There is no such model or version here."),
    405: ("WrongMethod", "The path takes another method; `Allow` names it."),
    408: ("Stalled", "The request was not whole in time."),
    409: ("WrongPackage", "The package is not right; the old version keeps serving."),
    413: ("TooLarge", "The body or its rows are more than the server takes."),
    415: ("WrongEncoding", "The body is compressed, or encoded as the path does not take it."),
    422: ("Unanswerable", "What is asked for has no answer, like a feature that is not known."),
    429: ("Busy", "Too many requests wait already; `Retry-After` says for how many seconds."),
    431: ("HeadersTooLarge", "The headers are more than the server takes."),
    500: ("Failed", "The server failed; its log says why."),
    503: ("Unavailable", "The model, or what it needs, does not answer at present."),
    504: ("TooSlow", "The answer was not there before the deadline."),
}
_ANY = (404, 405, 408, 431, 500, 503)
_REPOSITORY = (*_ANY, 400, 409, 413, 415)
_PREDICT = (*_ANY, 400, 413, 415, 422, 429, 504)

_Json = dict[str, Any]


def openapi(name: str, served: Served) -> _Json:
    """The document of the model that is served as `name`.

    Its examples are the package's reference rows. An entity is not among them: it is null there.
    """
    signature, schemas = served.signature, served.schemas
    rows = read_json(served.package / "reference.json")["rows"]
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": _DIALECT,
        "info": {
            "title": name,
            "version": __version__,
            "description": (
                f"The model '{signature['name']}' ({signature['task']}) over KServe's V1 protocol "
                "and the Open Inference Protocol (V2)."
            ),
        },
        "paths": _paths(name),
        "components": {
            "schemas": {
                "Error": _object({"error": {"type": "string", "description": "One sentence."}}),
                **_requests(schemas, rows),
                **_answers(signature["classes"]),
            },
            "responses": {
                title: _json(text, _ref("Error")) | _headers(status)
                for status, (title, text) in _REFUSALS.items()
            },
            "parameters": {
                "Version": {
                    "name": "version",
                    "in": "path",
                    "required": True,
                    "description": "The version that is served now; another is not here.",
                    "schema": {"type": "string", "enum": [served.version]},
                },
                "HeaderLength": {
                    "name": "Inference-Header-Content-Length",
                    "in": "header",
                    "description": (
                        "Bytes of the JSON part, where raw bytes of tensors come after it."
                    ),
                    "schema": {"type": "integer", "minimum": 0},
                },
            },
        },
    }


def _paths(name: str) -> _Json:
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    paths = {
        "/": _get("Whether the process is alive, as KServe's V1 client asks", "Alive"),
        "/v1/models": _get("The served models", "ModelList"),
        v1: _get("Whether the model is ready", "ModelStatus", unready="ModelStatus"),
        f"{v1}:predict": _post("Predictions", "Rows", "Predictions", _PREDICT),
        f"{v1}:explain": _post("Contributions of every feature", "Rows", "Explanations", _PREDICT),
        "/v2": _get("What the server is", "Server"),
        "/v2/health/live": _get("Whether the process is alive", "Live"),
        "/v2/health/ready": _get("Whether the server is ready", "Ready", unready="Ready"),
        "/v2/repository/index": _post(
            "Models of the repository", "IndexRequest", "Index", _REPOSITORY, required=False
        ),
        f"/v2/repository/models/{name}/load": _post(
            "Load the model anew", "Parameters", "Nothing", _REPOSITORY, required=False
        ),
        f"/v2/repository/models/{name}/unload": _post(
            "Stop serving the model", "Parameters", "Nothing", _REPOSITORY, required=False
        ),
        "/metrics": {"get": _operation("Metrics for Prometheus", _METRICS, _ANY)},
        "/openapi.json": _get("This document", "Document"),
    }
    for base in (v2, f"{v2}/versions/{{version}}"):
        paths[base] = _get("What the model takes and gives", "Metadata")
        paths[f"{base}/ready"] = _get("Whether the model is ready", "ModelStatus", "ModelStatus")
        paths[f"{base}/infer"] = _infer()
    for path, item in paths.items():
        if "{version}" in path:
            item["parameters"] = [{"$ref": "#/components/parameters/Version"}]
    return paths


def _get(summary: str, answer: str, unready: str = "") -> _Json:
    operation = _operation(summary, _json("OK", _ref(answer)), _ANY)
    if unready:
        operation["responses"]["503"] = _json(
            "Not ready", {"anyOf": [_ref(unready), _ref("Error")]}
        )
    return {"get": operation}


def _post(
    summary: str, request: str, answer: str, refusals: tuple[int, ...], required: bool = True
) -> _Json:
    operation = _operation(summary, _json("OK", _ref(answer)), refusals)
    content = {"application/json": {"schema": _ref(request)}}
    operation["requestBody"] = {"required": required, "content": content}
    return {"post": operation}


def _infer() -> _Json:
    item = _post("Predictions as a tensor", "Tensors", "Inference", _PREDICT)
    operation = item["post"]
    operation["parameters"] = [{"$ref": "#/components/parameters/HeaderLength"}]
    operation["requestBody"]["content"]["application/octet-stream"] = {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": (
                "The JSON part, `parameters.binary_data_size` instead of `data` in its tensors, "
                "then their little-endian bytes in the same order."
            ),
        }
    }
    operation["responses"]["200"]["content"]["application/octet-stream"] = {
        "schema": {"type": "string", "format": "binary"}
    }
    return item


def _operation(summary: str, answer: _Json, refusals: tuple[int, ...]) -> _Json:
    responses = {"200": answer}
    for status in sorted(refusals):
        responses[str(status)] = _ref(_REFUSALS[status][0], "responses")
    return {"summary": summary, "responses": responses}


def _requests(schemas: tuple[Schema, ...], reference: Mapping[str, list[Any]]) -> _Json:
    rows: list[_Json] = []
    inputs: list[_Json] = []
    examples = [_examples(schema, reference) for schema in schemas]
    for schema in schemas:
        values = [field.json_schema() for field in schema.fields]
        by_name = schema.json_schema()["properties"]["instances"]["items"]
        by_order = _exactly(values, f"The values of {', '.join(schema.names)}, in this order.")
        rows += [by_name, by_order]
        tensors = [_tensor(field) for field in schema.fields]
        inputs.append(_exactly(tensors, "One tensor for every field, in any order."))
        if schema.numeric:
            words = f"One matrix with the columns {', '.join(schema.names)}, in this order."
            inputs.append(_exactly([_matrix(schema)], words))
    instances = {"type": "array", "minItems": 1, "items": {"anyOf": rows}}
    output = _object({"name": {"const": OUTPUT}, "parameters": {"type": "object"}}, ("name",))
    return {
        "Rows": _object({"instances": instances})
        | {"examples": [body for bodies in examples for body in bodies[:2]]},
        "Tensors": _object(
            {
                "id": {"type": "string", "description": "Comes back in the answer."},
                "parameters": {"type": "object"},
                "inputs": {"anyOf": inputs},
                "outputs": {"type": "array", "items": output},
            },
            ("inputs",),
        )
        | {"examples": [tensors for *_, tensors in examples]},
        "IndexRequest": _object({"ready": {"type": "boolean"}}, ()),
        "Parameters": {"type": "object"},
    }


def _tensor(field: Field) -> _Json:
    values = field.json_schema()
    values.pop("description", None)
    return _object(
        {
            "name": {"const": field.name},
            "datatype": {"enum": list(DATATYPES[field.type])},
            "shape": {
                "type": "array",
                "prefixItems": [_COUNT, {"const": 1}],
                "items": False,
                "minItems": 1,
                "description": "[rows] or [rows, 1]",
            },
            "data": _values({"anyOf": [values, _exactly([values], "nested")]}, 1),
            "parameters": {"type": "object"},
        },
        ("name", "datatype", "shape"),
    )


def _matrix(schema: Schema) -> _Json:
    width = len(schema.fields)
    integers = all(field.type == "int" for field in schema.fields)
    number = {"type": ["number", "null"]}
    row = {"type": "array", "items": number, "minItems": width, "maxItems": width}
    return _object(
        {
            "name": {"type": "string"},
            "datatype": {"enum": list(DATATYPES["int" if integers else "float"])},
            "shape": _exactly([_COUNT, {"const": width}], "[rows, fields]"),
            "data": {"anyOf": [_values(number, width), _values(row, 1)]},
            "parameters": {"type": "object"},
        },
        ("name", "datatype", "shape"),
    )


def _answers(classes: list[str]) -> _Json:
    number = {"type": "number"}
    prediction: _Json = number
    if classes:
        prediction = {
            "type": "array",
            "items": number,
            "minItems": len(classes),
            "maxItems": len(classes),
            "description": f"Probabilities of {', '.join(classes)}.",
        }
    shape = {"type": "array", "items": _COUNT, "minItems": 1, "maxItems": 2}
    base = _object(dict.fromkeys(classes, number)) if classes else number
    row = {
        "type": "object",
        "additionalProperties": number,
        "description": "What each raw feature added to `base`, in `unit`.",
    }
    explanation = _object(dict.fromkeys(classes, row)) if classes else row
    text, flag = {"type": "string"}, {"type": "boolean"}
    described = {
        "type": "array",
        "items": _object(
            {"name": text, "datatype": text, "shape": {"type": "array", "items": _INTEGER}}
        ),
    }
    return {
        "Predictions": _object({"predictions": {"type": "array", "items": prediction}}),
        "Explanations": _object(
            {
                "method": text,
                "unit": text,
                "base": base,
                "predictions": {"type": "array", "items": prediction},
                "explanations": {"type": "array", "items": explanation},
            }
        ),
        "Inference": _object(
            {
                "model_name": text,
                "model_version": text,
                "id": text,
                "outputs": {
                    "type": "array",
                    "items": _object(
                        {
                            "name": {"const": OUTPUT},
                            "datatype": {"const": "FP32"},
                            "shape": shape,
                            "data": {"type": "array", "items": number},
                        }
                    ),
                    "minItems": 1,
                },
            }
        ),
        "ModelList": _object({"models": {"type": "array", "items": text}}),
        "ModelStatus": _object({"name": text, "ready": flag}),
        "Server": _object(
            {"name": text, "version": text, "extensions": {"type": "array", "items": text}}
        ),
        "Alive": _object({"status": {"const": "alive"}}),
        "Live": _object({"live": flag}),
        "Ready": _object({"ready": flag}),
        "Metadata": _object(
            {
                "name": text,
                "versions": {"type": "array", "items": text},
                "platform": text,
                "inputs": described,
                "outputs": described,
            }
        ),
        "Index": {
            "type": "array",
            "items": _object(
                {"name": text, "version": text, "state": text, "reason": text}, ("name", "state")
            ),
        },
        "Nothing": {"type": "object"},
        "Document": _object({"openapi": text}),
    }


def _examples(schema: Schema, reference: Mapping[str, list[Any]]) -> tuple[_Json, _Json, _Json]:
    """The same rows by name, in order, and as tensors."""
    count = min(_EXAMPLE_ROWS, len(next(iter(reference.values()))))
    columns = {name: reference.get(name, [None] * count)[:count] for name in schema.names}
    rows = list(zip(*columns.values(), strict=True))
    tensors = [
        item | {"shape": [count], "data": columns[item["name"]]} for item in tensor_metadata(schema)
    ]
    return (
        {"instances": [dict(zip(columns, row, strict=True)) for row in rows]},
        {"instances": [list(row) for row in rows]},
        {"inputs": tensors},
    )


def _headers(status: int) -> _Json:
    name = {405: "Allow", 429: "Retry-After", 503: "Retry-After"}.get(status)
    schema = {"type": "string"} if status == 405 else {"type": "integer", "minimum": 1}
    return {"headers": {name: {"schema": schema}}} if name else {}


def _exactly(items: list[_Json], description: str) -> _Json:
    return {
        "type": "array",
        "description": description,
        "prefixItems": items,
        "items": False,
        "minItems": len(items),
    }


def _values(item: _Json, fewest: int) -> _Json:
    return {"type": "array", "items": item, "minItems": fewest}


def _object(properties: _Json, required: tuple[str, ...] | None = None) -> _Json:
    """An object; without `required`, every property is."""
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": needed}


def _json(description: str, schema: _Json) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str, kind: str = "schemas") -> _Json:
    return {"$ref": f"#/components/{kind}/{name}"}


_INTEGER = {"type": "integer"}
_COUNT = {"type": "integer", "minimum": 1}
_METRICS = {
    "description": "OK",
    "content": {
        kind: {"schema": {"type": "string"}}
        for kind in ("text/plain", "application/openmetrics-text")
    },
}
