"""The report of a run: one HTML file to look at, one summary for scripts.

Made of the records that the steps left (see `slipway.step`); a step without a record gets a
section that says so. Imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway.files import write_text
from slipway.project import Project
from slipway.report import data, evaluation, features, operations, overview, training
from slipway.report.blocks import Header, Page, Verdict
from slipway.report.page import render
from slipway.report.run import Run
from slipway.report.summary import summarise

__all__ = ["evaluation_page", "summary", "write_report"]


def write_report(
    records: Sequence[dict[str, Any]],
    score: dict[str, Any] | None,
    project: Project,
    out: Path,
    seconds: float | None = None,
) -> Path:
    """Write the page of a run to `out` and return it.

    `records`: what each step wrote, in any order, with `reused: true` where the runner took it
    from an earlier run. `score`: what replaying requests against the endpoint found, if it was
    done. `seconds`: wall time of the whole run; left out, that of its steps.
    """
    contract = project.contract
    run = Run.of(records, score=score, seconds=seconds, zone=contract.zone)
    page = Page(
        overview.header(run, project),
        [
            data.data_section(run, contract.target),
            data.validation_section(run),
            features.features_section(run, contract),
            training.training_section(run),
            evaluation.evaluation_section(run),
            training.importance_section(run),
            operations.serving_section(run),
            operations.lineage_section(run),
            operations.time_section(run),
        ],
    )
    write_text(out, render(page))
    return out


def summary(
    records: Sequence[dict[str, Any]],
    score: dict[str, Any] | None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The run in numbers, for `summary.json`; arguments as of `write_report`."""
    return summarise(Run.of(records, score=score, seconds=seconds))


def evaluation_page(facts: dict[str, Any]) -> str:
    """The evaluation alone, as one self-contained page for the KFP UI; times are in UTC."""
    passed = facts["passed"]
    run = Run({"evaluate": {"step": "evaluate", "facts": facts}})
    text = "Passed every gate" if passed else "Kept back by the gates"
    verdict = Verdict("good" if passed else "bad", text, overview.failed_gates(facts))
    head = Header("Slipway · times are in UTC", "Evaluation of a candidate", "", verdict)
    return render(Page(head, [evaluation.evaluation_section(run)]))
