"""Where a model's features lie in Feast's online stores: resolved once, through its registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slipway.errors import UserError

if TYPE_CHECKING:
    from feast import FeatureStore

Record = tuple[int, list[Any]]
"""What a store holds of an entity in one view: its moment in microseconds since 1970, and its
features' values in the view's order."""

KEYS = 10_000
"""Entity keys that are remembered for each combination of entities."""
LONG = 200
"""Characters of a text from which its key is not remembered: clients choose it."""


class StoreFailure(Exception):
    """The online store does not answer as it should; the message is for the log."""


@dataclass(frozen=True, slots=True)
class View:
    stored: str
    """Its name in the online store."""
    entities: tuple[str, ...]
    positions: Mapping[str, int]
    """Feast's names of the features, without the view's, to their places in a record."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The views of one model in one Feast project."""

    project: str
    views: tuple[View, ...]
    """In the signature's order."""
    keys: Mapping[tuple[str, ...], Callable[..., bytes]]
    """For each combination of entities, their values to Feast's entity key."""


def resolve(store: FeatureStore, signature: Mapping[str, Any]) -> Layout:
    """What the registry says of the model's feature service. Raises `UserError` where it lacks
    something that the model needs."""
    from feast.errors import FeastObjectNotFoundException
    from feast.infra.online_stores.helpers import compute_versioned_name
    from feast.types import Bool, Float64, Int64, String

    types = {"int": Int64, "float": Float64, "string": String, "bool": Bool}
    try:
        service = store.get_feature_service(signature["name"])
        projections = {item.name: item for item in service.feature_view_projections}
        stored = {name: store.get_feature_view(name) for name in projections}
    except FeastObjectNotFoundException as error:
        raise UserError(f"Feast's registry lacks what the model needs: {error}.", _FIX) from None
    held = {
        f"{name}__{feature.name}": feature.dtype
        for name, projection in projections.items()
        for feature in projection.features
    }
    needed = [item for item in signature["features"] if item["source"] != "request"]
    lacking = [
        f"{item['name']} ({item['type']})"
        for item in needed
        if held.get(item["name"]) != types[item["type"]]
    ]
    lacking += [
        f"{name} by {', '.join(view['entities'])}"
        for name, view in signature["views"].items()
        if name in stored and set(stored[name].join_keys) != set(view["entities"])
    ]
    if lacking:
        raise UserError(f"The model needs {', '.join(lacking)}, the online store lacks it.", _FIX)
    versions = store.config.registry.enable_online_feature_view_versioning
    views = tuple(
        View(
            compute_versioned_name(stored[name], versions),
            tuple(view["entities"]),
            _positions(name, needed),
        )
        for name, view in signature["views"].items()
    )
    kinds = {
        column.name: column.dtype.to_value_type()
        for view in stored.values()
        for column in view.entity_columns
    }
    version = store.config.entity_key_serialization_version
    keys = {
        view.entities: _key_function(
            view.entities, [kinds[name] for name in view.entities], version
        )
        for view in views
    }
    return Layout(store.project, views, keys)


def _positions(view: str, needed: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    names = [item["name"] for item in needed if item["source"] == view]
    return {name.removeprefix(f"{view}__"): place for place, name in enumerate(names)}


_FIX = "Materialise it from the feature version that the model was trained on."


def _key_function(
    entities: Sequence[str], kinds: Sequence[Any], version: int
) -> Callable[..., bytes]:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.type_map import python_values_to_proto_values

    def build(*values: Any) -> bytes:
        protos = [
            python_values_to_proto_values([value], kind)[0]
            for value, kind in zip(values, kinds, strict=True)
        ]
        key: bytes = serialize_entity_key(
            EntityKey(join_keys=entities, entity_values=protos), version
        )
        return key

    remembered = lru_cache(KEYS)(build)

    def key(*values: Any) -> bytes:
        for value in values:
            if type(value) is str and len(value) > LONG:
                return build(*values)
        return remembered(*values)

    return key


def value_reader() -> Callable[[bytes], Any]:
    """From Feast's stored value to Python's; null for NaN, which JSON does not have."""
    from feast.protos.feast.types.Value_pb2 import Value

    parse = Value.FromString

    def read(data: bytes) -> Any:
        value = parse(data)
        kind = value.WhichOneof("val")
        if kind is None or kind == "null_val":
            return None
        plain = getattr(value, kind)
        return None if plain != plain else plain

    return read
