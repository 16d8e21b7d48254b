"""Kith's front for Qdrant's clients, asked by qdrant-client itself, over REST or gRPC."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from generate import VECTORS
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException
from subject import Ordered, Refused


T = TypeVar("T")


def refusing(ask: Callable[..., T]) -> Callable[..., T]:
    """Errors of the server, and of what reads its answers, are refusals; the arguments are the request that is reported."""

    @functools.wraps(ask)
    def asked(self: "QdrantDoor", *arguments: Any) -> T:
        self.request = {"call": ask.__name__, "arguments": [shown(each) for each in arguments]}
        try:
            return ask(self, *arguments)
        except grpc.RpcError as error:
            raise Refused(error.details()) from error
        except (ApiException, ValueError) as error:
            raise Refused(str(error)) from error

    return asked


def shown(argument: Any) -> Any:
    if hasattr(argument, "model_dump"):
        return argument.model_dump(mode="json", exclude_none=True)
    if isinstance(argument, dict):
        return {str(key): shown(value) for key, value in argument.items()}
    return [shown(each) for each in argument] if isinstance(argument, list) else argument


class QdrantDoor:
    def __init__(self, rest: str, grpc_target: str, prefer_grpc: bool) -> None:
        host, _, port = rest.rpartition(":")
        grpc_port = int(grpc_target.rpartition(":")[2])
        # The client is of a newer version than the API that it asks, which it says at every start.
        warnings.filterwarnings("ignore", message=".*version.*", category=UserWarning)
        self.client = QdrantClient(host=host, port=int(port), grpc_port=grpc_port, prefer_grpc=prefer_grpc, timeout=60)
        self.request: Any = None

    @refusing
    def create(self, name: str, shards: int, replicas: int) -> None:
        fields = {each: models.VectorParams(size=size, distance=distance) for each, (size, distance, _) in VECTORS.items()}
        self.client.create_collection(
            name, vectors_config=fields, shard_number=shards, replication_factor=replicas
        )

    @refusing
    def delete(self, name: str) -> None:
        self.client.delete_collection(name)

    @refusing
    def fill(self, name: str, points: dict[Any, dict[str, Any]]) -> None:
        self.client.upsert(
            name,
            [
                models.PointStruct(id=each, vector=value["vectors"], payload=value["payload"])
                for each, value in points.items()
            ],
            wait=True,
        )

    @refusing
    def scroll(self, name: str, wanted: models.Filter, page: int) -> list[Any]:
        ids: list[Any] = []
        after: Any = None
        while True:
            points, after = self.client.scroll(name, scroll_filter=wanted, limit=page, offset=after)
            ids += [each.id for each in points]
            if after is None:
                return ids

    @refusing
    def count(self, name: str, wanted: models.Filter | None) -> int:
        return self.client.count(name, count_filter=wanted).count

    @refusing
    def facet(self, name: str, key: str, wanted: models.Filter | None, limit: int) -> Ordered:
        hits = self.client.facet(name, key=key, facet_filter=wanted, limit=limit, exact=True).hits
        return [(each.value, each.count) for each in hits]

    @refusing
    def query(self, name: str, stage: models.Prefetch, offset: int) -> Ordered:
        return [(each.id, each.score) for each in self.client.query_points(name, **query_of(stage), offset=offset).points]

    @refusing
    def order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, limit: int) -> Ordered:
        query = models.OrderByQuery(order_by=order)
        points = self.client.query_points(name, query=query, query_filter=wanted, limit=limit).points
        return [(each.id, each.order_value) for each in points]

    @refusing
    def scroll_in_order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, page: int) -> Ordered:
        """Pages in an order are by the last value and the ids that had it, which values of lists do not allow: one page."""
        points, _ = self.client.scroll(name, scroll_filter=wanted, order_by=order, limit=10_000)
        return [(each.id, each.order_value) for each in points]

    @refusing
    def groups(
        self, name: str, stage: models.Prefetch, key: str, limit: int, size: int, lookup: str | None
    ) -> dict[Any, Ordered]:
        query = {**query_of(stage), "limit": limit}
        groups = self.client.query_points_groups(name, group_by=key, group_size=size, with_lookup=lookup, **query).groups
        return {each.id: [(hit.id, hit.score) for hit in each.hits] for each in groups}

    @refusing
    def matrix(self, name: str, wanted: models.Filter | None, using: str, limit: int) -> dict[Any, Ordered]:
        rows: dict[Any, Ordered] = {}
        pairs = self.client.search_matrix_pairs(name, query_filter=wanted, sample=1_000, limit=limit, using=using).pairs
        for pair in pairs:
            rows.setdefault(pair.a, []).append((pair.b, pair.score))
        return rows

    @refusing
    def select(self, name: str, ids: list[Any], selector: Any) -> dict[Any, Any]:
        return {each.id: each.payload for each in self.client.retrieve(name, ids=ids, with_payload=selector)}

    @refusing
    def sample(self, name: str, wanted: models.Filter | None, limit: int) -> list[Any]:
        query = models.SampleQuery(sample=models.Sample.RANDOM)
        return [each.id for each in self.client.query_points(name, query=query, query_filter=wanted, limit=limit).points]

    @refusing
    def write(self, name: str, call: str, arguments: dict[str, Any]) -> None:
        """Makes one write, by the name of its method."""
        getattr(self.client, call)(name, **arguments, wait=True)

    @refusing
    def content(self, name: str) -> dict[Any, models.Record]:
        points, _ = self.client.scroll(name, limit=10_000, with_payload=True, with_vectors=True)
        return {each.id: each for each in points}

    def close(self) -> None:
        self.client.close()


def query_of(stage: models.Prefetch) -> dict[str, Any]:
    return {
        "query": stage.query,
        "prefetch": stage.prefetch,
        "query_filter": stage.filter,
        "using": stage.using,
        "limit": stage.limit,
        "score_threshold": stage.score_threshold,
        "lookup_from": stage.lookup_from,
    }
