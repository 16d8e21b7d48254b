"""Points and answers of queries between the wire and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kith._decode.wire import ParsePayload, optional_in, plain
from kith._ids import id_from_wire
from kith._rpc import error_of_failure
from kith._session import token_from_wire
from kith._sparse import SparseVector, sparse_from_wire
from kith._times import time_of_ms
from kith._vectors import FloatArray, vector_from_wire
from kith.errors import error_of
from kith.types import (
    ChangeEvent,
    DistanceMatrix,
    ExplainStep,
    FacetHit,
    FacetResult,
    GroupsResult,
    ItemError,
    MatrixPair,
    Point,
    PointGroup,
    QueryResult,
    ScoredPoint,
    SlotRange,
    TraceSpan,
    UpsertResult,
    WriteBatchItem,
    WriteBatchResult,
    WriteEffect,
    WriteResult,
)
from kith.v1 import common_pb2, points_pb2, watch_pb2

_CHANGES: Final = {
    watch_pb2.CHANGE_KIND_INSERT: "insert",
    watch_pb2.CHANGE_KIND_UPDATE: "update",
    watch_pb2.CHANGE_KIND_DELETE: "delete",
    watch_pb2.CHANGE_KIND_TRUNCATE: "truncate",
}


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
        order=optional_in(wire, "order"),
        highlights={path: list(each.fragments) for path, each in wire.highlights.items()},
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
    return [plain(TraceSpan, each, names, attributes=dict(each.attributes)) for each in wires]


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
        optional_in(wire, "score"),
    )
