"""What writes and reads of points take and give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from typing_extensions import TypedDict

from kith._ids import Id
from kith._sparse import SparseInput, SparseVector
from kith._vectors import FloatArray, VectorInput
from kith.errors import KithError

JsonObject = dict[str, Any]
#: The textual form (`year > 1990 and genre in (drama, crime)`) or the JSON form; see docs/filters.md.
FilterInput = str | Mapping[str, Any]
#: When a write is answered: durable; visible on one replica of each shard (the default); on all active ones.
WriteAck = Literal["log", "applied", "all"]
#: "insert" refuses ids that exist, "update" those that do not, item by item.
WriteMode = Literal["upsert", "insert", "update"]


class PointInput(TypedDict, total=False):
    """What a write takes: `vector` for the unnamed vector of a collection, `vectors` by name otherwise."""

    id: Id
    vector: VectorInput
    vectors: Mapping[str, VectorInput]
    #: Sparse vectors by name.
    sparse: Mapping[str, SparseInput]
    #: An object, or its JSON text in UTF-8, which is stored as it is.
    payload: Mapping[str, Any] | bytes | None
    #: From when on the point is not found any more: a datetime with a zone, or milliseconds since the Unix epoch.
    expires_at: datetime | int | None
    #: Written only where the point has this version: VERSION_MISMATCH of the item otherwise.
    expected_version: int


class VectorsInput(TypedDict, total=False):
    """Vectors of some fields of one point."""

    id: Id
    vector: VectorInput
    vectors: Mapping[str, VectorInput]
    #: Sparse vectors by name.
    sparse: Mapping[str, SparseInput]


@dataclass(frozen=True, eq=False)
class Point:
    """A point as the server gives it out; it can be written again."""

    id: int | str
    #: Log sequence of the last write of this point in its shard.
    version: int
    payload: JsonObject | None = None
    #: The unnamed vector, where it was asked for.
    vector: FloatArray | None = None
    #: Named vectors, where they were asked for.
    vectors: dict[str, FloatArray] | None = None
    #: Sparse vectors by name, where they were asked for.
    sparse: dict[str, SparseVector] | None = None
    #: When it expires; of points that do, and that are read by id or scrolled.
    expires_at: datetime | None = None


@dataclass(frozen=True, eq=False)
class ScoredPoint(Point):
    #: Cosine similarity or dot product (higher is nearer), or euclidean distance (lower is nearer).
    score: float = 0.0
    #: Where the point stands in an order by payload: a number, or microseconds since the epoch.
    order: float | None = None
    #: With `highlight`: parts of its texts with marks, by path of the field; of fields where something was found.
    highlights: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Token:
    """What a client has seen of one collection: the highest log sequence of each shard. `to_json` and `from_json` take it to another process."""

    collection_id: str = ""
    shards: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """The form that the TypeScript SDK has: {"collectionId": ..., "shards": {"0": 17}}."""
        return {
            "collectionId": self.collection_id,
            "shards": {str(shard): sequence for shard, sequence in self.shards.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Token:
        return cls(str(value["collectionId"]), {int(shard): sequence for shard, sequence in value["shards"].items()})


#: A value of the partition key of a collection.
PartitionValue = str | int

#: How fresh a read must be. "session" (default): everything that this client has written. "none": what an active replica has.
#: "linearizable": everything acknowledged to anyone before the call. A Token: what another client has seen.
ReadConsistency = Literal["session", "none", "linearizable"] | Token


class FilterTarget(TypedDict):
    filter: FilterInput


#: The points that a write is about: by id, or all that pass a filter.
WriteTarget = Id | Sequence[Id] | FilterTarget
#: Whether payloads come back, or of each only what lies at some paths ({"include": [...]}), or everything else ({"exclude": [...]}).
WithPayload = bool | Mapping[str, Sequence[str]]
#: All vectors (True), or the named ones; "" is the unnamed one.
WithVectors = bool | Sequence[str]


@dataclass(frozen=True)
class ItemError:
    """One item of a write that was refused; the others were written."""

    #: Position in what was passed in.
    index: int
    code: str
    message: str


@dataclass(frozen=True)
class UpsertResult:
    #: Points written; with ack "log": points accepted.
    upserted: int
    errors: list[ItemError]
    token: Token


@dataclass(frozen=True)
class DeleteResult:
    #: Points that existed and are gone; with ack "log": 0.
    deleted: int
    errors: list[ItemError]
    token: Token


@dataclass(frozen=True)
class WriteResult:
    #: Points on which the write took effect; with ack "log": 0.
    affected: int
    #: Empty with ack "log", and for writes by filter.
    errors: list[ItemError]
    token: Token


@dataclass(frozen=True)
class WriteEffect:
    affected: int
    errors: list[ItemError]


@dataclass(frozen=True)
class WriteBatchItem:
    """The answer of one write of a batch: a result, or the error of that write alone."""

    result: WriteEffect | None = None
    error: KithError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class WriteBatchResult:
    #: One per operation, in order.
    results: list[WriteBatchItem]
    token: Token


@dataclass(frozen=True)
class UpsertManyProgress:
    #: Points sent so far, those refused by the client included.
    sent: int = 0
    upserted: int = 0
    failed: int = 0
    #: Bytes of ids, vectors and payloads sent.
    bytes: int = 0


@dataclass(frozen=True)
class UpsertManyResult(UpsertManyProgress):
    #: The first 100 refused points.
    errors: list[ItemError] = field(default_factory=list)
    #: Of what this run has written.
    token: Token = field(default_factory=Token)


@dataclass(frozen=True)
class SettledBatch:
    """A run of the input that is settled: written, or refused item by item."""

    #: Position of its first item in the input.
    first_index: int
    count: int
    #: Every item before this position is settled: an import that stops here can go on from it.
    resume_index: int


@dataclass(frozen=True)
class ChangeEvent:
    """What has become of a point."""

    #: "truncate": all points of the shard were deleted at once; it has no id.
    kind: Literal["insert", "update", "delete", "truncate"]
    id: int | str | None
    shard: int
    #: Of the shard's log: the version that the point has afterwards.
    sequence: int
    #: To go on behind this change.
    token: Token
    before: Point | None = None
    after: Point | None = None
    #: Of the vector, with `near`.
    score: float | None = None
