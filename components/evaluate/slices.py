"""The test window in parts: where the model is weak, and on which rows it was most wrong."""

from __future__ import annotations

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


def slices(contract: Contract, rows: pa.Table, predictions: Floats) -> list[dict[str, Any]]:
    """Scores for each value of what the contract slices by, the largest slices first."""
    target = contract.target
    labels = rows[target.label].to_numpy()
    found = []
    for by in contract.evaluation.slices:
        values = _values(contract, rows, by)
        counted = pc.value_counts(values).to_pylist()
        largest = sorted(counted, key=lambda item: (-item["counts"], str(item["values"])))
        for item in largest[:MOST_VALUES]:
            if item["counts"] < FEWEST_ROWS or item["values"] is None:
                continue
            inside = pc.equal(values, pa.scalar(item["values"], values.type))
            mask = pc.fill_null(inside, False).to_numpy(zero_copy_only=False)
            found.append(
                {
                    "by": by,
                    "value": str(item["values"]),
                    "rows": int(mask.sum()),
                    "label_mean": None
                    if target.task == "multiclass"
                    else float(labels[mask].mean()),
                    "metrics": known(scores(target.task, labels[mask], predictions[mask])),
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
        label: Any = labels[at].item()
        predicted: Any = predictions[at]
        if target.classes:
            label, predicted = target.classes[label], target.classes[int(predicted.argmax())]
        found.append(
            {
                "key": {name: str(rows[name][at].as_py()) for name in target.key},
                "label": label,
                "prediction": predicted if target.classes else float(predicted),
                "loss": float(losses[at]),
            }
        )
    return found


def known(values: dict[str, float]) -> dict[str, float | None]:
    """Metrics with null for what does not exist, as JSON wants it."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _values(contract: Contract, rows: pa.Table, by: str) -> pa.Array:
    if by not in TIME_SLICES or by in rows.column_names:
        return rows[by].combine_chunks()
    moments = rows[contract.target.event_timestamp].combine_chunks()
    local = moments.cast(pa.timestamp("us", tz=contract.timezone))
    if by == "month":
        return pc.strftime(local, format="%Y-%m")
    return pc.hour(local) if by == "hour" else pc.day_of_week(local, count_from_zero=False)
