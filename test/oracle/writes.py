"""Random writes, as the method of qdrant-client and its arguments, so that both sides make the same."""

from collections.abc import Callable
from typing import Any

from generate import VECTORS, Generator
from qdrant_client import models

Write = tuple[str, dict[str, Any]]

PATHS = ["genre", "meta.votes", "meta", "cast[].name", "tags", "title", "missing", "scores[0]", "meta.source", "place"]


class Writes:
    """What may be written to points of these ids, some of which there are not. Parts of points are written where there is one: both sides refuse others."""

    def __init__(self, generator: Generator, ids: list[Any]) -> None:
        self.generator, self.ids = generator, ids
        self.there: list[Any] = []

    def next(self) -> Write:
        kinds: list[Callable[[], Write]] = [
            self.upsert,
            self.upsert,
            self.delete,
            self.set_payload,
            self.set_payload,
            self.overwrite_payload,
            self.delete_payload,
            self.clear_payload,
            self.update_vectors,
            self.delete_vectors,
            self.batch,
        ]
        return self.generator.pick(kinds)()

    def some_ids(self) -> list[Any]:
        return self.generator.random.sample(self.ids, self.generator.random.randrange(1, 6))

    def some_there(self) -> list[Any]:
        return self.generator.random.sample(self.there, min(len(self.there), self.generator.random.randrange(1, 6)))

    def target(self) -> Any:
        """Ids, or a filter."""
        return self.generator.filter(self.ids, 1) if self.generator.chance(0.3) else self.some_there()

    def points(self) -> list[models.PointStruct]:
        some = self.generator
        return [models.PointStruct(id=each, vector=some.vectors(), payload=some.payload()) for each in self.some_ids()]

    def few_names(self) -> list[str]:
        return self.generator.random.sample(list(VECTORS), self.generator.random.randrange(1, 3))

    def point_vectors(self) -> list[models.PointVectors]:
        some = self.generator
        return [
            models.PointVectors(id=each, vector={name: some.vector(name) for name in self.few_names()})
            for each in self.some_there()
        ]

    def some_payload(self) -> dict[str, Any]:
        payload = self.generator.payload()
        keys = self.generator.random.sample(list(payload), min(3, len(payload)))
        return {key: payload[key] for key in keys}

    def payload_of(self, target: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"payload": self.some_payload(), "points": target}
        if self.generator.chance(0.3):
            arguments["key"] = self.generator.pick(["meta", "meta.deep", "extra"])
        return arguments

    def upsert(self) -> Write:
        return "upsert", {"points": self.points()}

    def delete(self) -> Write:
        # By a filter alone points vanish faster than they come.
        ids = self.some_ids()
        few = models.Filter(must=[models.HasIdCondition(has_id=ids), self.generator.filter(self.ids, 1)])
        return "delete", {"points_selector": few if self.generator.chance(0.5) else ids}

    def set_payload(self) -> Write:
        return "set_payload", self.payload_of(self.target())

    def overwrite_payload(self) -> Write:
        return "overwrite_payload", {"payload": self.some_payload(), "points": self.some_there()}

    def delete_payload(self) -> Write:
        keys = self.generator.random.sample(PATHS, self.generator.random.randrange(1, 4))
        return "delete_payload", {"keys": keys, "points": self.target()}

    def clear_payload(self) -> Write:
        return "clear_payload", {"points_selector": self.some_there()[:2]}

    def update_vectors(self) -> Write:
        return "update_vectors", {"points": self.point_vectors()}

    def delete_vectors(self) -> Write:
        # The field "a" stays, so that a point is never without vectors.
        return "delete_vectors", {"vectors": [self.generator.pick(["b", "c"])], "points": self.target()}

    def batch(self) -> Write:
        some = self.generator
        # What is deleted cannot be written to any more.
        deleted = some.random.sample(self.there, min(len(self.there) - 1, 2))
        left = [each for each in self.there if each not in deleted]
        few = lambda: some.random.sample(left, min(len(left), 3))  # noqa: E731
        operations: list[Callable[[], Any]] = [
            lambda: models.UpsertOperation(upsert=models.PointsList(points=self.points())),
            lambda: models.DeleteOperation(delete=models.PointIdsList(points=deleted)),
            lambda: models.SetPayloadOperation(set_payload=models.SetPayload(payload=self.some_payload(), points=few())),
            lambda: models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=self.some_payload(), points=few())
            ),
            lambda: models.DeletePayloadOperation(
                delete_payload=models.DeletePayload(keys=[some.pick(PATHS)], points=few())
            ),
            lambda: models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=few()[:1])),
            lambda: models.DeleteVectorsOperation(
                delete_vectors=models.DeleteVectors(vector=[some.pick(["b", "c"])], points=few())
            ),
        ]
        count = some.random.randrange(1, 5)
        return "batch_update_points", {"update_operations": [some.pick(operations)() for _ in range(count)]}
