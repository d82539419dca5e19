"""KFP adapter of the train step."""

from kfp import dsl

from slipway.images import DATA


# On a cluster this step only watches: what trains is Ray, in pods of the train image.
@dsl.component(base_image=DATA, install_kfp_package=False)
def train(
    project: str,
    project_version: str,
    code_version: str,
    feature_version: str,
    training_set: dsl.Input[dsl.Dataset],
    candidate: dsl.Output[dsl.Model],
    facts: dsl.Output[dsl.Artifact],
):
    """Train the contract's engines on Ray and keep the better one.

    Args:
        project: Path of the contract, as the step sees it.
        project_version: Version of the contract and its SQL.
        code_version: Version of the code that runs.
        feature_version: Version of the features that the training set was built from.
        training_set: Rows with features as of the moment each prediction is asked for.
        candidate: The best model as ONNX, with its encoder and signature.
        facts: What happened, for the report.
    """
    from pathlib import Path

    from components.train.step import train as work
    from slipway.step import running

    with running("train", project, project_version, code_version, facts.path) as step:
        work(step, feature_version, code_version, Path(training_set.path), Path(candidate.path))
