"""The model in every server of others: the same file, one thread, straight to ONNX Runtime."""

import os

import numpy as np
import onnxruntime


class Onnx:
    """The model.onnx that `BENCH_MODEL` names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def predict(self, rows) -> np.ndarray:
        """Rows of numbers to float32 [n]."""
        matrix = np.asarray(rows, np.float32)
        return self._session.run(["prediction"], {"features": matrix})[0]
