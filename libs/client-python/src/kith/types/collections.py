"""Collections: their fields, indexes and generations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from typing_extensions import TypedDict

Metric = Literal["cosine", "dot", "l2"]
Datatype = Literal["f32", "f16", "bf16", "i8", "i4", "pq16", "pq32", "binary", "pq64"]
PayloadIndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "uuid", "geo", "text", "bm25"]
TextTokenizer = Literal["word", "whitespace", "prefix"]


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
