"""Who is scored on the test window: the candidate, the champion, and the baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.evaluate import baselines
from slipway.contract import Contract
from slipway.encoder import input_features
from slipway.errors import UserError
from slipway.package import Model
from slipway.registry import Champion

Floats = npt.NDArray[np.float32]


def predict(
    contract: Contract,
    training_set: Path,
    test: pa.Table,
    candidate: Path,
    champion: Champion | None,
) -> tuple[dict[str, Floats], str]:
    """Predictions by model for the rows `test`, and why the champion is not among them, if so.

    `training_set` is the parquet file, from which the baselines learn the train window. Raises
    `UserError` for a candidate whose predictions are not numbers.
    """
    target = contract.target
    task, classes = target.task, len(target.classes or ()) or 2
    model = Model.load(candidate)
    encoded = model.encoder.encode(test)
    predictions = {"candidate": model.predict_encoded(encoded)}
    if wrong := _not_finite(predictions["candidate"]):
        raise UserError(
            f"The candidate predicts no number for {wrong:,} of {len(test):,} rows of the test "
            "window.",
            "Its training diverged: lower `learning_rate` in the contract, or look for extreme "
            "values in the features.",
        )
    answer, refusal = None, "there is no champion yet"
    if champion:
        answer, refusal = _ask(contract, champion, test)
    if answer is not None:
        predictions["champion"] = answer
    columns = [target.label, *(feature.name for feature in model.encoder.features)]
    train = pq.read_table(training_set, columns=columns, filters=[("window", "=", "train")])
    labels = train[target.label].to_numpy()
    predictions["linear"] = baselines.linear(
        task, classes, model.encoder, model.encoder.encode(train), labels, encoded,
        contract.training.seed,
    )  # fmt: skip
    predictions["prior"] = baselines.prior(task, classes, labels, len(test))
    return predictions, refusal


def _ask(contract: Contract, champion: Champion, test: pa.Table) -> tuple[Floats | None, str]:
    """The champion's predictions, or why it cannot be asked about these rows.

    It reads with its own encoder, so features may come, move or be recoded, but not go.
    """
    model, name = Model.load(champion.package), f"champion version {champion.version}"
    target = contract.target
    asked = (target.task, list(target.classes or ()))
    if (model.signature["task"], model.signature["classes"]) != asked:
        return None, f"{name} cannot be compared: it has another task, or other classes"
    known = {feature.name: feature.type for feature in input_features(contract)}
    lacking = [
        f"{feature.name} ({feature.type})"
        for feature in model.encoder.features
        if known.get(feature.name) != feature.type
    ]
    if lacking:
        return None, f"{name} cannot be compared: the contract lacks its {', '.join(lacking)}"
    predictions = model.predict(test)
    if wrong := _not_finite(predictions):
        return None, f"{name} cannot be compared: it predicts no number for {wrong:,} rows"
    return predictions, ""


def _not_finite(predictions: Floats) -> int:
    """Rows without a usable prediction."""
    return int((~np.isfinite(predictions).reshape(len(predictions), -1).all(1)).sum())
