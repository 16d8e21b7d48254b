"""A plugin of pytest: every client speaks the protocol that KITH_QDRANT_PROTOCOL names, whatever its test asks for."""

import functools
import os

from qdrant_client import QdrantClient

original = QdrantClient.__init__


@functools.wraps(original)
def init(self, *args, **kwargs):
    kwargs["prefer_grpc"] = os.environ["KITH_QDRANT_PROTOCOL"] == "grpc"
    original(self, *args, **kwargs)


QdrantClient.__init__ = init
