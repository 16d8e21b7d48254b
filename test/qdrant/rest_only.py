"""A plugin of pytest: clients that ask for gRPC speak REST, which is the API that Kith has."""

import functools

from qdrant_client import QdrantClient

original = QdrantClient.__init__


@functools.wraps(original)
def init(self, *args, **kwargs):
    kwargs["prefer_grpc"] = False
    original(self, *args, **kwargs)


QdrantClient.__init__ = init
