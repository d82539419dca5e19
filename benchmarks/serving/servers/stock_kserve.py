"""KServe's own Python server with a custom model, as its documentation writes one."""

from kserve import InferRequest, Model, ModelServer
from kserve.utils.utils import get_predict_response
from model import Onnx


class Predictor(Model):
    def __init__(self, name):
        super().__init__(name)
        self.load()

    def load(self):
        self.model = Onnx()
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            rows = payload.inputs[0].as_numpy()
        else:
            rows = payload["instances"]
        return get_predict_response(payload, self.model.predict(rows), self.name)


if __name__ == "__main__":
    ModelServer().start([Predictor("bench")])
