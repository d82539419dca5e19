"""Great Expectations in memory: no project folder, no progress bars, no reports home."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult


def run_suite(suite: ExpectationSuite, frame: pd.DataFrame) -> ExpectationSuiteValidationResult:
    """The result of every expectation, with counts and a sample of what was not expected.

    Great Expectations copies and filters its whole frame for each rule, so each column's rules get
    a frame of that column alone: on a table of twenty columns that is several times faster.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset(suite.name)
    whole = asset.add_batch_definition_whole_dataframe("all")
    parts: dict[tuple[Hashable, ...], list[Any]] = {}
    for expectation in suite.expectations:
        parts.setdefault(_columns(expectation, frame), []).append(expectation)
    results: list[Any] = []
    for columns, expectations in parts.items():
        batch = whole.get_batch({"dataframe": frame[list(columns)]})
        part = gx.ExpectationSuite(suite.name, expectations=expectations)
        validated = batch.validate(part, result_format="SUMMARY")
        results += validated.results
    for item in results:
        if item.expectation_config.meta["rule"] == "nulls":
            # A sample of nulls says nothing, and GX's renderer stumbles over pandas' NA.
            item.result.update(partial_unexpected_list=[], partial_unexpected_counts=[])
    good = sum(bool(item.success) for item in results)
    return ExpectationSuiteValidationResult(
        success=good == len(results),
        results=results,
        suite_name=suite.name,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": 100 * good / len(results),
        },
        meta=validated.meta,
    )


def _columns(expectation: Any, frame: pd.DataFrame) -> tuple[Hashable, ...]:
    """The columns that the expectation looks at: all of them for one about the table."""
    if expectation.meta["rule"] in ("min_rows", "exists"):
        return tuple(frame.columns)
    several = getattr(expectation, "column_list", None)
    return tuple(several) if several else (expectation.column,)
