"""The KFP adapter of the release step."""

from kfp import dsl

from slipway.images import TOOLS


@dsl.component(base_image=TOOLS, install_kfp_package=False)
def release(
    project: str,
    project_version: str,
    code_version: str,
    version: str,
    facts: dsl.Output[dsl.Artifact],
) -> str:
    """Put the champion into service: canary, then all requests; the version before goes last.

    Args:
        project: Path of the contract in the image.
        project_version: The contract and SQL that the run was submitted with.
        code_version: The code that the run was submitted with.
        version: The version that this run registered; it is released if it is the champion.
        facts: What the report shows of this step, as JSON.

    Returns:
        The version that serves.
    """
    from components.release.step import release as work
    from slipway.step import running

    with running("release", project, project_version, code_version, facts.path) as step:
        return work(step, version)
