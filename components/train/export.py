"""From an engine's model to the ONNX file that is served, checked against the engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.train.job import Array

if TYPE_CHECKING:
    import xgboost

OPSET = 15
TOLERANCE = 1e-4


def export_booster(booster: xgboost.Booster, columns: int, task: str, path: Path) -> None:
    """Write trees as ONNX with the package's input `features` and output `prediction`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster.feature_names = None  # the converter wants f0, f1, …
    booster.feature_types = None
    model = convert_xgboost(
        booster,
        initial_types=[("features", FloatTensorType([None, columns]))],
        target_opset=OPSET,
    )
    if not any(item.domain == "" for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    graph = model.graph
    raw = graph.output[-1].name  # after the label, if there is one
    if task == "binary":
        graph.initializer.append(numpy_helper.from_array(np.array(1), "positive"))
        node = helper.make_node("Gather", [raw, "positive"], ["prediction"], axis=1)
        shape: list[str | int] = ["rows"]
    elif task == "regression":
        graph.initializer.append(numpy_helper.from_array(np.array([1]), "second_axis"))
        node = helper.make_node("Squeeze", [raw, "second_axis"], ["prediction"])
        shape = ["rows"]
    else:
        node = helper.make_node("Identity", [raw], ["prediction"])
        shape = ["rows", "classes"]
    graph.node.append(node)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("prediction", TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def check_parity(path: Path, features: Array, expected: np.ndarray) -> None:
    """Raises `RuntimeError` where the exported model does not answer as the engine does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer = session.run(["prediction"], {"features": features})[0]
    if answer.shape != expected.shape:
        raise RuntimeError(f"{path}: answers {answer.shape}, the engine {expected.shape}")
    scale = np.maximum(1.0, np.abs(expected))
    worst = float((np.abs(answer - expected) / scale).max())
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{path}: differs from the engine by {worst:.2g}")
