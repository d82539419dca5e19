"""The training pipeline: from source tables to a registered model, and on a cluster to service."""

from typing import Any, NamedTuple

from kfp import dsl

from components.evaluate.component import evaluate
from components.features.component import features
from components.ingest.component import ingest
from components.register.component import register
from components.release.component import release
from components.train.component import train
from components.validate.component import validate
from slipway.images import SERVE, TRAIN

HOUR = 3600


class Records(NamedTuple):
    """What each step leaves for the report, and the registered model package."""

    ingest: dsl.Artifact
    validate: dsl.Artifact
    features: dsl.Artifact
    train: dsl.Artifact
    evaluate: dsl.Artifact
    register: dsl.Artifact
    release: dsl.Artifact
    training_set: dsl.Dataset
    package: dsl.Model


def on_cluster(task: dsl.PipelineTask, memory: str, hours: int = 2, account: str = "") -> None:
    """What only a cluster heeds: the step's share, its end at the latest, and its rights.

    `account` is a service account that the chart kfp makes (`stepAccounts`) for a step that needs
    more rights than every step has. The task must have no other label.
    """
    task.set_cpu_request("100m").set_memory_request(memory)
    # As kfp-kubernetes' set_timeout and add_pod_label write it, a package for these two lines.
    settings: dict[str, Any] = {"activeDeadlineSeconds": str(hours * HOUR)}
    if account:
        settings["podMetadata"] = {"labels": {"slipway/service-account": account}}
    task.platform_config["kubernetes"] = settings


@dsl.pipeline(
    name="training",
    description="Ingest, validate, build features, train, evaluate, register, release.",
)
def training(project: str, project_version: str, code_version: str, as_of: str = "") -> Records:
    """Train a model as of a moment and register it; the gates decide if it becomes champion, and
    the champion is put into service.

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

    # What serves is state outside of the key too. Where there is no cluster, this does nothing.
    released = release(**common, version=registered.outputs["Output"])
    released.set_caching_options(False)

    # What these two start is of the same commit as the steps.
    trained.set_env_variable("SLIPWAY_TRAIN_IMAGE", TRAIN)
    released.set_env_variable("SLIPWAY_SERVE_IMAGE", SERVE)

    on_cluster(ingested, memory="512Mi")
    on_cluster(validated, memory="512Mi")
    on_cluster(built, memory="1Gi")
    on_cluster(trained, memory="256Mi", hours=25, account="pipeline-trainer")
    on_cluster(evaluated, memory="768Mi")
    on_cluster(registered, memory="512Mi")
    # The longest canary that a contract may ask for, and the way to it.
    on_cluster(released, memory="192Mi", hours=26, account="pipeline-releaser")

    return Records(
        ingest=ingested.outputs["facts"],
        validate=validated.outputs["facts"],
        features=built.outputs["facts"],
        train=trained.outputs["facts"],
        evaluate=evaluated.outputs["facts"],
        register=registered.outputs["facts"],
        release=released.outputs["facts"],
        training_set=training_set,
        package=registered.outputs["package"],
    )
