"""Rules that span several fields of a contract. Each names the path, the problem and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from typing import NamedTuple

from slipway.contract.model import (
    Contract,
    Feature,
    Range,
    RequestFeature,
    TorchSettings,
    XgboostSettings,
)
from slipway.contract.units import cpu_cores, memory_bytes

METRICS = {
    "binary": ("roc_auc", "pr_auc", "log_loss", "brier"),
    "multiclass": ("roc_auc", "log_loss", "accuracy", "f1_macro", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
HIGHER_IS_BETTER = frozenset({"roc_auc", "pr_auc", "accuracy", "f1_macro", "r2"})
TIME_SLICES = ("month", "day_of_week", "hour")
RESERVED = frozenset({"row_id", "window"})
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle"})
LONGEST_CANARY = timedelta(days=1)


class Problem(NamedTuple):
    path: tuple[str | int, ...]
    message: str
    fix: str


def did_you_mean(word: str, known: object) -> str:
    """A fix that names the closest known word, or all of them."""
    words = [str(item) for item in known]  # type: ignore[attr-defined]
    close = get_close_matches(word, words, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"use one of: {', '.join(words)}" if words else "remove it"


def find_problems(contract: Contract) -> list[Problem]:
    """Everything that is wrong across fields, in document order."""
    return [
        *_sources(contract),
        *_views(contract),
        *_request(contract),
        *_target(contract),
        *_training(contract),
        *_gates(contract),
        *_serving(contract),
    ]


def _ordered(bounds: tuple[object, object] | None) -> bool:
    if bounds is None or None in bounds:
        return True
    low, high = bounds
    try:
        return low <= high  # type: ignore[operator,no-any-return]
    except TypeError:
        return False


def _sources(contract: Contract) -> Iterator[Problem]:
    for name, source in contract.sources.items():
        path = ("sources", name)
        for field in ("key", "ordered_by"):
            for at, column in enumerate(getattr(source, field)):
                if column not in source.columns:
                    yield Problem(
                        (*path, field, at),
                        f"'{column}' is not a column of source '{name}'",
                        did_you_mean(column, source.columns),
                    )
        is_database = "://" in source.uri and source.uri.split("://")[0].split("+")[0] in DATABASES
        if is_database and not source.query:
            yield Problem(
                (*path, "uri"), "a database source has no query", "add `query: SELECT ...`"
            )
        if source.query and not is_database:
            yield Problem(
                (*path, "query"), "only a database source has a query", "remove it or change `uri`"
            )
        for column_name, column in source.columns.items():
            at_column = (*path, "columns", column_name)
            if not _ordered(column.range):
                yield Problem(
                    (*at_column, "range"), "the range ends before it starts", "write [low, high]"
                )
            if column.format and column.type != "timestamp":
                yield Problem(
                    (*at_column, "format"), "only a timestamp has a format", "remove `format`"
                )
            if column.range and column.type in ("string", "bool"):
                yield Problem(
                    (*at_column, "range"),
                    f"a {column.type} column has no range",
                    "use `values` instead",
                )


def _views(contract: Contract) -> Iterator[Problem]:
    for name, view in contract.views.items():
        for at, entity in enumerate(view.entities):
            if entity not in contract.entities:
                yield Problem(
                    ("views", name, "entities", at),
                    f"'{entity}' is not an entity",
                    did_you_mean(entity, contract.entities),
                )
        for feature_name, feature in view.features.items():
            yield from _range(("views", name, "features", feature_name), feature)
            if feature_name in contract.entities or feature_name == view.event_timestamp:
                yield Problem(
                    ("views", name, "features", feature_name),
                    f"'{feature_name}' is a key of the view and cannot be a feature",
                    "rename the feature",
                )


def _range(path: tuple[str, ...], feature: Feature | RequestFeature) -> Iterator[Problem]:
    if feature.range and feature.type not in ("int", "float"):
        yield Problem((*path, "range"), f"a {feature.type} feature has no range", "remove `range`")
    elif not _ordered(feature.range):
        yield Problem((*path, "range"), "the range ends before it starts", "write [low, high]")


def _request(contract: Contract) -> Iterator[Problem]:
    for name, feature in contract.request.items():
        path = ("request", name)
        if name in RESERVED or name == contract.target.label:
            yield Problem(path, f"'{name}' is reserved", "rename the request feature")
        if feature.type == "timestamp" and not feature.parts:
            yield Problem(
                path,
                "a timestamp is not a number that a model can generalise from",
                "add `parts: [minute_of_day, day_of_week]`",
            )
        if feature.type != "timestamp" and feature.parts:
            yield Problem((*path, "parts"), "only a timestamp has parts", "remove `parts`")
        yield from _range(path, feature)
        entity = contract.entities.get(name)
        if entity and entity.type != feature.type:
            yield Problem(
                (*path, "type"),
                f"entity '{name}' is a {entity.type}, the request feature a {feature.type}",
                f"write `type: {entity.type}`",
            )
    if not contract.request and not contract.views:
        yield Problem(("views",), "the model has no feature", "add a view or a request feature")


def _target(contract: Contract) -> Iterator[Problem]:
    target = contract.target
    if target.task == "multiclass":
        if not target.classes or len(target.classes) < 3:
            yield Problem(
                ("target", "classes" if target.classes else "task"),
                "a multiclass target needs three classes or more",
                "list the label's values under `classes`, or use `task: binary`",
            )
        elif len(set(target.classes)) != len(target.classes):
            yield Problem(("target", "classes"), "a class is listed twice", "list each class once")
    elif target.classes:
        yield Problem(
            ("target", "classes"), f"a {target.task} target has no classes", "remove `classes`"
        )
    if target.label in contract.entities:
        yield Problem(
            ("target", "label"), "the label is also an entity", "name the label's own column"
        )
    for at, name in enumerate(contract.evaluation.slices):
        known = (*contract.request, *contract.entities, *TIME_SLICES)
        if name not in known:
            yield Problem(
                ("evaluation", "slices", at),
                f"'{name}' cannot be sliced by",
                did_you_mean(name, known),
            )


def _training(contract: Contract) -> Iterator[Problem]:
    training = contract.training
    if not training.search:
        return
    settings = {
        "torch": TorchSettings.model_fields,
        "xgboost": XgboostSettings.model_fields,
    }
    for name, item in training.search.space.items():
        path = ("training", "search", "space", name)
        engine, _, setting = name.partition(".")
        if engine not in settings or setting not in settings[engine]:
            known = [f"{e}.{s}" for e, fields in settings.items() for s in fields]
            yield Problem(path, f"'{name}' is not a setting", did_you_mean(name, known))
        elif training.engine not in (engine, "auto"):
            yield Problem(
                path, f"the engine is {training.engine}", f"search {training.engine} settings"
            )
        if isinstance(item, Range):
            if training.search.method == "grid":
                yield Problem(path, "a grid needs a list of values", "write [a, b, c]")
            if item.min >= item.max:
                yield Problem(path, "`min` is not below `max`", "swap them")
            if item.log and item.min <= 0:
                yield Problem(path, "a log interval starts above 0", "raise `min`")
        elif not item:
            yield Problem(path, "the list is empty", "write the values to try")


def _gates(contract: Contract) -> Iterator[Problem]:
    known = METRICS[contract.target.task]
    for at, gate in enumerate(contract.gates):
        path = ("gates", at)
        if gate.metric not in known:
            yield Problem(
                (*path, "metric"),
                f"'{gate.metric}' is not a metric of a {contract.target.task} task",
                did_you_mean(gate.metric, known),
            )
        bounds = (gate.min is not None) + (gate.max is not None) + (gate.versus is not None)
        if bounds != 1:
            yield Problem(
                path,
                "a gate has exactly one of `min`, `max` and `versus`",
                "split it into several gates" if bounds else "add one",
            )
        if gate.tolerance and gate.versus is None:
            yield Problem(
                (*path, "tolerance"), "`tolerance` belongs to `versus`", "move it into the bound"
            )


def _serving(contract: Contract) -> Iterator[Problem]:
    serving = contract.serving
    for path, pods in (
        (("serving",), serving),
        (("serving", "transformer"), serving.transformer),
    ):
        replicas = pods.replicas
        if replicas.most < replicas.min:
            yield Problem(
                (*path, "replicas", "max"),
                f"at most {replicas.most} replicas are fewer than the least, {replicas.min}",
                "swap them, or leave `max` out",
            )
        amounts = pods.resources
        if memory_bytes(amounts.memory) > memory_bytes(amounts.memory_limit):
            yield Problem(
                (*path, "resources", "memory"),
                f"{amounts.memory} is more than the limit, {amounts.memory_limit}",
                "raise `memory_limit`",
            )
        if amounts.cpu_limit and cpu_cores(amounts.cpu) > cpu_cores(amounts.cpu_limit):
            yield Problem(
                (*path, "resources", "cpu"),
                f"{amounts.cpu} is more than the limit, {amounts.cpu_limit}",
                "raise `cpu_limit`, or leave it out",
            )
    if serving.mode == "split" and not contract.views:
        yield Problem(
            ("serving", "mode"),
            "a model without views has no features to look up",
            "use `mode: combined`",
        )
    if serving.mode == "combined" and "transformer" in serving.model_fields_set:
        yield Problem(
            ("serving", "transformer"),
            "only `mode: split` has a transformer",
            "remove it, or use `mode: split`",
        )
    steps = serving.canary.steps
    for at in range(1, len(steps)):
        if steps[at] <= steps[at - 1]:
            yield Problem(
                ("serving", "canary", "steps", at),
                f"{steps[at]} per cent after {steps[at - 1]} is no step forward",
                "let the steps rise",
            )
    if len(steps) * serving.canary.hold > LONGEST_CANARY:
        yield Problem(
            ("serving", "canary", "hold"),
            f"{len(steps)} steps of this length take more than a day, when the release is ended",
            "hold for less, or take fewer steps",
        )
