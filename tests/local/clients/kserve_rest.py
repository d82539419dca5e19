"""kserve's REST client, V1 and V2 (JSON and binary): predictions as JSON on stdout.

kserve_rest.py URL MODEL  <  {"instances": […], "inputs": […]}
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str, model: str) -> dict[str, list[float]]:
    asked = json.load(sys.stdin)
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=10))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=10))
    assert await v1.is_server_live(url)
    assert await v1.is_model_ready(url, model)
    assert await v2.is_server_live(url)
    assert await v2.is_server_ready(url)
    assert await v2.is_model_ready(url, model)
    rows = await v1.infer(url, {"instances": asked["instances"]}, model)
    tensors = await v2.infer(url, {"inputs": asked["inputs"]}, model)
    binary = await v2.infer(url, request(model, asked["inputs"]), model)
    return {
        "v1": rows["predictions"],
        "v2": tensors.outputs[0].data,
        "v2 binary": binary.outputs[0].as_numpy().tolist(),
    }


def request(model: str, inputs: list[dict]) -> InferRequest:
    found = []
    for item in inputs:
        tensor = InferInput(item["name"], item["shape"], item["datatype"])
        kinds = {"BYTES": object, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}
        tensor.set_data_from_numpy(np.array(item["data"], kinds[item["datatype"]]))
        found.append(tensor)
    return InferRequest(model, found, request_id="mine")


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
