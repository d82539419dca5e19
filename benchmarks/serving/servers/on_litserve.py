"""LitServe with one worker on the CPU."""

import os

import litserve
from model import Onnx


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = Onnx()

    def decode_request(self, request):
        return request["instances"]

    def predict(self, rows):
        return self.model.predict(rows)

    def encode_response(self, predictions):
        return {"predictions": predictions.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="error",
    )
