"""Feature views and training set as known at a moment, and the online store brought up to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.contract import Contract
from slipway.step import Step

if TYPE_CHECKING:
    import pyarrow as pa

    from feature_repo.build import FeatureVersion

TRAINING_SET = "training_set.parquet"


def features(step: Step, data_version: str, as_of: str, training_set: Path) -> str:
    """Build, or find, the feature version of a data version as known at `as_of`.

    Writes the folder `training_set` and brings the online store to `as_of`, but a shared one that
    is at a later moment not back; returns the feature version. Raises `UserError` for SQL that
    fails or breaks the contract, and for an `as_of` that leaves a window without rows.
    """
    project = step.project
    moment = project.contract.resolve_as_of(as_of)
    built = _built(step, data_version, moment, training=True)
    training_set.mkdir(parents=True, exist_ok=True)
    built.fetch_training_set(training_set / TRAINING_SET)
    step.facts.update(describe(project.contract, moment, training_set / TRAINING_SET))
    _fill(step, built, moment, back=False)
    return built.id


def online(step: Step, data_version: str, moment: datetime) -> str:
    """The same without a training set, for which the newest data may have no labels yet: the online
    store at `moment`, also where it was at a later one."""
    built = _built(step, data_version, moment, training=False)
    _fill(step, built, moment, back=True)
    return built.id


def _built(step: Step, data_version: str, moment: datetime, training: bool) -> FeatureVersion:
    from feature_repo.build import build
    from slipway.data import DataStore

    store = DataStore(step.project.home.data_uri)
    built = build(step.project, store, data_version, moment, training)
    step.say(
        f"feature version {built.id} "
        + ("is there already" if built.reused else f"built: {len(built.views)} views")
    )
    step.facts.update(
        feature_version=built.id, as_of=moment.isoformat(), views=built.views, reused=built.reused
    )
    return built


def _fill(step: Step, built: FeatureVersion, moment: datetime, back: bool) -> None:
    with step.importing():
        from slipway.imports import import_feast

        import_feast()
        import feature_repo.offline_store  # noqa: F401
        from feature_repo.materialize import materialize
    rows = materialize(step.project, built.id, moment, step.project.home.feast, back)
    step.facts["online_rows"] = rows
    step.say(f"the online store holds {rows:,} entity rows")


def describe(contract: Contract, as_of: datetime, training_set: Path) -> dict[str, Any]:
    """What the report shows of a training set: windows, months, nulls, drift of the test window.

    Reads the features of two windows into memory, a column at a time.
    """
    import pyarrow.parquet

    from slipway.drift import feature_drift
    from slipway.encoder import Encoder, input_features

    target = contract.target
    labels = pyarrow.parquet.read_table(
        training_set, columns=["window", target.event_timestamp, target.label]
    )
    names = [feature.name for feature in input_features(contract)]
    train, test = (
        pyarrow.parquet.read_table(training_set, columns=names, filters=[("window", "=", window)])
        for window in ("train", "test")
    )
    return {
        "features": len(names),
        "windows": _windows(contract, as_of, labels),
        "months": _months(contract, labels),
        "null_share": [
            {
                "feature": name,
                "train": train[name].null_count / train.num_rows,
                "test": test[name].null_count / test.num_rows,
            }
            for name in names
        ],
        "drift": feature_drift(Encoder.fit(contract, train), train, test),
    }


def _windows(contract: Contract, as_of: datetime, labels: pa.Table) -> dict[str, Any]:
    import pyarrow.compute as pc

    found: dict[str, Any] = {}
    for name, (start, end) in contract.windows(as_of).items():
        values = labels.filter(pc.equal(labels["window"], name))[contract.target.label]
        found[name] = {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "rows": len(values),
            **_label_summary(contract, values),
        }
    return found


def _months(contract: Contract, labels: pa.Table) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    asked = labels[contract.target.event_timestamp]
    local = asked.cast(pa.timestamp("us", contract.timezone))
    months = pc.strftime(local, format="%Y-%m")
    return [
        {
            "month": month,
            "rows": len(values := labels.filter(pc.equal(months, month))[contract.target.label]),
            "label_mean": _label_summary(contract, values)["label_mean"],
        }
        for month in sorted(pc.unique(months).to_pylist())
    ]


def _label_summary(contract: Contract, values: pa.ChunkedArray) -> Mapping[str, Any]:
    import pyarrow.compute as pc

    classes = contract.target.classes
    if not classes:
        return {"label_mean": pc.mean(values).as_py()}
    shares = {
        name: pc.sum(pc.equal(values, at)).as_py() / len(values) for at, name in enumerate(classes)
    }
    return {"label_mean": None, "class_shares": shares}
