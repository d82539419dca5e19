"""The test window in parts: where the model is weak, and on which rows it was most wrong."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slipway.contract import Contract
from slipway.contract.checks import TIME_SLICES
from slipway.scores import row_losses, scores

Floats = npt.NDArray[np.floating[Any]]
FEWEST_ROWS = 50
MOST_VALUES = 20
WORST = 20
TIME_FORMATS = {"month": "%Y-%m", "day_of_week": "%u %A", "hour": "%H"}


def slices(contract: Contract, rows: pa.Table, predictions: Floats) -> list[dict[str, Any]]:
    """Scores for each value of what the contract slices by.

    Of each, the largest values with enough rows to say something: times in their order, others
    from the largest on; null is a value too.
    """
    target = contract.target
    labels = rows[target.label].to_numpy()
    found = []
    for by in contract.evaluation.slices:
        in_time = by in TIME_SLICES and by not in rows.column_names
        column = _time(contract, rows, by) if in_time else _column(rows, by)
        coded = column.dictionary_encode(null_encoding="encode")
        codes = coded.indices.to_numpy()
        counts = np.bincount(codes)
        largest = np.argsort(-counts, kind="stable")[:MOST_VALUES]
        values = {int(at): coded.dictionary[int(at)].as_py() for at in largest}
        # Texts of times are made so that they sort as the times do.
        order = sorted(values, key=lambda at: str(values[at])) if in_time else values
        for at in order:
            if counts[at] < FEWEST_ROWS:
                continue
            mask = codes == at
            measured = scores(target.task, labels[mask], predictions[mask])
            found.append(
                {
                    "by": by,
                    "value": plain(values[at]),
                    "rows": int(counts[at]),
                    "label_mean": None if target.classes else float(labels[mask].mean()),
                    "metrics": {name: known(value) for name, value in measured.items()},
                }
            )
    return found


def worst(contract: Contract, rows: pa.Table, predictions: Floats) -> list[dict[str, Any]]:
    """The rows with the largest loss, by their key."""
    target = contract.target
    labels = rows[target.label].to_numpy()
    losses = row_losses(target.task, labels, predictions)
    found = []
    for at in np.argsort(-losses, kind="stable")[:WORST].tolist():
        if target.classes:
            label: Any = target.classes[int(labels[at])]
            predicted: Any = target.classes[int(predictions[at].argmax())]
        else:
            label, predicted = labels[at].item(), float(predictions[at])
        found.append(
            {
                "key": {name: plain(rows[name][at].as_py()) for name in target.key},
                "label": label,
                "prediction": predicted,
                "loss": float(losses[at]),
            }
        )
    return found


def known(value: float) -> float | None:
    """A metric as JSON has it: null where it does not exist."""
    return float(value) if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """A column's value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return known(value)
    return value if isinstance(value, int | str | None) else str(value)


def _column(rows: pa.Table, name: str) -> pa.Array:
    return rows[name].combine_chunks()


def _time(contract: Contract, rows: pa.Table, part: str) -> pa.Array:
    """A part of the moment that the prediction was asked for, on the project's clocks."""
    moments = _column(rows, contract.target.event_timestamp)
    local = moments.cast(pa.timestamp("s", tz=contract.timezone), safe=False)
    return pc.strftime(local, format=TIME_FORMATS[part])
