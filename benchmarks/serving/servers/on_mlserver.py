"""MLServer with a custom runtime."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import Onnx


class Runtime(MLModel):
    async def load(self) -> bool:
        self.model = Onnx()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("prediction", self.model.predict(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
