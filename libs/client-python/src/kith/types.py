"""What the client takes and gives. Results are frozen; options are keyword arguments of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from typing_extensions import TypedDict

from kith._ids import Id
from kith._sparse import SparseInput, SparseVector
from kith._vectors import FloatArray, VectorInput
from kith.errors import KithError

T = TypeVar("T")

JsonObject = dict[str, Any]
#: The textual form (`year > 1990 and genre in (drama, crime)`) or the JSON form; see docs/filters.md.
FilterInput = str | Mapping[str, Any]
#: When a write is answered: durable; visible on one replica of each shard (the default); on all active ones.
WriteAck = Literal["log", "applied", "all"]
#: "insert" refuses ids that exist, "update" those that do not, item by item.
WriteMode = Literal["upsert", "insert", "update"]
Metric = Literal["cosine", "dot", "l2"]
Datatype = Literal["f32", "f16", "bf16", "i8", "i4", "pq16", "pq32", "binary", "pq64"]
PayloadIndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "uuid", "geo", "text", "bm25"]
TextTokenizer = Literal["word", "whitespace", "prefix"]


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


class VectorSpec(TypedDict, total=False):
    """A vector field as it is created."""

    dimension: int
    metric: Metric
    #: How the index keeps vectors in memory.
    datatype: Datatype
    #: Links per node of the graph (HNSW M).
    m: int
    ef_construction: int
    ef_search: int
    #: Keep the vectors as they were written too, in a file beside the index, and score results by them.
    originals: bool
    #: Begin with f32, and pick the datatype by the data once there are 10,000 vectors, for this recall@10. Not beside `datatype`, `originals` or `multivector`.
    auto_recall: float | None
    #: Points have a matrix in the field instead of one vector, compared by late interaction.
    multivector: Literal["max_sim"] | None


class StrictMode(TypedDict, total=False):
    """What requests to a collection may ask for, below the limits of the server."""

    max_limit: int
    max_ef: int
    max_filter_conditions: int
    max_filter_depth: int
    max_prefetch_depth: int
    max_batch_queries: int
    max_batch_points: int
    max_points: int
    max_bytes: int
    max_payload_bytes: int
    max_reads_per_second: int
    max_writes_per_second: int
    refuse_exact: bool
    refuse_unindexed: bool


class TextIndexOptions(TypedDict, total=False):
    """How an index of texts splits them."""

    tokenizer: TextTokenizer
    min_token_length: int
    max_token_length: int
    lowercase: bool
    phrase: bool


class AnalyzerOptions(TypedDict, total=False):
    """How a text becomes tokens; what is left out is the default."""

    tokenizer: Literal["word", "whitespace", "keyword", "ngram", "edge_ngram"]
    #: Of stop words and stemmer, such as "english"; left out: neither.
    language: str
    lowercase: bool
    fold_accents: bool
    remove_stopwords: bool
    stem: bool
    stopwords: list[str]
    min_gram: int
    max_gram: int
    cjk_bigrams: bool


class Bm25Field(TypedDict, total=False):
    #: A text in the payload.
    path: str
    #: How much a token there counts, against one of another field. Default: 1.
    weight: float
    #: How much the length of the text counts, 0 to 1. Default: 0.75.
    b: float


class Bm25Options(TypedDict, total=False):
    """Of an index by BM25, of several fields by BM25F."""

    #: 1 to 8. Default: the path of the index.
    fields: list[Bm25Field]
    #: How soon further occurrences of a term count no more. Default: 1.2.
    k1: float
    analyzer: AnalyzerOptions


@dataclass(frozen=True)
class VectorInfo:
    #: "" for the unnamed vector.
    name: str
    dimension: int
    metric: Metric
    datatype: Datatype
    m: int
    ef_construction: int
    ef_search: int
    originals: bool = False
    #: How matrices are compared; None where points have one vector.
    multivector: Literal["max_sim"] | None = None
    #: The recall for which the datatype is still to be picked by the data; `choices` says what was picked.
    auto_recall: float | None = None


class SparseSpec(TypedDict, total=False):
    """A sparse field as it is created."""

    #: Values of queries are weighed by how rare their index is in the collection.
    modifier: Literal["idf"]


@dataclass(frozen=True)
class SparseInfo:
    name: str
    modifier: str | None = None


@dataclass(frozen=True)
class PayloadIndexSpec:
    path: str
    kind: PayloadIndexKind
    is_tenant: bool = False
    is_principal: bool = False
    text: TextIndexOptions | None = None
    bm25: Bm25Options | None = None


@dataclass(frozen=True)
class PayloadIndexInfo(PayloadIndexSpec):
    """A payload index with what the replicas say of it, summed over the shards."""

    #: Whether every replica answers by it; else it is being built.
    ready: bool = False
    point_count: int = 0
    value_point_count: int = 0
    #: Of one replica of each shard.
    memory_bytes: int = 0


@dataclass(frozen=True)
class GenerationRecall:
    """recall@10 against an exact search, measured with the same queries."""

    recall: float
    #: Of the generation that answered then.
    baseline: float
    #: What it must be to answer.
    wanted: float
    samples: int


@dataclass(frozen=True)
class GenerationShadow:
    """Queries of users that were run again in both generations of a field, and exactly, in the background: means over them."""

    samples: int
    #: Results that were compared of each, 100 at most.
    k: float
    #: Share of the results of both generations that are the same points.
    overlap: float
    #: recall@k against an exact search: of the generation, and of the one that answers.
    recall: float
    baseline: float
    #: Half of the interval of 95 % confidence of the difference of both recalls.
    margin: float
    #: Microseconds of one search of a shard, without waiting: of the generation, and of the one that answers.
    search_us: float
    baseline_us: float


@dataclass(frozen=True)
class GenerationInfo:
    """One build of the index of a vector field."""

    #: "" for the unnamed vector.
    field: str
    #: 0 for the one that the field was made with.
    number: int
    #: "ready": whole on every replica; "refused": whole, but its recall was too low; "kept": it has answered, and can again.
    state: Literal["answering", "building", "ready", "refused", "kept"]
    datatype: Datatype
    m: int
    ef_construction: int
    #: Vectors in it, and those of them that are not in its graph yet; of one replica of each shard, the one that is behind most.
    row_count: int
    unindexed_count: int
    memory_bytes: int
    #: Whether results are scored by the vectors as they were written, which are kept in a file.
    originals: bool = False
    recall: GenerationRecall | None = None
    #: Of the one beside the one that answers, once both are whole and some queries were run again in both.
    shadow: GenerationShadow | None = None


@dataclass(frozen=True)
class TextGenerationInfo:
    """One build of an index by BM25."""

    #: Path of the index.
    index: str
    #: 0 for the one that the index was made with.
    number: int
    state: Literal["answering", "building", "ready", "kept"]
    bm25: Bm25Options
    #: Points in it; of one replica of each shard, the one that is behind most.
    row_count: int
    memory_bytes: int


@dataclass(frozen=True)
class AlteredVectorField:
    collection: CollectionInfo
    #: Number of the generation that is being built, or that is like that already.
    generation: int


@dataclass(frozen=True)
class BuildTrial:
    """A datatype as it was tried; of several shards the worst."""

    datatype: Datatype
    #: The beam width that reaches the recall, and what it gives; the widest one where none does.
    ef: int
    recall: float
    reaches: bool
    #: Microseconds of one search with that beam width, on the sample.
    search_us: float
    #: Codes and graph of one vector.
    vector_bytes: float


@dataclass(frozen=True)
class VectorChoice:
    """Which datatype was picked for a vector field by its own data, and why."""

    #: "" for the unnamed vector.
    field: str
    #: The recall@10 that was asked for.
    recall: float
    datatype: Datatype
    reason: str
    #: Vectors that were tried, over all shards.
    row_count: int
    trials: list[BuildTrial]
    chosen_at: datetime | None


@dataclass(frozen=True)
class CollectionInfo:
    id: str
    name: str
    vectors: list[VectorInfo]
    shards: int
    replicas: int
    epoch: int
    created_at: datetime | None
    labels: dict[str, str]
    state: Literal["creating", "ready", "deleting"]
    #: The limits that are set.
    strict_mode: StrictMode
    payload_indexes: list[PayloadIndexSpec]
    schema_version: int
    #: Second names, in order.
    aliases: list[str]
    #: Path of the partition key, where there is one.
    partition_key: str | None = None
    #: Sparse fields.
    sparse: list[SparseInfo] = field(default_factory=list)
    #: The recall that queries ask for which name neither one nor a beam width.
    recall_target: float | None = None
    #: Datatypes that were picked by the data, of the fields for which that was asked.
    choices: list[VectorChoice] = field(default_factory=list)


@dataclass(frozen=True)
class RecallStats:
    """Queries of one kind that ask for a recall, as replicas have measured them."""

    #: Name of the vector field.
    vector: str
    #: Up to so many results.
    k: int
    #: Filters that let through up to this share of the points; 1: or none.
    share: float
    target: float
    #: The beam width that is taken for it.
    ef: int
    recall: float
    #: Half of the width of the interval of 95 % confidence.
    margin: float
    samples: int
    #: False where no beam width reaches the target.
    held: bool


@dataclass(frozen=True)
class ShardStats:
    shard: int
    applied_sequence: int
    point_count: int
    indexed_vector_count: int
    unindexed_vector_count: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class UnindexedField:
    path: str
    #: Kinds of index that would answer, the best first.
    kinds: list[PayloadIndexKind]
    count: int


@dataclass(frozen=True)
class UnusedIndex:
    path: str
    since: datetime


@dataclass(frozen=True)
class CollectionStats:
    point_count: int
    indexed_vector_count: int
    unindexed_vector_count: int
    memory_bytes: int
    disk_bytes: int
    shards: list[ShardStats]
    unindexed_fields: list[UnindexedField]
    unused_indexes: list[UnusedIndex]
    #: What is known of the recall of queries that ask for one, by kind.
    recalls: list[RecallStats] = field(default_factory=list)


@dataclass(frozen=True)
class AliasInfo:
    alias: str
    #: Name of the collection that it means.
    collection: str


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


@dataclass(frozen=True)
class BackupShardInfo:
    shard: int
    first_slot: int
    last_slot: int
    sequence: int
    point_count: int
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class BackupInfo:
    """A backup that is whole."""

    id: str
    collection: str
    collection_id: str
    started_at: datetime | None
    ended_at: datetime | None
    #: The backup whose data it uses as well; "" for none.
    base: str
    point_count: int
    #: All that it needs, and what was written for it.
    size_bytes: int
    written_bytes: int
    shards: list[BackupShardInfo]


@dataclass(frozen=True)
class CreatedBackup:
    id: str
    operation: str


@dataclass(frozen=True)
class VerifiedBackup:
    point_count: int
    file_count: int
    size_bytes: int


@dataclass(frozen=True)
class RestoredBackup:
    collection: str
    collection_id: str
    operation: str


@dataclass(frozen=True)
class DeletedBackup:
    deleted_bytes: int


class AccessLimits(TypedDict, total=False):
    """What one caller may have from each router; what is missing is not limited."""

    requests_per_second: int
    points_per_second: int
    bytes_per_second: int
    concurrent_queries: int
    stored_points: int
    stored_bytes: int


@dataclass(frozen=True)
class KeySecret:
    created_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True)
class KeyInfo:
    """An API key, without its secret."""

    id: str
    name: str
    role: str
    collections: list[str]
    created_at: datetime | None
    expires_at: datetime | None
    #: Secrets that are good, oldest first: several while a key is rotated.
    secrets: list[KeySecret]
    limits: AccessLimits


@dataclass(frozen=True)
class MadeKey:
    """A key that was just made; the secret is what calls send, and nobody can tell it again."""

    key: KeyInfo
    secret: str = field(repr=False)


class RoleRuleInput(TypedDict, total=False):
    verbs: Sequence[str]
    #: Names of collections, or beginnings of names with "*" behind.
    collections: Sequence[str]
    #: Only points that pass are there: all others are as if they did not exist.
    filter: FilterInput


@dataclass(frozen=True)
class RoleRule:
    verbs: list[str]
    collections: list[str]
    #: In the JSON form.
    filter: JsonObject | None


@dataclass(frozen=True)
class RoleInfo:
    name: str
    #: Each allows by itself.
    rules: list[RoleRule]
    is_built_in: bool
    limits: AccessLimits


@dataclass(frozen=True)
class OperationProgress:
    points: int
    #: 0 where it is not known.
    total_points: int
    bytes: int


@dataclass(frozen=True)
class MoveInfo:
    from_node: str
    to_node: str
    reason: str
    copied_bytes: int
    total_bytes: int
    lag: int | None


@dataclass(frozen=True)
class ReshardingInfo:
    from_shards: list[int]
    to_shards: list[int]
    reason: str
    copied_bytes: int
    total_bytes: int
    lag: int | None
    unindexed_vector_count: int


@dataclass(frozen=True)
class OperationInfo:
    """Something that the cluster does in steps, each of which outlives a crash of who does it."""

    id: str
    kind: str
    #: running, cancelling, done, failed or cancelled.
    state: str
    step: str
    collection: str
    collection_id: str
    shard: int | None
    created_at: datetime | None
    updated_at: datetime | None
    attempts: int
    error_code: str
    error: str
    progress: OperationProgress | None
    move: MoveInfo | None
    resharding: ReshardingInfo | None


@dataclass(frozen=True)
class NodeInfo:
    id: str
    address: str
    zone: str
    roles: list[str]
    state: str
    memory_bytes: int
    disk_free_bytes: int
    uptime_ms: int
    version: str
    replica_count: int


@dataclass(frozen=True)
class ReplicaInfo:
    node: str
    placement: str
    placed_at: datetime | None
    state: str
    applied_sequence: int
    #: Records behind the log; None where the log cannot be reached.
    lag: int | None
    point_count: int
    memory_bytes: int
    disk_bytes: int
    digest: str
    fault: str
    copied_bytes: int
    copy_bytes: int
    reads_per_second: float
    master_key: str
    encrypting: bool


@dataclass(frozen=True)
class ShardInfo:
    collection: str
    shard: int
    state: str
    epoch: int
    slots: SlotRange
    log_sequence: int | None
    log_first_sequence: int | None
    log_bytes: int | None
    replicas: list[ReplicaInfo]


@dataclass(frozen=True)
class ClusterInfo:
    cluster: str
    version: str
    log_kind: str
    log_available: bool
    coordinator: str
    nodes: list[NodeInfo]
    shards: list[ShardInfo]


@dataclass(frozen=True)
class SlowQueryInfo:
    ended_at: datetime | None
    node: str
    kind: str
    collection: str
    took_us: int
    shape: str
    error_code: str


@dataclass(frozen=True)
class SlowQueries:
    #: Newest first.
    queries: list[SlowQueryInfo]
    skipped: int
    threshold_ms: int


@dataclass(frozen=True)
class PlannedMove:
    collection: str
    shard: int
    from_node: str
    to_node: str
    size_bytes: int


@dataclass(frozen=True)
class NodeLoad:
    node: str
    size_bytes: int
    planned_bytes: int
    reads_per_second: float


@dataclass(frozen=True)
class RebalancePlan:
    moves: list[PlannedMove]
    size_bytes: int
    expected_ms: int
    nodes: list[NodeLoad]
    operations: list[str]


@dataclass(frozen=True)
class FollowedLogInfo:
    """How far the log of one shard is; docs/standby.md tells the states."""

    collection: str
    shard: int
    state: str
    sequence: int
    primary_sequence: int
    lag: int
    lag_ms: int | None
    reason: str


@dataclass(frozen=True)
class StandbyInfo:
    """A cluster that follows, or has followed, another one."""

    primary: str
    phase: str
    """following (it takes no changes of its own), promoting, promoted (it is a cluster of its own for good)."""
    since: datetime | None
    reachable: bool
    reason: str
    orphans: list[str]
    told_at: datetime | None
    lag: int
    lag_ms: int | None
    """All that the primary had so long ago is here; None where that is not known of each log."""
    logs: list[FollowedLogInfo]


@dataclass(frozen=True)
class ClusterSettings:
    """What holds for the whole cluster; docs/cluster.md tells each."""

    repair_after_ms: int = 0
    moves_at_once: int = 0
    copy_bytes_per_second: int = 0
    auto_rebalance: int = 0
    rebalance_paused: int = 0
    rebalance_threshold_percent: int = 0
    rebalance_min_bytes: int = 0
    log_retention_ms: int = 0
    log_retention_bytes: int = 0
    log_retention_records: int = 0
    log_hold_ms: int = 0
    replica_flush_ms: int = 0
    split_shard_bytes: int = 0
    merge_shard_bytes: int = 0
