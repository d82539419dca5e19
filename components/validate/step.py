"""Validate: the contract's rules about its sources, as a gate."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate.suite import bounds_in, prepare, suite_of
from slipway.data import DataStore
from slipway.errors import UserError
from slipway.files import write_text
from slipway.profile import plain, profile
from slipway.step import Step

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

EXAMPLES = 3


def validate(step: Step, data_version: str, data_docs: Path) -> str:
    """Check a data version and write Great Expectations' data docs to the file `data_docs`.

    Returns the data version. Raises `UserError` that names source, column, rule and count for each
    broken rule whose severity is critical; broken warnings are said and go into the facts.
    """
    contract = step.project.contract
    store = DataStore(step.project.home.data_uri)
    # Great Expectations shows a progress bar for every expectation, and phones home.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with step.importing():
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        from components.validate.docs import data_docs as render

        logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    pandas = context.data_sources.add_pandas("sources")

    results, failures, profiles = [], [], []
    for name, source in contract.sources.items():
        table = store.table(data_version, name)
        profiles += [{"source": name, **column} for column in profile(table)]
        prepared = prepare(table, source, contract.timezone)
        batch = (
            pandas.add_dataframe_asset(name)
            .add_batch_definition_whole_dataframe("all rows")
            .get_batch({"dataframe": prepared.to_pandas()})
        )
        suite = suite_of(name, bounds_in(contract.zone, source), prepared)
        result = batch.validate(suite, result_format="SUMMARY")
        results.append(result)
        found = _failures(name, result, len(table))
        failures += found
        step.say(f"{name}: {len(result.results)} checks, {len(found)} broken")
    write_text(data_docs, render(f"Data version {data_version}", results))

    critical = [failure for failure in failures if failure["severity"] == "critical"]
    if critical:
        lines = "\n".join(f"  {failure['message']}" for failure in critical)
        raise UserError(
            f"data version {data_version} breaks {len(critical)} critical rules:\n{lines}\n"
            f"The data docs are in {data_docs}.",
            "Mend the source, or change the contract if the rule is wrong.",
        )
    checks = sum(len(result.results) for result in results)
    for warning in failures:
        step.say(f"warning: {warning['message']}")
    step.say(f"{checks} checks, all critical ones passed, {len(failures)} warnings")
    step.facts.update(
        data_version=data_version,
        passed=True,
        checks=checks,
        failures=failures,
        profile=profiles,
    )
    return data_version


def _failures(
    source: str, result: ExpectationSuiteValidationResult, rows: int
) -> list[dict[str, Any]]:
    return [
        _failure(source, item, rows)
        for item in result.results
        if not item.success and item.expectation_config
    ]


def _failure(source: str, item: Any, rows: int) -> dict[str, Any]:
    config, found = item.expectation_config, item.result or {}
    raised = item.exception_info or {}
    if "exception_message" in raised and raised.get("raised_exception"):
        raise RuntimeError(f"{source}: {config.type} failed: {raised['exception_message']}")
    meta, arguments = config.meta, config.kwargs
    rule = meta["rule"]
    failed = found.get("unexpected_count", 0)
    examples = [
        _example(value)
        for value in dict.fromkeys(map(str, found.get("partial_unexpected_list", [])))
    ][:EXAMPLES]
    column = {
        "key": ", ".join(arguments.get("column_list", [])) or arguments.get("column", ""),
        "ordered_by": ", ".join(meta.get("columns", [])),
        "min_rows": "",
    }.get(rule, arguments.get("column", ""))
    share = failed / rows if rows else 0.0
    counted = f"{failed:,} of {rows:,} rows ({share:.2%})"
    shown = (
        f", like {', '.join(examples)}" if examples and rule not in ("ordered_by", "nulls") else ""
    )
    bounds = (plain(arguments.get("min_value")), plain(arguments.get("max_value")))
    sentence = {
        "missing column": "the column is missing",
        "min_rows": f"{found.get('observed_value')} rows, at least {bounds[0]} are wanted",
        "type": f"{counted} are not of type {meta.get('type')}{shown}",
        "nulls": f"{counted} are null, {meta.get('allowed', 0):.2%} are allowed",
        "range": f"{counted} are outside {_range(*bounds)}{shown}",
        "values": f"{counted} are none of the allowed values{shown}",
        "key": f"{counted} are duplicates{shown}",
        "ordered_by": f"{counted} come before the row they should follow",
    }[rule]
    place = f"{source}.{column}" if column and "," not in column else source
    where = f" ({column})" if "," in column else ""
    return {
        "source": source,
        "column": column,
        "rule": rule,
        "severity": str(config.severity.value if config.severity else "critical"),
        "failed": int(failed),
        "rows": rows,
        "share": share,
        "examples": examples,
        "message": f"{place}: {rule}{where}: {sentence}",
    }


def _example(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _range(low: Any, high: Any) -> str:
    if high is None:
        return f"{low} and above"
    return f"{high} and below" if low is None else f"{low} to {high}"
