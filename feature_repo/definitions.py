"""The contract as Feast sees it: entities, sources, feature views, and the model's service."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from feature_repo.build import view_location
from slipway.contract.model import FeatureView as View
from slipway.project import Project

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView, FileSource

    FeastObject = Entity | FileSource | FeatureView | FeatureService


def feast_project(project: Project) -> str:
    """Feast's name of the project: the contract's, in the letters that Feast allows."""
    return project.contract.name.replace("-", "_")


def definitions(project: Project, feature_version: str) -> list[FeastObject]:
    """What `feast apply` registers: the contract over the files of one feature version.

    The service has the contract's name and holds every view, in the contract's order.
    """
    from feast import Entity, FeatureService, ValueType
    from feast.types import Bool, Float64, Int64, String

    types = {"int": Int64, "float": Float64, "string": String, "bool": Bool}
    keys = {"int": ValueType.INT64, "string": ValueType.STRING}
    tags = {"project_version": project.version, "feature_version": feature_version}
    entities = {
        name: Entity(
            name=name,
            join_keys=[name],
            value_type=keys[entity.type],
            description=entity.description,
        )
        for name, entity in project.contract.entities.items()
    }

    def view_of(name: str, view: View) -> FeatureView:
        from feast import FeatureView, Field, FileSource

        fields = {entity: project.contract.entities[entity].type for entity in view.entities}
        fields |= {feature: item.type for feature, item in view.features.items()}
        return FeatureView(
            name=name,
            description=view.description,
            entities=[entities[entity] for entity in view.entities],
            # Feast's word for `never` is zero.
            ttl=view.ttl or timedelta(0),
            schema=[Field(name=field, dtype=types[kind]) for field, kind in fields.items()],
            source=FileSource(
                name=name,
                path=view_location(project, feature_version, name),
                timestamp_field=view.event_timestamp,
            ),
            tags=tags,
        )

    views = [view_of(name, view) for name, view in project.contract.views.items()]
    service = FeatureService(
        name=project.contract.name,
        features=views,
        description=project.contract.description,
        tags=tags,
    )
    return [*entities.values(), *views, service]
