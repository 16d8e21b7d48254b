"""Kith's own gRPC API, asked what Qdrant's models say."""

import base64
import json
from pathlib import Path
from typing import Any

import grpc
from generate import VECTORS
from kith import Kith, filter_to_wire, id_from_wire, id_to_wire, order_to_wire, stage_to_wire
from qdrant_client import models
from subject import Ordered, Refused

PAGE = 10_000


class Native:
    def __init__(self, root: Path, target: str) -> None:
        self.kith = Kith(root, target)
        self.request: Any = None

    def call(self, method: str, request: dict[str, Any]) -> Any:
        self.request = request
        try:
            return self.kith.call(method, request)
        except grpc.RpcError as error:
            raise Refused(error.details()) from error

    def create(self, name: str, shards: int, replicas: int) -> None:
        fields = [
            {"name": each, "dimension": dimension, "metric": metric} for each, (dimension, _, metric) in VECTORS.items()
        ]
        request = {"name": name, "vectors": fields, "shard_count": shards, "replication_factor": replicas}
        self.call("Collections.Create", request)

    def delete(self, name: str) -> None:
        self.call("Collections.Delete", {"name": name})

    def fill(self, name: str, points: dict[Any, dict[str, Any]]) -> None:
        wire = [
            {
                "id": id_to_wire(each),
                "vectors": {field: {"values": vector} for field, vector in value["vectors"].items()},
                "payload": encode(value["payload"]),
            }
            for each, value in points.items()
        ]
        self.call("Points.Upsert", {"collection": name, "points": wire, "options": {"ack": "ACK_ALL"}})

    def scroll(self, name: str, wanted: models.Filter, page: int) -> list[Any]:
        ids: list[Any] = []
        request = {"collection": name, "filter": filter_to_wire(wanted), "limit": page}
        while True:
            answer = self.call("Points.Scroll", request)
            ids += [id_from_wire(each.id) for each in answer.points]
            if not answer.next_cursor:
                return ids
            request["cursor"] = base64.b64encode(answer.next_cursor).decode()

    def count(self, name: str, wanted: models.Filter | None) -> int:
        return self.call("Points.Count", {"collection": name, "filter": filter_to_wire(wanted) or {}}).count

    def facet(self, name: str, key: str, wanted: models.Filter | None, limit: int) -> Ordered:
        request = {"collection": name, "key": key, "filter": filter_to_wire(wanted) or {}, "limit": limit}
        hits = self.call("Points.Facet", request).hits
        return [(getattr(each, each.WhichOneof("value")), each.count) for each in hits]

    def query(self, name: str, stage: models.Prefetch, offset: int) -> Ordered:
        hits = self.call("Points.Query", {"collection": name, **stage_to_wire(stage), "offset": offset}).points
        return [(id_from_wire(each.id), each.score) for each in hits]

    def order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, limit: int) -> Ordered:
        request = {
            "collection": name,
            "query": {"order_by": order_to_wire(order)},
            "filter": filter_to_wire(wanted) or {},
            "limit": limit,
        }
        return [(id_from_wire(each.id), each.order) for each in self.call("Points.Query", request).points]

    def scroll_in_order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, page: int) -> Ordered:
        """All pages by their cursors."""
        request: dict[str, Any] = {
            "collection": name,
            "filter": filter_to_wire(wanted) or {},
            "limit": page,
            "order_by": order_to_wire(order),
        }
        ours: Ordered = []
        while True:
            answer = self.call("Points.Scroll", request)
            ours += [(id_from_wire(each.id), place) for each, place in zip(answer.points, answer.orders, strict=True)]
            if not answer.next_cursor:
                return ours
            request["cursor"] = base64.b64encode(answer.next_cursor).decode()

    def groups(
        self, name: str, stage: models.Prefetch, key: str, limit: int, size: int, lookup: str | None
    ) -> dict[Any, Ordered]:
        query = {"collection": name, **stage_to_wire(stage), "limit": 0}
        request: dict[str, Any] = {"query": query, "group_by": key, "limit": limit, "group_size": size}
        if lookup is not None:
            request["with_lookup"] = {"collection": lookup}
        return {
            getattr(each, each.WhichOneof("value")): [(id_from_wire(hit.id), hit.score) for hit in each.points]
            for each in self.call("Points.QueryGroups", request).groups
        }

    def matrix(self, name: str, wanted: models.Filter | None, using: str, limit: int) -> dict[Any, Ordered]:
        request = {
            "collection": name,
            "using": using,
            "filter": filter_to_wire(wanted) or {},
            "sample": 1_000,
            "limit": limit,
        }
        answer = self.call("Points.SearchMatrix", request)
        ids = [id_from_wire(each) for each in answer.ids]
        rows: dict[Any, Ordered] = {}
        for row, column, score in zip(answer.rows, answer.columns, answer.scores, strict=True):
            rows.setdefault(ids[row], []).append((ids[column], score))
        return rows

    def select(self, name: str, ids: list[Any], selector: Any) -> dict[Any, Any]:
        include = isinstance(selector, models.PayloadSelectorInclude)
        paths = selector.include if include else selector.exclude
        request = {
            "collection": name,
            "ids": [id_to_wire(each) for each in ids],
            "select": {"payload": True, "include" if include else "exclude": paths},
        }
        points = self.call("Points.Get", request).points
        return {id_from_wire(each.id): json.loads(each.payload) for each in points}

    def sample(self, name: str, wanted: models.Filter | None, limit: int) -> list[Any]:
        filter_ = filter_to_wire(wanted) or {}
        request = {"collection": name, "query": {"sample": {}}, "filter": filter_, "limit": limit}
        return [id_from_wire(each.id) for each in self.call("Points.Query", request).points]

    def close(self) -> None:
        self.kith.close()


def encode(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()
