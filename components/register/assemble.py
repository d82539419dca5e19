"""The model package, from what training and evaluation left. Equal input gives an equal digest:
nothing in it tells when, where, or against which champion it was made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.register.card import model_card
from slipway.attribution import Attribution
from slipway.errors import UserError
from slipway.files import new_folder, read_json, write_json, write_text
from slipway.package import EXPLAINER, Model, seal
from slipway.project import Project
from slipway.schema import RequestError, Schema, row_schema

MODEL_FILES = ("model.onnx", "encoder.json", "signature.json", EXPLAINER)
REFERENCE_ROWS = 32


def assemble(
    project: Project,
    lineage: Mapping[str, str],
    training_set: Path,
    candidate: Path,
    evaluation: Mapping[str, Any],
    package: Path,
) -> tuple[str, int]:
    """Write the sealed folder `package`; returns its digest and the number of reference rows.

    Raises `UserError` if the contract's request schema refuses the validation window's rows, or if
    the explanations do not add up to the model's answers.
    """
    shutil.rmtree(package, ignore_errors=True)
    with new_folder(package) as folder:
        for name in MODEL_FILES:
            shutil.copyfile(candidate / name, folder / name)
        shutil.copyfile(project.path, folder / "contract.yaml")
        model = Model.load(folder)
        rows = _reference_rows(model, training_set)
        write_json(
            folder / "reference.json",
            {
                "rows": {
                    name: [_plain(v) for v in rows[name].to_pylist()] for name in rows.column_names
                },
                "predictions": model.predict(rows).tolist(),
            },
        )
        write_json(folder / "metrics.json", _metrics(evaluation))
        attribution = Attribution(folder, model)
        attribution.prove(rows)
        card = model_card(
            project.contract,
            lineage,
            evaluation,
            read_json(candidate / "training.json"),
            attribution,
        )
        write_text(folder / "MODEL_CARD.md", card)
        digest = seal(folder)
    return digest, len(rows)


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    models = {item["name"]: item["metrics"] for item in evaluation["models"]}
    return {
        "task": evaluation["task"],
        "window": evaluation["window"],
        "metrics": models["candidate"],
        # The champion of the day is no property of this model.
        "baselines": {name: models[name] for name in ("prior", "linear") if name in models},
    }


def _reference_rows(model: Model, training_set: Path) -> pa.Table:
    """Rows spread over the validation window, half of them with nulls where it holds such."""
    table = pq.read_table(
        training_set / "training_set.parquet", filters=[("window", "=", "validate")]
    )
    schema = row_schema(model.signature)
    features = table.select([field.name for field in schema.fields])
    with_null = np.zeros(len(features), bool)
    for column in features.columns:
        with_null |= pc.is_null(column).to_numpy(zero_copy_only=False)
    chosen = _servable(features, schema, np.flatnonzero(with_null), REFERENCE_ROWS // 2)
    chosen += _servable(features, schema, np.flatnonzero(~with_null), REFERENCE_ROWS - len(chosen))
    if not chosen:
        raise UserError(
            "The request schema refuses every row of the validation window.",
            "Compare `on_null` and `range` of the contract's features with the data.",
        )
    return features.take(sorted(chosen))


def _servable(features: pa.Table, schema: Schema, rows: Any, count: int) -> list[int]:
    """Up to `count` of `rows`, evenly spread, that a client could send."""
    found: list[int] = []
    for row in rows[np.linspace(0, len(rows) - 1, min(4 * count, len(rows))).astype(int)]:
        values = features.slice(int(row), 1).to_pylist()[0]
        instance = {name: _plain(value) for name, value in values.items()}
        try:
            schema.from_instances({"instances": [instance]})
        except RequestError:
            continue
        found.append(int(row))
    return [found[at] for at in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
