"""Durations, calendar spans and instants as people write them in YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Unit = Literal["day", "month", "year"]


def parse_duration(value: Any) -> timedelta:
    """`90s`, `30m`, `6h` or `7d` as a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([smhd])", str(value).strip())
    if not match or int(match[1]) == 0:
        raise ValueError(f"'{value}' is not a duration; write a number and s, m, h or d, like 6h")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def format_duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    unit = next(u for u in "dhms" if seconds % _SECONDS[u] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def _parse_ttl(value: Any) -> timedelta | None:
    return None if value in (None, "never") else parse_duration(value)


@dataclass(frozen=True)
class Span:
    """A calendar distance: `9 months` back from 1 October is 1 January, whatever the days."""

    count: int
    unit: Unit

    def before(self, moment: datetime) -> datetime:
        """The same wall-clock time `count` units earlier; days past a month's end are clipped."""
        if self.unit == "day":
            return moment - timedelta(days=self.count)
        months = moment.year * 12 + moment.month - 1
        months -= self.count * (12 if self.unit == "year" else 1)
        first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
        following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
        last_day = (following - timedelta(days=1)).day
        return first.replace(day=min(moment.day, last_day))

    def __str__(self) -> str:
        return f"{self.count} {self.unit}{'s' if self.count != 1 else ''}"


def parse_span(value: Any) -> Span:
    """`9 months`, `1 year` or `30 days` as a Span."""
    if isinstance(value, Span):
        return value
    match = re.fullmatch(rf"(\d+)\s+({'|'.join(get_args(Unit))})s?", str(value).strip())
    if not match or int(match[1]) == 0:
        raise ValueError(f"'{value}' is not a span; write a number and days, months or years")
    return Span(int(match[1]), match[2])  # type: ignore[arg-type]


def _parse_cpu(value: Any) -> str:
    """Kubernetes' amounts of CPU; a number of cores may be written without quotes."""
    text = str(value)
    if (
        isinstance(value, bool)
        or not re.fullmatch(r"\d+m|\d+(\.\d+)?", text)
        or not _positive(text)
    ):
        raise ValueError(
            f"'{value}' is not an amount of CPU; write cores, or thousandths like 250m"
        )
    return text


def _parse_memory(value: Any) -> str:
    """Kubernetes' amounts of memory. Without a unit they are bytes, which nobody means."""
    text = str(value)
    if not re.fullmatch(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti)", text) or not _positive(text):
        raise ValueError(
            f"'{value}' is not an amount of memory; write a number and a unit, like 300Mi"
        )
    return text


def memory_bytes(amount: str) -> float:
    """`300Mi` as a number."""
    return float(amount[:-2]) * float(1024 ** (1 + "KMGT".index(amount[-2])))


def cpu_cores(amount: str) -> float:
    """`250m` as a number."""
    return float(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def _positive(amount: str) -> bool:
    return any(digit in "123456789" for digit in amount)


def parse_instant(value: Any) -> datetime:
    """A YAML date or timestamp, or ISO 8601 text; without an offset it stays naive."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"'{value}' is not a date or time; write 2014-01-31 or ISO 8601") from None


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration),
]
Ttl = Annotated[
    timedelta | None,
    BeforeValidator(_parse_ttl, json_schema_input_type=str),
    PlainSerializer(lambda value: "never" if value is None else format_duration(value)),
]
CalendarSpan = Annotated[
    Span, BeforeValidator(parse_span, json_schema_input_type=str), PlainSerializer(str)
]
Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant, json_schema_input_type=str),
    PlainSerializer(datetime.isoformat),
]
Cpu = Annotated[str, BeforeValidator(_parse_cpu, json_schema_input_type=str | float)]
Memory = Annotated[str, BeforeValidator(_parse_memory)]
