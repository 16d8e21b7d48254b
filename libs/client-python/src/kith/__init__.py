"""The Python client of Kith.

    import kith

    with kith.connect("127.0.0.1:7700") as client:
        films = client.collection("films")
        films.create(vectors={"dimension": 3, "metric": "cosine"})
        films.upsert({"id": 1, "vector": [0.1, 0.9, 0.2], "payload": {"title": "Metropolis", "year": 1927}})
        for point in films.query(vector=[0.1, 0.8, 0.3], limit=5).points:
            print(point.id, point.score, point.payload)

`connect_async` gives the same with `await`. Every failure is a `KithError`: decide by its `code` or its class, never by its message.
"""

from kith._aio.client import AsyncKithClient, connect_async
from kith._aio.collection import AsyncCollectionHandle
from kith._connect import DEFAULT_TARGET
from kith._ids import Id
from kith._retry import RetryOptions
from kith._sparse import SparseInput, SparseVector
from kith._sync.client import KithClient, connect
from kith._sync.collection import CollectionHandle
from kith._tls import TlsOptions
from kith._vectors import VectorInput
from kith.errors import (
    AlreadyExistsError,
    AuthenticationError,
    CancelledError,
    ConflictError,
    DeadlineExceededError,
    ExhaustedError,
    InternalError,
    InvalidRequestError,
    KithError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnavailableError,
    UnsupportedError,
)
from kith.filters import FilterBuilder, where
from kith.types import Point, PointInput, ScoredPoint, Token

__all__ = [
    "DEFAULT_TARGET",
    "AlreadyExistsError",
    "AsyncCollectionHandle",
    "AsyncKithClient",
    "AuthenticationError",
    "CancelledError",
    "CollectionHandle",
    "ConflictError",
    "DeadlineExceededError",
    "ExhaustedError",
    "FilterBuilder",
    "Id",
    "InternalError",
    "InvalidRequestError",
    "KithClient",
    "KithError",
    "NotFoundError",
    "PermissionDeniedError",
    "Point",
    "PointInput",
    "PreconditionError",
    "RetryOptions",
    "ScoredPoint",
    "SparseInput",
    "SparseVector",
    "TlsOptions",
    "Token",
    "UnavailableError",
    "UnsupportedError",
    "VectorInput",
    "connect",
    "connect_async",
    "where",
]
