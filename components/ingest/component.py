"""KFP adapter of the ingest step."""

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
    """Read the sources into an immutable data version; the same content is the same version.

    Args:
        project: Path of the contract, as the step sees it.
        project_version: Version of the contract and its SQL.
        code_version: Version of the code that runs.
        as_of: Everything later is invisible to the run. Empty: the contract's own, or now.
        facts: What happened, for the report.

    Returns:
        data_version: Version of the data.
        as_of: The moment of the run in UTC.
    """
    from components.ingest.step import ingest as work
    from slipway.step import running

    with running("ingest", project, project_version, facts.path) as step:
        return work(step, as_of)
