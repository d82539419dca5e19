"""The KFP adapter of the validate step."""

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
    """Hold a data version against the contract; a broken critical rule stops the run.

    Args:
        project: Path of the contract in the image.
        project_version: The contract and SQL that the run was submitted with.
        code_version: The code that the run was submitted with; a part of the cache key.
        data_version: The data version to validate.
        data_docs: Every rule and what became of it, as one page.
        facts: What the report shows of this step, as JSON.

    Returns:
        The same data version, validated.
    """
    from pathlib import Path

    from components.validate.step import validate as work
    from slipway.step import running

    with running("validate", project, project_version, code_version, facts.path) as step:
        return work(step, data_version, Path(data_docs.path))
