"""The one point-in-time join: what each view knew of a row's entities at the row's own moment."""

# ruff: noqa: S608 (what is put into SQL here is the contract's own, and quoted)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from feature_repo.duck import instant, quote


@dataclass(frozen=True)
class TimedView:
    """Feature values over time, as the join reads them."""

    relation: str
    """SQL that stands after `from`."""
    keys: Mapping[str, str]
    """Entity column of the view to the column of the rows that it is looked up by."""
    timestamp: str
    features: Mapping[str, str]
    """Column of the view to its name in the result."""
    ttl: timedelta | None = None
    """Largest age of a value, included; an older one is null, not stale. None: never too old."""
    created: str = ""
    """Of several values with one timestamp, the one created last counts."""


def join(
    rows: str,
    row: str,
    moment: str,
    views: Sequence[TimedView],
    span: tuple[datetime, datetime] | None = None,
) -> str:
    """SQL for every row of the relation `rows`, followed by the features of `views`, ordered by
    the column `row`, which numbers the rows.

    A view gives its newest value with `timestamp <= moment` for the row's keys; a null key, a null
    moment, an unknown entity and a value older than the view's `ttl` give nulls. Timestamps are
    read as UTC where they have no zone. `span` is the first and last moment of the rows, both
    included, where that is known: values out of their reach are not read.
    """
    columns, joins = ["r.*"], []
    for number, view in enumerate(views):
        name = f"v{number}"
        columns += [f"{name}.{quote(output)}" for output in view.features.values()]
        # Each view is joined to bare keys: an ASOF join sorts all that it is given, and eight
        # nested ones would sort the features of the others along.
        joins.append(
            f"join ({_newest(row, moment, view, span)}) {name} on r.{quote(row)} = {name}.r"
        )
    return (
        f"with r as materialized (from {rows})\n"
        f"select {', '.join(columns)}\nfrom r\n" + "\n".join(joins) + f"\norder by r.{quote(row)}"
    )


def _newest(row: str, moment: str, view: TimedView, span: tuple[datetime, datetime] | None) -> str:
    keys = dict.fromkeys(view.keys.values())
    needed = ", ".join(
        [f"{quote(row)} as r", f"{quote(moment)}::timestamptz as __at", *map(quote, keys)]
    )
    fresh = "true"
    if view.ttl is not None:
        age = view.ttl // timedelta(microseconds=1)
        fresh = f"v.__t >= k.__at - to_microseconds({age})"
    features = [
        f"case when {fresh} then v.{quote(column)} end as {quote(output)}"
        for column, output in view.features.items()
    ]
    equal = [f"k.{quote(row_key)} = v.{quote(key)}" for key, row_key in view.keys.items()]
    return (
        f"select k.r, {', '.join(features)} from (select {needed} from r) k "
        f"asof left join ({_values(view, span)}) v on {' and '.join([*equal, 'k.__at >= v.__t'])}"
    )


def _values(view: TimedView, span: tuple[datetime, datetime] | None) -> str:
    columns = [quote(column) for column in dict.fromkeys([*view.keys, *view.features])]
    stamp = f"{quote(view.timestamp)}::timestamptz"
    sql = (
        f"select {', '.join(columns)}, {stamp} as __t from {view.relation} "
        f"where {quote(view.timestamp)} is not null"
    )
    if span:
        sql += f" and {stamp} <= {instant(span[1])}"
        if view.ttl is not None:
            sql += f" and {stamp} >= {instant(span[0] - view.ttl)}"
    if view.created:
        keys = ", ".join([*map(quote, view.keys), stamp])
        sql += (
            f" qualify row_number() over (partition by {keys} "
            f"order by {quote(view.created)} desc nulls last) = 1"
        )
    return sql
