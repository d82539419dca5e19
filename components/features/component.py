"""The KFP adapter of the features step."""

from kfp import dsl

from slipway.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def features(
    project: str,
    project_version: str,
    code_version: str,
    data_version: str,
    as_of: str,
    training_set: dsl.Output[dsl.Dataset],
    facts: dsl.Output[dsl.Artifact],
) -> str:
    """Build feature views and training set as known at a moment, and fill the online store.

    Args:
        project: Path of the contract in the image.
        project_version: The contract and SQL that the run was submitted with.
        code_version: The code that the run was submitted with; a part of the cache key.
        data_version: A validated data version.
        as_of: The moment in UTC, as ISO 8601; whatever became known later is invisible.
        training_set: Folder with `training_set.parquet`.
        facts: What the report shows of this step, as JSON.

    Returns:
        The feature version.
    """
    from pathlib import Path

    from components.features.step import features as work
    from slipway.step import running

    with running("features", project, project_version, code_version, facts.path) as step:
        return work(step, data_version, as_of, Path(training_set.path))
