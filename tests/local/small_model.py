"""Models made by hand in milliseconds: real ONNX, a real encoder, no training."""

import json
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from components.train.explainer import explain_network
from slipway.contract import Contract
from slipway.encoder import Encoder
from slipway.files import write_json, write_text
from slipway.package import EXPLAINER, Model, make_signature, seal


def write_candidate(folder: Path, contract: Contract, rows: pa.Table) -> Model:
    """What `train` leaves: a linear model of `rows` (least squares on its label)."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = Encoder.fit(contract, rows)
    target = contract.target
    encoded = encoder.encode(rows)
    explain_network(encoded, folder / EXPLAINER)
    matrix = np.nan_to_num(encoded).astype(np.float64)
    scale = matrix.std(axis=0) + 1e-9
    labels = rows[target.label].to_numpy().astype(np.float64)
    if target.classes:
        labels = np.eye(len(target.classes))[labels.astype(int)]
    labels = labels.reshape(len(labels), -1)
    design = np.c_[matrix / scale, np.ones(len(matrix))]
    found = np.linalg.lstsq(design, labels, rcond=None)[0]
    weights = (found[:-1] / scale[:, None]).astype(np.float32)
    bias = found[-1].astype(np.float32)
    write_onnx(folder / "model.onnx", weights, bias, target.task)
    write_text(folder / "encoder.json", encoder.to_json())
    write_json(folder / "signature.json", make_signature(contract))
    write_json(folder / "training.json", TRAINING)
    return Model.load(folder)


TRAINING = {
    "engine": "xgboost",
    "seed": 7,
    "where": "local",
    "rows": {"train": 100, "validate": 20},
    "candidates": [
        {
            "engine": "xgboost",
            "chosen": True,
            "seconds": 1.5,
            "loss": 0.4,
            "metrics": {"log_loss": 0.4},
            "settings": {"max_depth": 6, "learning_rate": 0.1},
            "curve": [
                {"step": 0, "train": 0.6, "validate": 0.6},
                {"step": 1, "train": 0.4, "validate": 0.5},
            ],
        }
    ],
    "search": None,
    "importance": [],
    "resumed_from": None,
}


def write_onnx(path: Path, weights: np.ndarray, bias: np.ndarray, task: str) -> None:
    """A linear model as the package wants it: nulls count as 0, probabilities or a value come."""
    last = {
        "binary": [
            helper.make_node("Sigmoid", ["scores"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["prediction"]),
        ],
        "regression": [helper.make_node("Squeeze", ["scores", "axis"], ["prediction"])],
        "multiclass": [helper.make_node("Softmax", ["scores"], ["prediction"], axis=1)],
    }[task]
    shape = ["rows", len(bias)] if task == "multiclass" else ["rows"]
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["features"], ["null"]),
            helper.make_node("Where", ["null", "zero", "features"], ["filled"]),
            helper.make_node("Gemm", ["filled", "weights", "bias"], ["scores"]),
            *last,
        ],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", len(weights)])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_package(folder: Path, contract: Contract, rows: pa.Table) -> Model:
    """A sealed package of that model, with the first rows as its reference."""
    model = write_candidate(folder, contract, rows)
    (folder / "training.json").unlink()
    some = rows.select([feature.name for feature in model.encoder.features]).slice(0, 5)
    reference = {
        "rows": json.loads(json.dumps(some.to_pydict(), default=lambda moment: moment.isoformat())),
        "predictions": model.predict(some).tolist(),
    }
    write_json(folder / "reference.json", reference)
    write_json(folder / "metrics.json", {})
    write_text(folder / "MODEL_CARD.md", "# A small model\n")
    # Not empty: KServe's storage initializer leaves empty files out.
    write_text(folder / "contract.yaml", "# made by hand\n")
    seal(folder)
    return model
