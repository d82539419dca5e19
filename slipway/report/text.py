"""Numbers, times and names as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any

NOTHING = "–"  # noqa: RUF001  an en dash is what a table shows for no value
MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")

METRIC_NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "accuracy": "Accuracy",
    "f1_macro": "Macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}


def metric_name(name: str) -> str:
    return METRIC_NAMES.get(name, name.replace("_", " "))


def model_name(name: str, task: str, version: Any = None) -> str:
    """A model's title: `Champion v3`, `Logistic regression`."""
    linear = "Linear regression" if task == "regression" else "Logistic regression"
    title = {"linear": linear}.get(name, name.capitalize())
    return f"{title} v{version}" if version else title


def fixed(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """`value` with so many decimals, thousands separated, and a real minus sign."""
    if value is None:
        return NOTHING
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    return text.replace("-", MINUS)


def decimals_for(values: Iterable[float | None], digits: int = 4) -> int:
    """Decimals that give the largest of `values` so many significant digits.

    One answer for a whole column, so that its digits stand under each other.
    """
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if largest == 0 or largest < 1:
        return digits
    return max(0, digits - 1 - math.floor(math.log10(largest)))


def number(value: Any, digits: int = 4) -> str:
    """An integer in full, any other number with so many significant digits."""
    if value is None:
        return NOTHING
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return fixed(value, 0)
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size >= 9:
        mantissa, _, exponent = f"{value:.{digits - 2}e}".partition("e")
        power = str(int(exponent)).translate(_SUPERSCRIPTS)
        return f"{mantissa.replace('-', MINUS)} × 10{power}"  # noqa: RUF001
    return fixed(value, max(0, digits - 1 - size))


def percent(share: float | None) -> str:
    """A share between 0 and 1; what is not zero is never shown as zero."""
    if share is None:
        return NOTHING
    if 0 < share < 0.001:
        return "< 0.1%"
    return f"{fixed(share * 100, 0 if share in (0, 1) else 1)}%"


def size(count: int | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return NOTHING
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return (
                f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
            )
        amount /= 1000
    return f"{amount:,.1f} TB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 100:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{number(value, 3)} ms"


def count(amount: int, singular: str, plural: str = "") -> str:
    """`1 row`, `2,000 rows`."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *head, last = list(words)
    return f"{', '.join(head)} and {last}" if head else last


def instant(value: str | float, zone: tzinfo) -> datetime:
    """ISO 8601 text (UTC where it says nothing) or epoch seconds, in `zone`."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, zone)
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)


def moment(value: str | float | None, zone: tzinfo) -> str:
    """`1 Jan 2014` at midnight, else `1 Jan 2014, 14:05`, in `zone`.

    The epoch is what facts without a beginning carry.
    """
    if value is None:
        return NOTHING
    at = instant(value, zone)
    if at.timestamp() <= 0:
        return "always"
    day = f"{at.day} {at:%b %Y}"
    return day if (at.hour, at.minute) == (0, 0) else f"{day}, {at:%H:%M}"


def anything(value: Any, zone: tzinfo) -> str:
    """A value of someone's own, as it is: a year has no thousands separator."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and _INSTANT.match(value):
        try:
            return moment(value, zone)
        except ValueError:
            return value
    if isinstance(value, list | tuple):
        return ", ".join(anything(item, zone) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return NOTHING if value is None else str(value)


def short(text: str, length: int = 28) -> str:
    """Cut in the middle: long names tend to differ at both ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"
