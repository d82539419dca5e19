"""kserve's gRPC client, typed contents and raw: predictions as JSON on stdout.

kserve_grpc.py HOST:PORT MODEL  <  {"inputs": […]}
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

KINDS = {"BYTES": np.object_, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


async def main(address: str, model: str) -> dict[str, list[float]]:
    inputs = json.load(sys.stdin)["inputs"]
    found = {}
    async with InferenceGRPCClient(address, timeout=10) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        for binary in (False, True):
            tensors = []
            for item in inputs:
                tensor = InferInput(item["name"], item["shape"], item["datatype"])
                values = np.array(item["data"], KINDS[item["datatype"]])
                tensor.set_data_from_numpy(values, binary_data=binary)
                tensors.append(tensor)
            answer = await client.infer(InferRequest(model, tensors, request_id="mine"))
            assert answer.id == "mine"
            found["raw" if binary else "typed"] = answer.outputs[0].as_numpy().tolist()
    return found


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
