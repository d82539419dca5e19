"""Ray Serve with one replica."""

import os
import signal

import ray
from model import Onnx
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Bench:
    def __init__(self):
        self.model = Onnx()

    async def __call__(self, request: Request):
        rows = (await request.json())["instances"]
        return {"predictions": self.model.predict(rows).tolist()}


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"BENCH_MODEL": os.environ["BENCH_MODEL"]}},
    )
    port = int(os.environ["BENCH_PORT"])
    serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
    serve.run(Bench.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
