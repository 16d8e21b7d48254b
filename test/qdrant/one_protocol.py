"""A plugin of pytest: every client of a server asks that at KITH_QDRANT_PORTS by the protocol KITH_QDRANT_PROTOCOL, whatever its test says."""

import functools
import os

from qdrant_client import QdrantClient

original = QdrantClient.__init__
rest_port, grpc_port = (int(port) for port in os.environ["KITH_QDRANT_PORTS"].split(","))


@functools.wraps(original)
def init(self, *args, **kwargs):
    if "host" in kwargs:
        kwargs.update(host="127.0.0.1", port=rest_port, grpc_port=grpc_port)
    kwargs["prefer_grpc"] = os.environ["KITH_QDRANT_PROTOCOL"] == "grpc"
    original(self, *args, **kwargs)


QdrantClient.__init__ = init
