"""The KFP adapter of the register step."""

from kfp import dsl

from slipway.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def register(
    project: str,
    project_version: str,
    code_version: str,
    data_version: str,
    feature_version: str,
    as_of: str,
    training_set: dsl.Input[dsl.Dataset],
    candidate: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    package: dsl.Output[dsl.Model],
    facts: dsl.Output[dsl.Artifact],
) -> str:
    """Package the candidate, prove that it serves, and register it; the gates decide if it leads.

    Args:
        project: Path of the contract in the image.
        project_version: The contract and SQL that the run was submitted with.
        code_version: The code that the run was submitted with.
        data_version: The data version that the model learnt from.
        feature_version: The feature version made of it.
        as_of: The moment in UTC up to which all of it was known, as ISO 8601.
        training_set: Folder with `training_set.parquet`.
        candidate: The trained model.
        evaluation: Its scores on the test window.
        package: The model package: the folder that is registered and served.
        facts: What the report shows of this step, as JSON.

    Returns:
        The version of the registered model.
    """
    from pathlib import Path

    from components.register.step import register as work
    from slipway.step import running

    with running("register", project, project_version, code_version, facts.path) as step:
        return work(
            step,
            data_version,
            feature_version,
            as_of,
            Path(training_set.path),
            Path(candidate.path),
            Path(evaluation.path),
            Path(package.path),
        )
