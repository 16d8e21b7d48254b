"""Answers of queries."""

from __future__ import annotations

from dataclasses import dataclass

from kith.errors import KithError
from kith.types.points import Point, ScoredPoint


@dataclass(frozen=True)
class ExplainStep:
    """One step of how an answer came about, with the steps within it."""

    name: str
    #: Microseconds after the beginning of the call; of what happened within a shard: after the shard was asked.
    start_us: int
    duration_us: int
    facts: dict[str, str | float]
    steps: list[ExplainStep]


@dataclass(frozen=True)
class TraceSpan:
    span_id: str
    #: "" for a root.
    parent_span_id: str
    name: str
    #: Microseconds since the Unix epoch.
    start_us: int
    duration_us: int
    attributes: dict[str, str]
    #: The node that did it.
    node: str


@dataclass(frozen=True)
class SlotRange:
    """Hash slots, inclusive."""

    first: int
    last: int


@dataclass(frozen=True)
class QueryResult:
    #: Nearest first; ties by id.
    points: list[ScoredPoint]
    #: Hash slots that did not answer; only with `allow_partial`.
    missing: list[SlotRange]
    #: Only with `trace`.
    trace: list[TraceSpan]
    #: The server's time, in microseconds.
    took_us: int
    explain: ExplainStep | None = None
    #: Only with `trace`: the id under which servers that export traces have this one.
    trace_id: str | None = None


@dataclass(frozen=True)
class QueryBatchItem:
    """One answer of a batch: a result, or the error of that query alone."""

    result: QueryResult | None = None
    error: KithError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class PointGroup:
    #: What the points have in common.
    value: str | int
    #: Best first.
    points: list[ScoredPoint]
    #: Only with `with_lookup`, where there is such a point.
    lookup: Point | None = None


@dataclass(frozen=True)
class GroupsResult:
    #: In order of their best points; where these are equally good, by value.
    groups: list[PointGroup]
    missing: list[SlotRange]
    trace: list[TraceSpan]
    took_us: int
    explain: ExplainStep | None = None


@dataclass(frozen=True)
class FacetHit:
    value: str | int | bool
    count: int


@dataclass(frozen=True)
class FacetResult:
    #: Most frequent first, ties by value.
    hits: list[FacetHit]
    explain: ExplainStep | None = None


@dataclass(frozen=True)
class MatrixPair:
    a: int | str
    b: int | str
    score: float


@dataclass(frozen=True)
class DistanceMatrix:
    """How alike points drawn by chance are: by place in `ids`, and as pairs. For each point the nearest first."""

    ids: list[int | str]
    rows: list[int]
    columns: list[int]
    scores: list[float]
    pairs: list[MatrixPair]
