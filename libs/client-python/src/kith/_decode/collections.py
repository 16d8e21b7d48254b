"""Collections between the wire and Python: schema, indexes, generations, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kith._checks import finite, invalid, one_of, only_keys, shown, whole_number, wrong_value
from kith._decode.wire import name_in, plain, time_in
from kith._sparse import modifier_of
from kith._texts import bm25_from_wire, bm25_to_wire
from kith._times import time_of
from kith.errors import error_of
from kith.types import (
    Bm25Options,
    BuildTrial,
    CollectionInfo,
    CollectionStats,
    GenerationInfo,
    GenerationRecall,
    GenerationShadow,
    PayloadIndexInfo,
    PayloadIndexSpec,
    RecallStats,
    ShardStats,
    SparseInfo,
    StrictMode,
    TextGenerationInfo,
    TextIndexOptions,
    UnindexedField,
    UnusedIndex,
    VectorChoice,
    VectorInfo,
    VectorSpec,
)
from kith.v1 import collections_pb2

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
_STRICT_REFUSALS: Final = ("refuse_exact", "refuse_unindexed")
_STRICT_LIMITS: Final = tuple(
    each.name for each in collections_pb2.StrictMode.DESCRIPTOR.fields if each.name not in _STRICT_REFUSALS
)


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


def collection_from_wire(wire: collections_pb2.Collection) -> CollectionInfo:
    strict = {each.name: value for each, value in wire.strict_mode.ListFields() if value}
    return CollectionInfo(
        id=wire.id,
        name=wire.name,
        vectors=[
            plain(
                VectorInfo,
                each,
                ("name", "dimension", "m", "ef_construction", "ef_search", "originals"),
                metric=name_in(_METRICS, each.metric, "cosine"),
                datatype=name_in(_DATATYPES, each.datatype, "f32"),
                multivector="max_sim" if each.multivector else None,
                auto_recall=each.auto_recall if each.HasField("auto_recall") else None,
            )
            for each in wire.vectors
        ],
        shards=wire.shard_count,
        replicas=wire.replication_factor,
        epoch=wire.epoch,
        created_at=time_in(wire, "created_at"),
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
    result: VectorChoice = plain(
        VectorChoice,
        wire,
        ("field", "recall", "reason", "row_count"),
        datatype=name_in(_DATATYPES, wire.datatype, "f32"),
        trials=[
            plain(BuildTrial, each, names, datatype=name_in(_DATATYPES, each.datatype, "f32")) for each in wire.trials
        ],
        chosen_at=time_in(wire, "chosen_at"),
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
    result: CollectionStats = plain(
        CollectionStats,
        wire,
        sizes,
        shards=[plain(ShardStats, each, ("shard", "applied_sequence", *sizes)) for each in wire.shards],
        unindexed_fields=[
            UnindexedField(each.path, [name_in(_INDEX_KINDS, kind, "keyword") for kind in each.kinds], each.count)
            for each in wire.unindexed_fields
        ],
        unused_indexes=[UnusedIndex(each.path, time_of(each.since)) for each in wire.unused_indexes],
        recalls=[plain(RecallStats, each, _RECALL_STATS) for each in wire.recalls],
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
    kind = name_in(_INDEX_KINDS, wire.kind, "")
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
            "tokenizer": name_in(_TOKENIZERS, text.tokenizer, "word"),
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
        plain(PayloadIndexInfo, each, counts, **spec) for each in wires if (spec := _index_spec(each.index)) is not None
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
        plain(
            GenerationInfo,
            each,
            names,
            state=name_in(_GENERATION_STATES, each.state, "building"),
            datatype=name_in(_DATATYPES, each.datatype, "f32"),
            recall=plain(GenerationRecall, each.recall, ("recall", "baseline", "wanted", "samples"))
            if each.HasField("recall")
            else None,
            shadow=plain(GenerationShadow, each.shadow, _SHADOW_NAMES) if each.HasField("shadow") else None,
        )
        for each in wires
    ]


def text_generations_from_wire(wires: Sequence[collections_pb2.TextGeneration]) -> list[TextGenerationInfo]:
    return [
        plain(
            TextGenerationInfo,
            each,
            ("index", "number", "row_count", "memory_bytes"),
            state=name_in(_GENERATION_STATES, each.state, "building"),
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
