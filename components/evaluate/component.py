"""KFP adapter of the evaluate step."""

from kfp import dsl

from slipway.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def evaluate(
    project: str,
    project_version: str,
    code_version: str,
    data_version: str,
    training_set: dsl.Input[dsl.Dataset],
    candidate: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    facts: dsl.Output[dsl.Artifact],
):
    """Score the candidate, the champion and the baselines on the test window, once.

    Args:
        project: Path of the contract, as the step sees it.
        project_version: Version of the contract and its SQL.
        code_version: Version of the code that runs.
        data_version: Version of the data that the training set was built from.
        training_set: Rows with features as of the moment each prediction is asked for.
        candidate: The trained model.
        evaluation: Scores, comparisons, slices and gates.
        metrics: The candidate's scores, for the KFP UI.
        page: The evaluation as a page with plots.
        facts: What happened, for the report.
    """
    from pathlib import Path

    from components.evaluate.step import evaluate as work
    from slipway.files import write_text
    from slipway.report import evaluation_page
    from slipway.step import running

    with running("evaluate", project, project_version, code_version, facts.path) as step:
        work(
            step, data_version, Path(training_set.path), Path(candidate.path), Path(evaluation.path)
        )
        for name, score in step.facts["models"][0]["metrics"].items():
            if score["value"] is not None:
                metrics.log_metric(name, score["value"])
        write_text(Path(page.path), evaluation_page(step.facts))
