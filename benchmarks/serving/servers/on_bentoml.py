"""BentoML with a service of one worker."""

import bentoml
import numpy as np
from model import Onnx


@bentoml.service(workers=1)
class Bench:
    def __init__(self) -> None:
        self.model = Onnx()

    @bentoml.api
    def predict(self, instances: np.ndarray) -> np.ndarray:
        return self.model.predict(instances)
