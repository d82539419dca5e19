"""The newest data into the online store: a training run's first steps, and no training."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pipelines.local import alone
from slipway.project import Project
from slipway.step import Step

KEPT = timedelta(days=2)
"""How long the views of a refresh stay: nobody but an offline look at the registry reads them."""


def refresh(project: Project, as_of: str = "") -> dict[str, Any]:
    """Read the sources, hold them against the contract, build the feature views, and bring the
    online store to `as_of`. Again with the same sources and moment, nothing is written.

    Returns what is in the store now. Raises `UserError` for sources that cannot be read or break
    the contract; the store stays as it was.
    """
    from components.features.step import online
    from components.ingest.step import ingest
    from components.validate.step import validate
    from feature_repo.build import find, prune

    moment = project.contract.resolve_as_of(as_of)
    project.home.pipelines.mkdir(parents=True, exist_ok=True)
    with alone(project.home.pipelines):
        data_version = ingest(Step("ingest", project))
        # What features were built of has been held against the contract before.
        if find(project, data_version, moment, training=False) is None:
            docs = project.home.report / "data_docs.html"
            validate(Step("validate", project), data_version, docs)
        features = Step("features", project)
        feature_version = online(features, data_version, moment)
        if removed := prune(project, feature_version, KEPT):
            features.say(f"{removed} older feature versions without a training set removed")
    return {
        "data_version": data_version,
        "feature_version": feature_version,
        "as_of": moment.isoformat(),
        "online_rows": features.facts["online_rows"],
    }
