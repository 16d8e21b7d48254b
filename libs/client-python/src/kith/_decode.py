"""Answers between the wire and Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from kith._checks import finite, invalid, one_of, only_keys, shown, whole_number, wrong_value
from kith._filters import filter_to_json
from kith._ids import id_from_wire
from kith._rpc import error_of_failure
from kith._session import token_from_wire
from kith._sparse import SparseVector, modifier_of, sparse_from_wire
from kith._texts import bm25_from_wire, bm25_to_wire
from kith._times import time_of, time_of_ms
from kith._vectors import FloatArray, vector_from_wire
from kith.errors import error_of
from kith.types import (
    AccessLimits,
    BackupInfo,
    BackupShardInfo,
    Bm25Options,
    BuildTrial,
    ChangeEvent,
    ClusterInfo,
    ClusterSettings,
    CollectionInfo,
    CollectionStats,
    DistanceMatrix,
    ExplainStep,
    FacetHit,
    FacetResult,
    FollowedLogInfo,
    GenerationInfo,
    GenerationRecall,
    GenerationShadow,
    GroupsResult,
    ItemError,
    KeyInfo,
    KeySecret,
    MadeKey,
    MatrixPair,
    MoveInfo,
    NodeInfo,
    NodeLoad,
    OperationInfo,
    OperationProgress,
    PayloadIndexInfo,
    PayloadIndexSpec,
    PlannedMove,
    Point,
    PointGroup,
    QueryResult,
    RebalancePlan,
    RecallStats,
    ReplicaInfo,
    ReshardingInfo,
    RoleInfo,
    RoleRule,
    ScoredPoint,
    ShardInfo,
    ShardStats,
    SlotRange,
    SlowQueries,
    SlowQueryInfo,
    SparseInfo,
    StandbyInfo,
    StrictMode,
    TextGenerationInfo,
    TextIndexOptions,
    TraceSpan,
    UnindexedField,
    UnusedIndex,
    UpsertResult,
    VectorChoice,
    VectorInfo,
    VectorSpec,
    WriteBatchItem,
    WriteBatchResult,
    WriteEffect,
    WriteResult,
)
from kith.v1 import (
    backup_pb2,
    cluster_pb2,
    collections_pb2,
    common_pb2,
    keys_pb2,
    points_pb2,
    watch_pb2,
)

ParsePayload = Callable[[bytes], Any]

_METRICS: Final = {
    "cosine": collections_pb2.METRIC_COSINE,
    "dot": collections_pb2.METRIC_DOT,
    "l2": collections_pb2.METRIC_L2,
}
_MULTIVECTORS: Final = {"max_sim": collections_pb2.MULTIVECTOR_MAX_SIM}
_DATATYPES: Final = {
    "f32": collections_pb2.DATATYPE_F32,
    "f16": collections_pb2.DATATYPE_F16,
    "bf16": collections_pb2.DATATYPE_BF16,
    "i8": collections_pb2.DATATYPE_I8,
    "i4": collections_pb2.DATATYPE_I4,
    "binary": collections_pb2.DATATYPE_BINARY,
    "pq16": collections_pb2.DATATYPE_PQ16,
    "pq32": collections_pb2.DATATYPE_PQ32,
    "pq64": collections_pb2.DATATYPE_PQ64,
}
_STATES: Final = {
    collections_pb2.COLLECTION_STATE_CREATING: "creating",
    collections_pb2.COLLECTION_STATE_READY: "ready",
    collections_pb2.COLLECTION_STATE_DELETING: "deleting",
}
_GENERATION_STATES: Final = {
    "answering": collections_pb2.GENERATION_STATE_ANSWERING,
    "building": collections_pb2.GENERATION_STATE_BUILDING,
    "ready": collections_pb2.GENERATION_STATE_READY,
    "refused": collections_pb2.GENERATION_STATE_REFUSED,
    "kept": collections_pb2.GENERATION_STATE_KEPT,
}
_INDEX_KINDS: Final = {
    "keyword": collections_pb2.PAYLOAD_INDEX_KIND_KEYWORD,
    "integer": collections_pb2.PAYLOAD_INDEX_KIND_INTEGER,
    "float": collections_pb2.PAYLOAD_INDEX_KIND_FLOAT,
    "bool": collections_pb2.PAYLOAD_INDEX_KIND_BOOL,
    "datetime": collections_pb2.PAYLOAD_INDEX_KIND_DATETIME,
    "uuid": collections_pb2.PAYLOAD_INDEX_KIND_UUID,
    "geo": collections_pb2.PAYLOAD_INDEX_KIND_GEO,
    "text": collections_pb2.PAYLOAD_INDEX_KIND_TEXT,
    "bm25": collections_pb2.PAYLOAD_INDEX_KIND_BM25,
}
_TOKENIZERS: Final = {
    "word": collections_pb2.TEXT_TOKENIZER_WORD,
    "whitespace": collections_pb2.TEXT_TOKENIZER_WHITESPACE,
    "prefix": collections_pb2.TEXT_TOKENIZER_PREFIX,
}
_CHANGES: Final = {
    watch_pb2.CHANGE_KIND_INSERT: "insert",
    watch_pb2.CHANGE_KIND_UPDATE: "update",
    watch_pb2.CHANGE_KIND_DELETE: "delete",
    watch_pb2.CHANGE_KIND_TRUNCATE: "truncate",
}
_SPEC_KEYS: Final = (
    "dimension",
    "metric",
    "datatype",
    "m",
    "ef_construction",
    "ef_search",
    "originals",
    "auto_recall",
    "multivector",
)
_TEXT_KEYS: Final = ("tokenizer", "min_token_length", "max_token_length", "lowercase", "phrase")
_LIMIT_KEYS: Final = (
    "requests_per_second",
    "points_per_second",
    "bytes_per_second",
    "concurrent_queries",
    "stored_points",
    "stored_bytes",
)
_STRICT_REFUSALS: Final = ("refuse_exact", "refuse_unindexed")
_STRICT_LIMITS: Final = tuple(
    each.name for each in collections_pb2.StrictMode.DESCRIPTOR.fields if each.name not in _STRICT_REFUSALS
)


def _optional(message: Message, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _time(message: Message, name: str) -> Any:
    return time_of(getattr(message, name)) if message.HasField(name) else None


def _plain(kind: Callable[..., Any], message: Message, names: Sequence[str], /, **others: Any) -> Any:
    """A result whose fields have the names of the message's."""
    return kind(**{name: getattr(message, name) for name in names}, **others)


# Collections


def specs_of(vectors: object, sparse: object = None) -> list[tuple[str, Mapping[str, Any]]]:
    """By name of the field; one spec is that of the unnamed vector. None where there are sparse fields alone."""
    if vectors is None and sparse:
        return []
    if not isinstance(vectors, Mapping) or not vectors:
        raise error_of(
            "INVALID_SCHEMA",
            'a collection needs "vectors": {"dimension", "metric"} of one unnamed vector, or several of them by name',
        )
    if "dimension" in vectors and not isinstance(vectors["dimension"], Mapping):
        return [("", vectors)]
    return list(vectors.items())


def vector_field_to_wire(name: str, spec: VectorSpec | Mapping[str, Any]) -> collections_pb2.VectorField:
    fields = only_keys(spec, _SPEC_KEYS, f"vectors.{name}" if name else "vectors")
    wire = collections_pb2.VectorField(
        name=name,
        dimension=whole_number(fields.get("dimension"), "dimension"),
        metric=one_of(_METRICS, fields.get("metric", "cosine"), "metric", "INVALID_SCHEMA"),
        datatype=one_of(_DATATYPES, fields.get("datatype", "f32"), "datatype", "INVALID_SCHEMA"),
        m=whole_number(fields.get("m", 0), "m"),
        ef_construction=whole_number(fields.get("ef_construction", 0), "ef_construction"),
        ef_search=whole_number(fields.get("ef_search", 0), "ef_search"),
        originals=fields.get("originals", False),
    )
    if fields.get("auto_recall") is not None:
        wire.auto_recall = finite(fields["auto_recall"], "auto_recall")
    if fields.get("multivector") is not None:
        wire.multivector = one_of(_MULTIVECTORS, fields["multivector"], "multivector", "INVALID_SCHEMA")
    return wire


def strict_to_wire(strict: StrictMode | Mapping[str, Any]) -> collections_pb2.StrictMode:
    """INVALID_ARGUMENT for an unknown key: a limit that is misspelt would not hold."""
    fields = only_keys(strict, (*_STRICT_LIMITS, *_STRICT_REFUSALS), "strict_mode")
    wire = collections_pb2.StrictMode()
    for name, value in fields.items():
        if name in _STRICT_REFUSALS:
            if not isinstance(value, bool):
                raise wrong_value(f"strict_mode.{name}", value, "give True or False")
            setattr(wire, name, value)
        else:
            setattr(
                wire,
                name,
                whole_number(
                    value, f"strict_mode.{name}", high=2**53 if name in ("max_points", "max_bytes") else 0xFFFF_FFFF
                ),
            )
    return wire


def labels_to_wire(labels: Mapping[str, str] | None) -> dict[str, str]:
    for key, value in (labels or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise error_of("INVALID_SCHEMA", f"the label {shown(key)} is {shown(value)}; both must be text")
    return dict(labels or {})


def _name_in(table: Mapping[str, int], value: int, otherwise: str) -> Any:
    return next((name for name, number in table.items() if number == value), otherwise)


def collection_from_wire(wire: collections_pb2.Collection) -> CollectionInfo:
    strict = {each.name: value for each, value in wire.strict_mode.ListFields() if value}
    return CollectionInfo(
        id=wire.id,
        name=wire.name,
        vectors=[
            _plain(
                VectorInfo,
                each,
                ("name", "dimension", "m", "ef_construction", "ef_search", "originals"),
                metric=_name_in(_METRICS, each.metric, "cosine"),
                datatype=_name_in(_DATATYPES, each.datatype, "f32"),
                multivector="max_sim" if each.multivector else None,
                auto_recall=each.auto_recall if each.HasField("auto_recall") else None,
            )
            for each in wire.vectors
        ],
        shards=wire.shard_count,
        replicas=wire.replication_factor,
        epoch=wire.epoch,
        created_at=_time(wire, "created_at"),
        labels=dict(wire.labels),
        state=_STATES.get(wire.state, "creating"),  # type: ignore[arg-type]
        strict_mode=strict,  # type: ignore[arg-type]
        payload_indexes=[
            PayloadIndexSpec(**spec) for each in wire.payload_indexes if (spec := _index_spec(each)) is not None
        ],
        schema_version=wire.schema_version,
        aliases=list(wire.aliases),
        partition_key=wire.partition_key or None,
        sparse=[SparseInfo(each.name, modifier_of(each)) for each in wire.sparse_vectors],
        recall_target=wire.recall_target if wire.HasField("recall_target") else None,
        choices=[_choice_from_wire(each) for each in wire.choices],
    )


def _choice_from_wire(wire: collections_pb2.VectorChoice) -> VectorChoice:
    names = ("ef", "recall", "reaches", "search_us", "vector_bytes")
    result: VectorChoice = _plain(
        VectorChoice,
        wire,
        ("field", "recall", "reason", "row_count"),
        datatype=_name_in(_DATATYPES, wire.datatype, "f32"),
        trials=[
            _plain(BuildTrial, each, names, datatype=_name_in(_DATATYPES, each.datatype, "f32")) for each in wire.trials
        ],
        chosen_at=_time(wire, "chosen_at"),
    )
    return result


def check_same_schema(
    info: CollectionInfo,
    vectors: object,
    shards: int | None,
    replicas: int | None,
    partition_key: str | None,
    sparse: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """COLLECTION_EXISTS, with the differences, where the collection is not as the caller says; what is left open may be anything."""
    wanted = dict(specs_of(vectors, sparse))
    wanted_sparse = dict(sparse or {})
    differences: list[str] = []

    def compare(what: str, has: object, wants: object) -> None:
        if wants is not None and wants != has:
            differences.append(f"{what} is {has}, not {wants}")

    for field in info.vectors:
        spec = wanted.pop(field.name, None)
        of = f' of "{field.name}"' if field.name else ""
        if spec is None:
            differences.append(f'it has a vector "{field.name}" too' if field.name else "it has an unnamed vector")
            continue
        compare(f"the dimension{of}", field.dimension, spec.get("dimension"))
        compare(f"the metric{of}", field.metric, spec.get("metric", "cosine"))
        compare(f"the datatype{of}", field.datatype, spec.get("datatype", "f32"))
        compare(f"multivector{of}", field.multivector or "none", spec.get("multivector") or "none")
        compare(f"m{of}", field.m, spec.get("m"))
        compare(f"ef_construction{of}", field.ef_construction, spec.get("ef_construction"))
    differences.extend(f'it has no vector "{name}"' if name else "it has no unnamed vector" for name in wanted)
    for each in info.sparse:
        spec = wanted_sparse.pop(each.name, None)
        if spec is None:
            differences.append(f'it has a sparse vector "{each.name}" too')
        else:
            compare(f'the modifier of "{each.name}"', each.modifier or "none", spec.get("modifier", "none"))
    differences.extend(f'it has no sparse vector "{name}"' for name in wanted_sparse)
    compare("the number of shards", info.shards, shards)
    compare("the number of replicas", info.replicas, replicas)
    compare("the partition key", info.partition_key or "none", partition_key)
    if differences:
        text = "; ".join(differences)
        raise error_of(
            "COLLECTION_EXISTS",
            f'the collection "{info.name}" exists with another schema: {text}; choose another name, or what it has',
            {"collection": info.name, "differences": text},
        )


_RECALL_STATS: Final = ("vector", "k", "share", "target", "ef", "recall", "margin", "samples", "held")


def stats_from_wire(wire: collections_pb2.CollectionStatsResponse) -> CollectionStats:
    sizes = ("point_count", "indexed_vector_count", "unindexed_vector_count", "memory_bytes", "disk_bytes")
    result: CollectionStats = _plain(
        CollectionStats,
        wire,
        sizes,
        shards=[_plain(ShardStats, each, ("shard", "applied_sequence", *sizes)) for each in wire.shards],
        unindexed_fields=[
            UnindexedField(each.path, [_name_in(_INDEX_KINDS, kind, "keyword") for kind in each.kinds], each.count)
            for each in wire.unindexed_fields
        ],
        unused_indexes=[UnusedIndex(each.path, time_of(each.since)) for each in wire.unused_indexes],
        recalls=[_plain(RecallStats, each, _RECALL_STATS) for each in wire.recalls],
    )
    return result


def payload_index_to_wire(
    path: str,
    kind: object,
    is_tenant: bool,
    is_principal: bool,
    text: TextIndexOptions | None,
    bm25: Bm25Options | None,
) -> collections_pb2.PayloadIndex:
    """INVALID_SCHEMA for a kind or a tokenizer that there is not; the server checks the rest."""
    wire = collections_pb2.PayloadIndex(
        path=path,
        kind=one_of(_INDEX_KINDS, kind, "kind", "INVALID_SCHEMA"),
        is_tenant=is_tenant,
        is_principal=is_principal,
    )
    if text is not None:
        fields = only_keys(text, _TEXT_KEYS, "text")
        wire.text.tokenizer = one_of(_TOKENIZERS, fields.get("tokenizer", "word"), "tokenizer", "INVALID_SCHEMA")
        wire.text.min_token_length = whole_number(fields.get("min_token_length", 0), "min_token_length")
        wire.text.max_token_length = whole_number(fields.get("max_token_length", 0), "max_token_length")
        wire.text.lowercase = fields.get("lowercase", True)
        wire.text.phrase = fields.get("phrase", True)
    if bm25 is not None:
        wire.bm25.CopyFrom(bm25_to_wire(bm25, "bm25"))
    return wire


def _index_spec(wire: collections_pb2.PayloadIndex) -> dict[str, Any] | None:
    """None for a kind of a newer server."""
    kind = _name_in(_INDEX_KINDS, wire.kind, "")
    if kind == "":
        return None
    spec: dict[str, Any] = {
        "path": wire.path,
        "kind": kind,
        "is_tenant": wire.is_tenant,
        "is_principal": wire.is_principal,
    }
    if kind == "text":
        text = wire.text
        options: TextIndexOptions = {
            "tokenizer": _name_in(_TOKENIZERS, text.tokenizer, "word"),
            "lowercase": text.lowercase if text.HasField("lowercase") else True,
            "phrase": text.phrase if text.HasField("phrase") else True,
        }
        if text.min_token_length:
            options["min_token_length"] = text.min_token_length
        if text.max_token_length:
            options["max_token_length"] = text.max_token_length
        spec["text"] = options
    if kind == "bm25":
        spec["bm25"] = bm25_from_wire(wire.bm25)
    return spec


def index_infos_from_wire(wires: Sequence[collections_pb2.PayloadIndexInfo]) -> list[PayloadIndexInfo]:
    counts = ("ready", "point_count", "value_point_count", "memory_bytes")
    return [
        _plain(PayloadIndexInfo, each, counts, **spec)
        for each in wires
        if (spec := _index_spec(each.index)) is not None
    ]


def alter_vector_field_to_wire(
    collection: str,
    field: str,
    datatype: str | None,
    m: int,
    ef_construction: int,
    originals: bool | None,
    min_recall: float | None,
    auto_recall: float | None,
    manual: bool,
    wait: bool,
) -> collections_pb2.AlterVectorFieldRequest:
    request = collections_pb2.AlterVectorFieldRequest(
        collection=collection,
        field=field,
        m=whole_number(m, "m"),
        ef_construction=whole_number(ef_construction, "ef_construction"),
        manual=manual,
        wait=wait,
    )
    if datatype is not None:
        request.datatype = one_of(_DATATYPES, datatype, "datatype", "INVALID_SCHEMA")
    if originals is not None:
        request.originals = originals
    if min_recall is not None:
        request.min_recall = min_recall
    if auto_recall is not None:
        request.auto_recall = auto_recall
    return request


_SHADOW_NAMES: Final = ("samples", "k", "overlap", "recall", "baseline", "margin", "search_us", "baseline_us")


def generations_from_wire(wires: Sequence[collections_pb2.Generation]) -> list[GenerationInfo]:
    names = ("field", "number", "m", "ef_construction", "row_count", "unindexed_count", "memory_bytes", "originals")
    return [
        _plain(
            GenerationInfo,
            each,
            names,
            state=_name_in(_GENERATION_STATES, each.state, "building"),
            datatype=_name_in(_DATATYPES, each.datatype, "f32"),
            recall=_plain(GenerationRecall, each.recall, ("recall", "baseline", "wanted", "samples"))
            if each.HasField("recall")
            else None,
            shadow=_plain(GenerationShadow, each.shadow, _SHADOW_NAMES) if each.HasField("shadow") else None,
        )
        for each in wires
    ]


def text_generations_from_wire(wires: Sequence[collections_pb2.TextGeneration]) -> list[TextGenerationInfo]:
    return [
        _plain(
            TextGenerationInfo,
            each,
            ("index", "number", "row_count", "memory_bytes"),
            state=_name_in(_GENERATION_STATES, each.state, "building"),
            bm25=bm25_from_wire(each.bm25),
        )
        for each in wires
    ]


_ALIAS_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "create": ("alias", "collection"),
    "switch": ("alias", "collection"),
    "rename": ("alias", "new_alias"),
    "delete": ("alias",),
}


def alias_action_to_wire(action: object, at: str) -> collections_pb2.AliasAction:
    """{"create": {"alias", "collection"}}, {"switch": ...}, {"rename": {"alias", "new_alias"}} or {"delete": {"alias"}}."""
    fields = only_keys(action, tuple(_ALIAS_ACTIONS), at)
    if len(fields) != 1:
        raise invalid(at, f"has {', '.join(fields) or 'nothing'}; it must be one of {', '.join(_ALIAS_ACTIONS)}")
    ((kind, value),) = fields.items()
    parts = only_keys(value, _ALIAS_ACTIONS[kind], f"{at}.{kind}")
    wire = collections_pb2.AliasAction()
    message = getattr(wire, kind)
    message.SetInParent()
    for name in _ALIAS_ACTIONS[kind]:
        if not isinstance(parts.get(name), str):
            raise invalid(f"{at}.{kind}.{name}", "must be text")
        setattr(message, name, parts[name])
    return wire


# Points


def payload_of(data: bytes, parse: ParsePayload) -> Any:
    if not data:
        return None
    try:
        return parse(data)
    except ValueError as error:
        raise error_of("CORRUPT_DATA", f"a payload that the server sent could not be parsed: {data[:80]!r}") from error


def _vectors(wires: Mapping[str, common_pb2.Vector]) -> tuple[FloatArray | None, dict[str, FloatArray] | None]:
    named = {name: vector_from_wire(each) for name, each in wires.items() if not each.indices}
    unnamed = named.pop("", None)
    return unnamed, named or None


def _sparse(wires: Mapping[str, common_pb2.Vector]) -> dict[str, SparseVector] | None:
    return {name: sparse_from_wire(each) for name, each in wires.items() if each.indices} or None


def point_from_wire(wire: points_pb2.Point, parse: ParsePayload) -> Point:
    vector, vectors = _vectors(wire.vectors)
    expires_at = time_of_ms(wire.expires_at_ms) if wire.expires_at_ms else None
    payload = payload_of(wire.payload, parse)
    sparse = _sparse(wire.vectors)
    return Point(id_from_wire(wire.id), wire.version, payload, vector, vectors, sparse=sparse, expires_at=expires_at)


def scored_from_wire(wire: points_pb2.ScoredPoint, parse: ParsePayload) -> ScoredPoint:
    vector, vectors = _vectors(wire.vectors)
    return ScoredPoint(
        id_from_wire(wire.id),
        wire.version,
        payload_of(wire.payload, parse),
        vector,
        vectors,
        sparse=_sparse(wire.vectors),
        score=wire.score,
        order=_optional(wire, "order"),
    )


def explain_from_wire(wire: points_pb2.Explain) -> ExplainStep:
    facts = {each.name: getattr(each, each.WhichOneof("value") or "text") for each in wire.facts}
    return ExplainStep(
        wire.name, wire.start_us, wire.duration_us, facts, [explain_from_wire(each) for each in wire.steps]
    )


def _explain(wire: Any) -> ExplainStep | None:
    return explain_from_wire(wire.explain) if wire.HasField("explain") else None


def _trace(wires: Sequence[common_pb2.TraceSpan]) -> list[TraceSpan]:
    names = ("span_id", "parent_span_id", "name", "start_us", "duration_us", "node")
    return [_plain(TraceSpan, each, names, attributes=dict(each.attributes)) for each in wires]


def _slots(wires: Sequence[points_pb2.SlotRange]) -> list[SlotRange]:
    return [SlotRange(each.first, each.last) for each in wires]


def query_from_wire(wire: points_pb2.QueryResponse, parse: ParsePayload, trace_id: str | None = None) -> QueryResult:
    points = [scored_from_wire(each, parse) for each in wire.points]
    return QueryResult(points, _slots(wire.missing), _trace(wire.trace), wire.took_us, _explain(wire), trace_id)


def groups_from_wire(wire: points_pb2.QueryGroupsResponse, parse: ParsePayload) -> GroupsResult:
    groups = [
        PointGroup(
            getattr(each, each.WhichOneof("value") or "text"),
            [scored_from_wire(point, parse) for point in each.points],
            point_from_wire(each.lookup, parse) if each.HasField("lookup") else None,
        )
        for each in wire.groups
    ]
    return GroupsResult(groups, _slots(wire.missing), _trace(wire.trace), wire.took_us, _explain(wire))


def facet_from_wire(wire: points_pb2.FacetResponse) -> FacetResult:
    hits = [FacetHit(getattr(each, each.WhichOneof("value") or "text"), each.count) for each in wire.hits]
    return FacetResult(hits, _explain(wire))


def matrix_from_wire(wire: points_pb2.SearchMatrixResponse) -> DistanceMatrix:
    ids = [id_from_wire(each) for each in wire.ids]
    rows, columns, scores = list(wire.rows), list(wire.columns), list(wire.scores)
    if any(place >= len(ids) for place in (*rows, *columns)):
        raise error_of("INTERNAL", "the server named a point that it did not draw")
    pairs = [MatrixPair(ids[row], ids[column], score) for row, column, score in zip(rows, columns, scores, strict=True)]
    return DistanceMatrix(ids, rows, columns, scores, pairs)


def item_errors(wires: Sequence[points_pb2.ItemError]) -> list[ItemError]:
    return [ItemError(each.index, each.code, each.message) for each in wires]


def upsert_from_wire(wire: points_pb2.UpsertResponse) -> UpsertResult:
    return UpsertResult(wire.upserted, item_errors(wire.errors), token_from_wire(wire.token))


def write_from_wire(wire: points_pb2.WriteResponse) -> WriteResult:
    return WriteResult(wire.affected, item_errors(wire.errors), token_from_wire(wire.token))


def write_batch_from_wire(wire: points_pb2.WriteBatchResponse) -> WriteBatchResult:
    items = [
        WriteBatchItem(error=error_of_failure(each.failure))
        if each.WhichOneof("outcome") == "failure"
        else WriteBatchItem(WriteEffect(each.response.affected, item_errors(each.response.errors)))
        for each in wire.results
    ]
    return WriteBatchResult(items, token_from_wire(wire.token))


def change_from_wire(wire: watch_pb2.Change, token: common_pb2.Token, parse: ParsePayload) -> ChangeEvent:
    kind = _CHANGES.get(wire.kind)
    if kind is None:
        raise error_of(
            "UNIMPLEMENTED", f"the server tells of changes of the kind {wire.kind}, which this client does not know"
        )
    return ChangeEvent(
        kind,  # type: ignore[arg-type]
        id_from_wire(wire.id) if wire.HasField("id") else None,
        wire.shard,
        wire.sequence,
        token_from_wire(token),
        point_from_wire(wire.before, parse) if wire.HasField("before") else None,
        point_from_wire(wire.after, parse) if wire.HasField("after") else None,
        _optional(wire, "score"),
    )


# Keys and roles


def limits_to_wire(limits: AccessLimits | None) -> keys_pb2.AccessLimits | None:
    if limits is None:
        return None
    fields = only_keys(limits, _LIMIT_KEYS, "limits")
    return keys_pb2.AccessLimits(
        **{name: whole_number(value, f"limits.{name}", high=2**53) for name, value in fields.items()}
    )


def _limits(wire: keys_pb2.AccessLimits) -> AccessLimits:
    return {name: value for name in _LIMIT_KEYS if (value := getattr(wire, name))}  # type: ignore[return-value]


def key_from_wire(wire: keys_pb2.Key) -> KeyInfo:
    secrets = [KeySecret(_time(each, "created_at"), _time(each, "expires_at")) for each in wire.secrets]
    return KeyInfo(
        wire.id,
        wire.name,
        wire.role,
        list(wire.collections),
        _time(wire, "created_at"),
        _time(wire, "expires_at"),
        secrets,
        _limits(wire.limits),
    )


def made_key(wire: keys_pb2.CreateKeyResponse | keys_pb2.RotateKeyResponse) -> MadeKey:
    return MadeKey(key_from_wire(wire.key), wire.secret)


def role_from_wire(wire: keys_pb2.Role) -> RoleInfo:
    rules = [
        RoleRule(
            list(each.verbs), list(each.collections), filter_to_json(each.filter) if each.HasField("filter") else None
        )
        for each in wire.rules
    ]
    return RoleInfo(wire.name, rules, wire.is_built_in, _limits(wire.limits))


# Backups and the cluster


def backup_from_wire(wire: backup_pb2.Backup) -> BackupInfo:
    shard_names = ("shard", "first_slot", "last_slot", "sequence", "point_count", "size_bytes", "digest")
    result: BackupInfo = _plain(
        BackupInfo,
        wire,
        ("id", "collection", "collection_id", "base", "point_count", "size_bytes", "written_bytes"),
        started_at=_time(wire, "started_at"),
        ended_at=_time(wire, "ended_at"),
        shards=[_plain(BackupShardInfo, each, shard_names) for each in wire.shards],
    )
    return result


def operation_from_wire(wire: cluster_pb2.Operation) -> OperationInfo:
    progress = OperationProgress(wire.progress.points, wire.progress.total_points, wire.progress.bytes)
    move, split = wire.move, wire.resharding
    result: OperationInfo = _plain(
        OperationInfo,
        wire,
        ("id", "kind", "state", "step", "collection", "collection_id", "attempts", "error_code", "error"),
        shard=_optional(wire, "shard"),
        created_at=_time(wire, "created_at"),
        updated_at=_time(wire, "updated_at"),
        progress=progress if wire.HasField("progress") else None,
        move=MoveInfo(
            getattr(move, "from"), move.to, move.reason, move.copied_bytes, move.total_bytes, _optional(move, "lag")
        )
        if wire.HasField("move")
        else None,
        resharding=ReshardingInfo(
            list(getattr(split, "from")),
            list(split.to),
            split.reason,
            split.copied_bytes,
            split.total_bytes,
            _optional(split, "lag"),
            split.unindexed_vector_count,
        )
        if wire.HasField("resharding")
        else None,
    )
    return result


def cluster_from_wire(wire: cluster_pb2.DescribeClusterResponse) -> ClusterInfo:
    node_names = (
        "id",
        "address",
        "zone",
        "state",
        "memory_bytes",
        "disk_free_bytes",
        "uptime_ms",
        "version",
        "replica_count",
    )
    replica_names = (
        "node",
        "placement",
        "state",
        "applied_sequence",
        "point_count",
        "memory_bytes",
        "disk_bytes",
        "digest",
        "fault",
        "copied_bytes",
        "copy_bytes",
        "reads_per_second",
        "master_key",
        "encrypting",
    )
    shards = [
        _plain(
            ShardInfo,
            each,
            ("collection", "shard", "state", "epoch"),
            slots=SlotRange(each.slots.first, each.slots.last),
            log_sequence=_optional(each, "log_sequence"),
            log_first_sequence=_optional(each, "log_first_sequence"),
            log_bytes=_optional(each, "log_bytes"),
            replicas=[
                _plain(
                    ReplicaInfo,
                    replica,
                    replica_names,
                    placed_at=_time(replica, "placed_at"),
                    lag=_optional(replica, "lag"),
                )
                for replica in each.replicas
            ],
        )
        for each in wire.shards
    ]
    result: ClusterInfo = _plain(
        ClusterInfo,
        wire,
        ("cluster", "version", "log_kind", "log_available", "coordinator"),
        nodes=[_plain(NodeInfo, each, node_names, roles=list(each.roles)) for each in wire.nodes],
        shards=shards,
    )
    return result


def slow_queries_from_wire(wire: cluster_pb2.SlowQueriesResponse) -> SlowQueries:
    names = ("node", "kind", "collection", "took_us", "shape", "error_code")
    queries = [_plain(SlowQueryInfo, each, names, ended_at=_time(each, "ended_at")) for each in wire.queries]
    return SlowQueries(queries, wire.skipped, wire.threshold_ms)


def rebalance_from_wire(wire: cluster_pb2.RebalanceResponse) -> RebalancePlan:
    moves = [
        PlannedMove(each.collection, each.shard, getattr(each, "from"), each.to, each.size_bytes) for each in wire.moves
    ]
    loads = [NodeLoad(each.node, each.size_bytes, each.planned_bytes, each.reads_per_second) for each in wire.nodes]
    return RebalancePlan(moves, wire.size_bytes, wire.expected_ms, loads, list(wire.operations))


def standby_from_wire(wire: cluster_pb2.Standby) -> StandbyInfo:
    log_names = ("collection", "shard", "state", "sequence", "primary_sequence", "lag", "reason")
    logs = [
        _plain(FollowedLogInfo, each, log_names, lag_ms=each.lag_ms if each.HasField("lag_ms") else None)
        for each in wire.logs
    ]
    result: StandbyInfo = _plain(
        StandbyInfo,
        wire,
        ("primary", "phase", "reachable", "reason", "lag"),
        since=_time(wire, "since"),
        orphans=list(wire.orphans),
        told_at=_time(wire, "told_at"),
        lag_ms=wire.lag_ms if wire.HasField("lag_ms") else None,
        logs=logs,
    )
    return result


_SETTINGS: Final = tuple(each.name for each in cluster_pb2.ClusterSettings.DESCRIPTOR.fields)


def settings_from_wire(wire: cluster_pb2.ClusterSettings) -> ClusterSettings:
    known = ClusterSettings.__dataclass_fields__
    return ClusterSettings(**{name: getattr(wire, name) for name in _SETTINGS if name in known})


def settings_to_wire(settings: Mapping[str, int]) -> cluster_pb2.ClusterSettings:
    fields = only_keys(settings, _SETTINGS, "settings")
    return cluster_pb2.ClusterSettings(
        **{name: whole_number(value, f"settings.{name}", high=2**53) for name, value in fields.items()}
    )


def limit_of(value: object, what: str) -> int:
    """0 is "the default" on the wire, and nobody asks for nothing on purpose."""
    return whole_number(value, what, low=1)
