"""What grpcurl and a Kubernetes probe do, without a proto file: reflection and the health service.

reflection.py HOST:PORT MODEL  <  {"inputs": […]}
"""

import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "inference.GRPCInferenceService"
CONTENTS = {
    "BYTES": "bytes_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "BOOL": "bool_contents",
}


def main(address: str, model: str) -> dict[str, list[float]]:
    inputs = json.load(sys.stdin)["inputs"]
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        code = None
        try:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        except grpc.RpcError as error:
            code = error.code()
        assert code == grpc.StatusCode.NOT_FOUND
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        assert {method.name for method in service.methods} >= {
            *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"),
            *("ModelInfer", "RepositoryModelLoad", "RepositoryModelUnload"),
        }
        method = service.FindMethodByName("ModelInfer")
        request = GetMessageClass(method.input_type)(model_name=model)
        for item in inputs:
            tensor = request.inputs.add(
                name=item["name"], datatype=item["datatype"], shape=item["shape"]
            )
            values = [v.encode() if isinstance(v, str) else v for v in item["data"]]
            getattr(tensor.contents, CONTENTS[item["datatype"]]).extend(values)
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        answer = json_format.MessageToDict(ask(request, timeout=10))
    [output] = answer["outputs"]
    return {"reflection": output.get("contents", {}).get("fp32Contents") or raw(answer)}


def raw(answer: dict) -> list[float]:
    import base64
    import struct

    data = base64.b64decode(answer["rawOutputContents"][0])
    return list(struct.unpack(f"<{len(data) // 4}f", data))


print(json.dumps(main(*sys.argv[1:])))
