"""Great Expectations' results as facts, each with its sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.contract.model import Source
from slipway.profile import plain

if TYPE_CHECKING:
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )

EXAMPLES = 3


def failures(
    name: str, source: Source, rows: int, result: ExpectationSuiteValidationResult
) -> Iterator[dict[str, Any]]:
    """Every rule that does not hold: source, column, rule, severity, failed, rows, share (of the
    rows), examples and a message in one line.

    Raises `RuntimeError` for a rule that could not be evaluated: that is a fault, not a finding.
    """
    for item in result.results:
        config = item.expectation_config
        rule = config.meta["rule"]
        if _exception(item):
            raise RuntimeError(f"source '{name}', rule {rule} {config.kwargs}: {_exception(item)}")
        if item.success:
            continue
        column = _column(rule, source, config.kwargs)
        failed = _failed(rule, source, rows, item.result)
        of = source.min_rows if rule == "min_rows" else rows
        examples = _examples(item.result.get("partial_unexpected_list", []))
        place = ".".join(filter(None, (name, column)))
        what = _sentence(rule, source, column, failed, rows, item.result)
        shown = f", for example {'; '.join(map(_shown, examples))}" if examples else ""
        yield {
            "source": name,
            "column": column,
            "rule": rule,
            "severity": config.severity.value,
            "failed": failed,
            "rows": of,
            "share": failed / of,
            "examples": examples,
            "message": f"{place} breaks `{rule}`: {what}{shown}",
        }


def _exception(item: ExpectationValidationResult) -> str:
    """GX files the exception of a metric under the metric's name."""
    info = item.exception_info or {}
    parts = [info, *(part for part in info.values() if isinstance(part, dict))]
    return next((p["exception_message"] for p in parts if p.get("raised_exception")), "")


def _column(rule: str, source: Source, kwargs: dict[str, Any]) -> str:
    if rule == "key":
        return ", ".join(source.key)
    if rule == "ordered_by":
        return ", ".join(source.ordered_by)
    return str(kwargs.get("column", ""))


def _failed(rule: str, source: Source, rows: int, result: dict[str, Any]) -> int:
    if rule == "min_rows":
        return source.min_rows - rows
    # A missing column, and one of another type throughout, have no count: no row is right.
    return int(result.get("unexpected_count", rows))


def _sentence(
    rule: str, source: Source, column: str, failed: int, rows: int, result: dict[str, Any]
) -> str:
    counted = f"{failed:,} of {rows:,} rows ({_percent(failed / rows)})"
    if rule == "min_rows":
        return f"{rows:,} rows, where at least {source.min_rows:,} must come"
    if rule == "exists":
        return f"the column is missing in all {rows:,} rows"
    if rule == "key":
        return f"{counted} share their key with another"
    if rule == "ordered_by":
        return f"{counted} come out of order"
    limits = source.columns[column]
    if rule == "type":
        of_type = result.get("observed_value")
        told = f", but {of_type}" if of_type else ""
        return f"{counted} are not of type {limits.type}{told}"
    if rule == "nulls":
        return f"{counted} are null, where {_percent(limits.nulls)} may be"
    if rule == "range":
        low, high = (_shown(bound) if bound is not None else "" for bound in limits.range)
        return f"{counted} are outside {low}..{high}"
    return f"{counted} are none of {', '.join(map(str, limits.values))}"


def _examples(values: list[Any]) -> list[Any]:
    """The first few distinct ones, JSON-able."""
    found: list[Any] = []
    for value in map(_plain, values):
        if value not in found:
            found.append(value)
    return found[:EXAMPLES]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime):  # the frame's moments are in UTC and do not say so
        value = value.replace(tzinfo=UTC)
    return plain(value)


def _shown(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
