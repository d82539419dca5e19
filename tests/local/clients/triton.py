"""tritonclient over HTTP (JSON and binary) or gRPC: predictions as JSON on stdout.

triton.py http|grpc HOST:PORT MODEL  <  {"inputs": […]}
"""

import importlib
import json
import sys

import numpy as np

KINDS = {"BYTES": np.object_, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


def main(protocol: str, address: str, model: str) -> dict[str, list[float]]:
    inputs = json.load(sys.stdin)["inputs"]
    triton = importlib.import_module(f"tritonclient.{protocol}")
    client = triton.InferenceServerClient(address)
    as_dict = {"as_json": True} if protocol == "grpc" else {}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert "binary_tensor_data" in client.get_server_metadata(**as_dict)["extensions"]
    metadata = client.get_model_metadata(model, **as_dict)
    [version] = metadata["versions"]
    assert client.is_model_ready(model, version)
    assert sorted(item["name"] for item in metadata["inputs"]) == sorted(
        item["name"] for item in inputs
    )
    index = client.get_model_repository_index(**as_dict)
    [entry] = index["models"] if protocol == "grpc" else index
    assert (entry["name"], entry["version"], entry["state"]) == (model, version, "READY")
    client.load_model(model)
    found = {}
    for binary in (False, True) if protocol == "http" else (True,):
        choice = {"binary_data": binary} if protocol == "http" else {}
        tensors = []
        for item in inputs:
            tensor = triton.InferInput(item["name"], item["shape"], item["datatype"])
            values = np.array(item["data"], KINDS[item["datatype"]])
            tensor.set_data_from_numpy(values, **choice)
            tensors.append(tensor)
        outputs = [triton.InferRequestedOutput("prediction", **choice)]
        for given in (None, outputs):
            answer = client.infer(
                model, tensors, model_version=version, outputs=given, request_id="mine"
            )
            predictions = answer.as_numpy("prediction").tolist()
            found[f"binary={binary} outputs={given is not None}"] = predictions
    refusal = ""
    try:
        client.infer("nobody", tensors)
    except triton.InferenceServerException as error:
        refusal = error.message()
    assert "no model 'nobody'" in refusal, refusal
    return found


print(json.dumps(main(*sys.argv[1:])))
