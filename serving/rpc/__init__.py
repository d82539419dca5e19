"""gRPC: the Open Inference Protocol's service, health and reflection."""

from serving.rpc.server import RpcServer

__all__ = ["RpcServer"]
