"""The KFP adapter of the ingest step."""

from typing import NamedTuple

from kfp import dsl

from slipway.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def ingest(
    project: str,
    project_version: str,
    code_version: str,
    as_of: str,
    facts: dsl.Output[dsl.Artifact],
) -> NamedTuple("Ingested", [("data_version", str), ("as_of", str)]):
    """Read every source into an immutable, content-addressed data version.

    Args:
        project: Path of the contract in the image.
        project_version: The contract and SQL that the run was submitted with.
        code_version: The code that the run was submitted with; a part of the cache key.
        as_of: Everything later is invisible to the run. Empty: the contract's own, or now.
        facts: What the report shows of this step, as JSON.

    Returns:
        data_version: The data version.
        as_of: The moment of the run in UTC, which later steps are keyed by.
    """
    from components.ingest.step import ingest as work
    from slipway.step import running

    with running("ingest", project, project_version, code_version, facts.path) as step:
        moment = step.project.contract.resolve_as_of(as_of)
        return work(step), moment.isoformat()
