"""The training pipeline: from source tables to a registered model."""

from typing import NamedTuple

from kfp import dsl

from components.evaluate.component import evaluate
from components.features.component import features
from components.ingest.component import ingest
from components.register.component import register
from components.train.component import train
from components.validate.component import validate


class Records(NamedTuple):
    """What each step leaves for the report, and the registered model package."""

    ingest: dsl.Artifact
    validate: dsl.Artifact
    features: dsl.Artifact
    train: dsl.Artifact
    evaluate: dsl.Artifact
    register: dsl.Artifact
    training_set: dsl.Dataset
    package: dsl.Model


@dsl.pipeline(
    name="training",
    description="Ingest, validate, build features, train, evaluate, register.",
)
def training(project: str, project_version: str, code_version: str, as_of: str = "") -> Records:
    """Train a model as of a moment and register it; the gates decide if it becomes champion.

    Args:
        project: Path of the contract, as the steps see it.
        project_version: Version of the contract and its SQL; steps refuse another one.
        code_version: Version of the code that runs; part of every cache key.
        as_of: Everything later is invisible. Empty: the contract's own, or now.
    """
    common = {"project": project, "project_version": project_version, "code_version": code_version}

    ingested = ingest(**common, as_of=as_of)
    # Only the source knows whether it changed; an unchanged one is a no-op inside the step.
    ingested.set_caching_options(False)
    data_version, moment = ingested.outputs["data_version"], ingested.outputs["as_of"]

    validated = validate(**common, data_version=data_version)

    built = features(**common, data_version=validated.outputs["Output"], as_of=moment)
    training_set, feature_version = built.outputs["training_set"], built.outputs["Output"]

    trained = train(**common, feature_version=feature_version, training_set=training_set)

    evaluated = evaluate(
        **common,
        data_version=data_version,
        training_set=training_set,
        candidate=trained.outputs["candidate"],
    )
    # The champion to compare with lives in the registry, outside of any cache key. The step itself
    # never looks at the same test window twice with the same candidate.
    evaluated.set_caching_options(False)

    registered = register(
        **common,
        data_version=data_version,
        feature_version=feature_version,
        as_of=moment,
        training_set=training_set,
        candidate=trained.outputs["candidate"],
        evaluation=evaluated.outputs["evaluation"],
    )
    registered.set_caching_options(False)

    return Records(
        ingest=ingested.outputs["facts"],
        validate=validated.outputs["facts"],
        features=built.outputs["facts"],
        train=trained.outputs["facts"],
        evaluate=evaluated.outputs["facts"],
        register=registered.outputs["facts"],
        training_set=training_set,
        package=registered.outputs["package"],
    )
