"""A plugin of pytest: clients of a server ask that at KITH_QDRANT_PORTS, those of the congruence tests by the protocol KITH_QDRANT_PROTOCOL, whatever their test says."""

import functools
import os

import pytest
from grpc import RpcError
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.conversions import common_types
from qdrant_client.http.exceptions import UnexpectedResponse

rest_port, grpc_port = (int(port) for port in os.environ["KITH_QDRANT_PORTS"].split(","))
is_grpc = os.environ["KITH_QDRANT_PROTOCOL"] == "grpc"
ports = {"port": rest_port, "grpc_port": grpc_port}
# What says where a client asks; and clients that are only looked at.
elsewhere = {"location", "url", "host", "path", "port", "https", "prefix", "check_compatibility"}


def directed(kind: type) -> None:
    original = kind.__init__

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        if kwargs.get("host") == "localhost" and kwargs.get("port") == 6333:
            kwargs.update(host="127.0.0.1", prefer_grpc=is_grpc, **ports)
        elif not args and not elsewhere & kwargs.keys():
            kwargs.update(ports)
        original(self, *args, **kwargs)

    kind.__init__ = init


# A type of clients before 1.19, which tests have in annotations.
if not hasattr(common_types, "NamedVector"):
    common_types.NamedVector = object

directed(QdrantClient)
directed(AsyncQdrantClient)

# What tests expect, and what else it is: errors are those of the protocol that is forced, and the in-memory mode of 1.20 has an own kind for NaN.
equals = {
    UnexpectedResponse: (UnexpectedResponse, RpcError),
    RpcError: (RpcError, UnexpectedResponse),
    AssertionError: (AssertionError, ValueError),
}
raises = pytest.raises


@functools.wraps(raises)
def raises_either(expected, *args, **kwargs):
    return raises(equals.get(expected, expected), *args, **kwargs)


pytest.raises = raises_either

# A message of gRPC has no sign of a payload: an empty one and none are the same bytes, of which the client makes `{}` in records and `None` in points with
# scores, whatever server sent them. Where gRPC is forced they are the same; tests that want them apart are made for REST.
if is_grpc:
    from tests.congruence_tests import test_common

    compare = test_common.compare_records

    def without_none(records: list) -> list:
        return [each.model_copy(update={"payload": each.payload or {}}) if hasattr(each, "payload") else each for each in records]

    @functools.wraps(compare)
    def compare_records(first: list, second: list, *args, **kwargs) -> None:
        compare(without_none(first), without_none(second), *args, **kwargs)

    test_common.compare_records = compare_records
