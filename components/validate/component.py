"""KFP adapter of the validate step."""

from kfp import dsl

from slipway.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def validate(
    project: str,
    project_version: str,
    code_version: str,
    data_version: str,
    data_docs: dsl.Output[dsl.HTML],
    facts: dsl.Output[dsl.Artifact],
) -> str:
    """Check a data version against the contract; a broken critical rule stops the run.

    Args:
        project: Path of the contract, as the step sees it.
        project_version: Version of the contract and its SQL.
        code_version: Version of the code that runs.
        data_version: Version of the data.
        data_docs: Great Expectations' data docs.
        facts: What happened, for the report.

    Returns:
        The same data version, validated.
    """
    from pathlib import Path

    from components.validate.step import validate as work
    from slipway.step import running

    with running("validate", project, project_version, facts.path) as step:
        return work(step, data_version, Path(data_docs.path))
