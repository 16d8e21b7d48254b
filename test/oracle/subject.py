"""What the comparison asks of the side that is tried, whichever of Kith's APIs answers."""

from typing import Any, Protocol

from qdrant_client import models

Ordered = list[tuple[Any, float]]
"""Ids, or values, with scores, counts or places in an order."""


class Refused(Exception):
    """The side that is tried answers with an error where the in-memory mode answers."""


class Subject(Protocol):
    request: Any
    """The last request, for the report."""

    def create(self, name: str, shards: int, replicas: int) -> None: ...

    def delete(self, name: str) -> None: ...

    def fill(self, name: str, points: dict[Any, dict[str, Any]]) -> None: ...

    def scroll(self, name: str, wanted: models.Filter, page: int) -> list[Any]:
        """All ids in order, read in pages of so many points."""
        ...

    def count(self, name: str, wanted: models.Filter | None) -> int: ...

    def facet(self, name: str, key: str, wanted: models.Filter | None, limit: int) -> Ordered: ...

    def query(self, name: str, stage: models.Prefetch, offset: int) -> Ordered: ...

    def order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, limit: int) -> Ordered: ...

    def scroll_in_order(self, name: str, order: models.OrderBy, wanted: models.Filter | None, page: int) -> Ordered: ...

    def groups(
        self, name: str, stage: models.Prefetch, key: str, limit: int, size: int, lookup: str | None
    ) -> dict[Any, Ordered]:
        """Hits by the value of their group, the groups in order."""
        ...

    def matrix(
        self, name: str, wanted: models.Filter | None, using: str, limit: int
    ) -> dict[Any, Ordered]:
        """Of each point its neighbours; all points are drawn."""
        ...

    def select(self, name: str, ids: list[Any], selector: Any) -> dict[Any, Any]:
        """Payloads by id."""
        ...

    def sample(self, name: str, wanted: models.Filter | None, limit: int) -> list[Any]: ...

    def close(self) -> None: ...
