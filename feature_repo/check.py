"""Whether the stores of a project answer, and take what a run writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from feature_repo.definitions import feast_project
from feature_repo.shared import redis_config
from feature_repo.store import config_file, open_store, store_config
from slipway.errors import UserError
from slipway.project import Project
from slipway.storage import explained, locate


def check(project: Project) -> Iterator[tuple[str, str]]:
    """What each store is for and where it lies, after something was written to it; what Feast's
    registry lacks is made. Raises `UserError` for the first that does not do as it should."""
    home = project.home
    for what, uri in (
        ("data versions", home.data_uri),
        ("feature versions", home.features_uri),
        ("record of looks at test windows", home.evaluations_uri),
    ):
        place = locate(uri) / ".check"
        place.write_text("")
        with explained(place.uri, "removed"):
            place.filesystem.delete_file(place.path)
        yield what, uri
    if not config_file(home.feast):
        yield "Feast's registry and online store", str(home.feast)
        return
    registry = store_config(project, home.feast).registry
    with _explained("Feast's registry", "SLIPWAY_FEAST_REGISTRY"):
        store = open_store(project, home.feast)
        store.registry  # noqa: B018 (opened on first use)
    yield "Feast's registry", f"of the type {registry.registry_type}"
    with _explained("the online store", "SLIPWAY_FEAST_REDIS"):
        config = redis_config(project, home.feast)
        client = store._get_provider().online_store._get_client(config)
        client.set(f"slipway:{feast_project(project)}:check", "", ex=1)
        version = client.info("server")["redis_version"]
    yield "online store", f"Redis {version}"


@contextmanager
def _explained(what: str, variable: str) -> Iterator[None]:
    from redis.exceptions import RedisError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (RedisError, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{what} does not answer as it should ({reason}).",
            f"Check {variable}, that the server runs, and that the network lets this pod reach it.",
        ) from None
