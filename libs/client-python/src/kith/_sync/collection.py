# Made by make_sync.py from _aio/collection.py: change that one.
"""One collection of a server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from kith._sync.collection_schema import CollectionSchema
from kith._sync.collection_writes import CollectionWrites
from kith._sync.streams import watch_collection
from kith._checks import finite, integer_of, only_keys, partition_of, whole_number
from kith._decode.points import (
    explain_from_wire,
    facet_from_wire,
    groups_from_wire,
    matrix_from_wire,
    point_from_wire,
    query_from_wire,
)
from kith._decode.wire import limit_of
from kith._filters import filter_of
from kith._ids import Id, id_to_wire
from kith._query_tree import lookup_to_wire, order_by_to_wire, prefetch_to_wire, query_to_wire, select_to_wire
from kith._rpc import error_of_failure
from kith._session import same_collection
from kith._sparse import SparseInput, sparse_to_wire
from kith._texts import highlight_to_wire
from kith._vectors import VectorInput, field_value, packed_field
from kith._write import check_batch_count
from kith.errors import error_of
from kith.query import PrefetchInput, QueryExpression
from kith.types import (
    ChangeEvent,
    DistanceMatrix,
    ExplainStep,
    FacetResult,
    FilterInput,
    GroupsResult,
    PartitionValue,
    Point,
    QueryBatchItem,
    QueryResult,
    ReadConsistency,
    Token,
    WithPayload,
    WithVectors,
)
from kith.v1 import calls, points_pb2

_QUERY_BATCH_MAX = 256
_QUERY_KEYS = (
    "query",
    "prefetch",
    "lookup",
    "vector",
    "sparse",
    "point",
    "limit",
    "offset",
    "filter",
    "using",
    "ef",
    "recall_target",
    "exact",
    "exact_scores",
    "oversampling",
    "rescore",
    "highlight",
    "score_threshold",
    "consistency",
    "partition",
    "allow_partial",
    "trace",
    "explain",
    "with_payload",
    "with_vectors",
)


class CollectionHandle(CollectionSchema, CollectionWrites):
    """One collection of a server, by name; it need not exist yet. Reads see what the same client wrote before."""

    def query(
        self,
        *,
        vector: VectorInput | None = None,
        sparse: SparseInput | None = None,
        point: Id | None = None,
        query: QueryExpression | None = None,
        prefetch: Sequence[PrefetchInput] = (),
        lookup: Mapping[str, str] | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: FilterInput | None = None,
        using: str = "",
        ef: int = 0,
        recall_target: float | None = None,
        exact: bool = False,
        exact_scores: bool = False,
        oversampling: float = 0,
        rescore: bool = True,
        highlight: bool | Mapping[str, Any] = False,
        score_threshold: float | None = None,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        allow_partial: bool = False,
        trace: bool = False,
        explain: bool = False,
        with_payload: WithPayload = True,
        with_vectors: WithVectors = False,
        deadline_ms: float | None = None,
    ) -> QueryResult:
        """The nearest points to a vector or to a stored point, or those that a query of `kith.query` finds.

        `recall_target`: the recall that is wanted, 0.5 to 0.999; each shard takes the beam width that gives it, `ef` at most where that is named.

        `highlight`: mark words in the texts of the results' payloads, `highlights` of each point; True: the words of the query's text. A mapping of `text`, `using`
        (an index by BM25), `fields`, `before`, `after`, `fragment_length`, `fragment_count` and `escape_html` says which words, where and how.

        `partition`, here and in other reads: in a collection with a partition key, only points with this value of it.
        """

        def request() -> points_pb2.QueryRequest:
            return self._query_request(
                {
                    "vector": vector,
                    "sparse": sparse,
                    "point": point,
                    "query": query,
                    "prefetch": prefetch,
                    "lookup": lookup,
                    "limit": limit,
                    "offset": offset,
                    "filter": filter,
                    "using": using,
                    "ef": ef,
                    "recall_target": recall_target,
                    "exact": exact,
                    "exact_scores": exact_scores,
                    "oversampling": oversampling,
                    "rescore": rescore,
                    "highlight": highlight,
                    "score_threshold": score_threshold,
                    "consistency": consistency,
                    "partition": partition,
                    "allow_partial": allow_partial,
                    "trace": trace,
                    "explain": explain,
                    "with_payload": with_payload,
                    "with_vectors": with_vectors,
                }
            )

        # Who asks for a trace finds it in the servers' exporters too (https://www.w3.org/TR/trace-context).
        trace_id = secrets.token_hex(16) if trace else None
        traceparent = f"00-{trace_id}-{secrets.token_hex(8)}-01" if trace else ""
        response = self._read(
            lambda: self._transport.retried(calls.POINTS_QUERY, request(), deadline_ms, traceparent), consistency
        )
        return query_from_wire(response, self._transport.parse_payload, trace_id)

    def query_batch(
        self, queries: Sequence[Mapping[str, Any]], *, deadline_ms: float | None = None
    ) -> list[QueryBatchItem]:
        """Up to 256 queries (the arguments of `query`, as mappings) in one call; an error of one does not fail the others."""
        if len(queries) == 0:
            raise error_of("INVALID_ARGUMENT", "the batch is empty; pass at least one query")
        if len(queries) > _QUERY_BATCH_MAX:
            raise error_of(
                "BATCH_TOO_LARGE",
                f"the batch has {len(queries)} queries; at most {_QUERY_BATCH_MAX} fit in one call",
                {"count": len(queries), "limit": _QUERY_BATCH_MAX},
            )
        epoch = self._session.epoch
        request = points_pb2.QueryBatchRequest(
            queries=[
                self._query_request(only_keys(each, _QUERY_KEYS, f"queries[{i}]")) for i, each in enumerate(queries)
            ]
        )
        response = self._transport.retried(calls.POINTS_QUERY_BATCH, request, deadline_ms)
        items = []
        for query, each in zip(queries, response.results, strict=True):
            if each.WhichOneof("outcome") == "failure":
                error = error_of_failure(each.failure)
                self._forget_refused(error, query.get("consistency", "session"), epoch)
                items.append(QueryBatchItem(error=error))
            else:
                self._session.read(each.response.token, epoch)
                items.append(QueryBatchItem(query_from_wire(each.response, self._transport.parse_payload)))
        return items

    def query_groups(
        self,
        group_by: str,
        *,
        limit: int = 10,
        group_size: int = 3,
        with_lookup: Mapping[str, Any] | None = None,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
        **query: Any,
    ) -> GroupsResult:
        """The best points of each of the best groups, by a value of the payload. `query`: the arguments of `query`, without limit and offset.

        `with_lookup`: `{"collection": ..., "with_payload": ..., "with_vectors": ...}` gives with each group the point of another collection
        whose id is the group's value.
        """
        only_keys(
            query, [key for key in _QUERY_KEYS if key not in ("limit", "offset", "consistency", "partition")], "options"
        )

        def request() -> points_pb2.QueryGroupsRequest:
            inner = self._query_request({**query, "consistency": consistency, "partition": partition})
            inner.limit = 0
            groups = points_pb2.QueryGroupsRequest(
                query=inner,
                group_by=group_by,
                limit=limit_of(limit, "limit"),
                group_size=limit_of(group_size, "group_size"),
            )
            if with_lookup is not None:
                fields = only_keys(with_lookup, ("collection", "with_payload", "with_vectors"), "with_lookup")
                groups.with_lookup.collection = fields.get("collection", "")
                groups.with_lookup.select.CopyFrom(
                    select_to_wire(fields.get("with_payload", True), fields.get("with_vectors", False))
                )
            return groups

        response = self._read(
            lambda: self._transport.retried(calls.POINTS_QUERY_GROUPS, request(), deadline_ms), consistency
        )
        return groups_from_wire(response, self._transport.parse_payload)

    def facet(
        self,
        key: str,
        *,
        filter: FilterInput | None = None,
        limit: int = 10,
        approximate: bool = False,
        explain: bool = False,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> FacetResult:
        """How many points have each value of a field: texts, whole numbers and booleans."""

        def request() -> points_pb2.FacetRequest:
            return points_pb2.FacetRequest(
                collection=self.name,
                key=key,
                filter=filter_of(filter),
                limit=limit_of(limit, "limit"),
                consistency=self._session.consistency(consistency),
                partition=partition_of(partition),
                approximate=approximate,
                explain=explain,
            )

        return facet_from_wire(
            self._read(lambda: self._transport.retried(calls.POINTS_FACET, request(), deadline_ms), consistency)
        )

    def matrix(
        self,
        *,
        using: str = "",
        filter: FilterInput | None = None,
        sample: int = 10,
        limit: int = 3,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> DistanceMatrix:
        """How alike points drawn by chance are to one another."""

        def request() -> points_pb2.SearchMatrixRequest:
            return points_pb2.SearchMatrixRequest(
                collection=self.name,
                using=using,
                filter=filter_of(filter),
                sample=limit_of(sample, "sample"),
                limit=limit_of(limit, "limit"),
                consistency=self._session.consistency(consistency),
                partition=partition_of(partition),
            )

        return matrix_from_wire(
            self._read(
                lambda: self._transport.retried(calls.POINTS_SEARCH_MATRIX, request(), deadline_ms), consistency
            )
        )

    def get(
        self,
        id: Id,
        *,
        with_payload: WithPayload = True,
        with_vectors: WithVectors = False,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> Point | None:
        """One point, or None where it does not exist."""
        if not isinstance(id, str | UUID) and integer_of(id) is None:
            raise error_of("INVALID_ID", "an id is a whole number, a UUID or a string; get_many takes several")
        points = self.get_many(
            [id],
            with_payload=with_payload,
            with_vectors=with_vectors,
            consistency=consistency,
            partition=partition,
            deadline_ms=deadline_ms,
        )
        return points[0] if points else None

    def get_many(
        self,
        ids: Sequence[Id],
        *,
        with_payload: WithPayload = True,
        with_vectors: WithVectors = False,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> list[Point]:
        """Those that exist, in the order asked."""
        check_batch_count(len(ids))

        def request() -> points_pb2.GetPointsRequest:
            return points_pb2.GetPointsRequest(
                collection=self.name,
                ids=[id_to_wire(each) for each in ids],
                select=select_to_wire(with_payload, with_vectors),
                consistency=self._session.consistency(consistency),
                partition=partition_of(partition),
            )

        response = self._read(
            lambda: self._transport.retried(calls.POINTS_GET, request(), deadline_ms), consistency
        )
        return [point_from_wire(each, self._transport.parse_payload) for each in response.points]

    def count(
        self,
        *,
        filter: FilterInput | None = None,
        approximate: bool = False,
        on_explain: Callable[[ExplainStep], None] | None = None,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> int:
        """Points that pass. `approximate`: an estimate will do, where it is cheaper."""

        def request() -> points_pb2.CountRequest:
            return points_pb2.CountRequest(
                collection=self.name,
                filter=filter_of(filter),
                approximate=approximate,
                explain=on_explain is not None,
                consistency=self._session.consistency(consistency),
                partition=partition_of(partition),
            )

        response = self._read(
            lambda: self._transport.retried(calls.POINTS_COUNT, request(), deadline_ms), consistency
        )
        if on_explain is not None and response.HasField("explain"):
            on_explain(explain_from_wire(response.explain))
        return response.count

    def scroll(
        self,
        *,
        filter: FilterInput | None = None,
        order_by: str | Mapping[str, Any] | None = None,
        batch: int = 256,
        with_payload: WithPayload = True,
        with_vectors: WithVectors = False,
        on_explain: Callable[[ExplainStep], None] | None = None,
        consistency: ReadConsistency = "session",
        partition: PartitionValue | None = None,
        deadline_ms: float | None = None,
    ) -> Iterator[Point]:
        """All points in order of id, or as asked, fetched page by page. COLLECTION_NOT_FOUND where another collection has got the name meanwhile."""
        base = points_pb2.ScrollRequest(
            collection=self.name,
            limit=whole_number(batch, "batch"),
            select=select_to_wire(with_payload, with_vectors),
            filter=filter_of(filter),
            explain=on_explain is not None,
            partition=partition_of(partition),
        )
        if order_by is not None:
            base.order_by.CopyFrom(order_by_to_wire(order_by, "order_by"))
        collection_id = ""
        while True:

            def request() -> points_pb2.ScrollRequest:
                state = self._session.consistency(consistency)
                base.ClearField("consistency")
                if state is not None:
                    base.consistency.CopyFrom(state)
                return base

            page = self._read(
                lambda: self._transport.retried(calls.POINTS_SCROLL, request(), deadline_ms), consistency
            )
            collection_id = same_collection(self.name, collection_id, page.token)
            if on_explain is not None and page.HasField("explain"):
                on_explain(explain_from_wire(page.explain))
            for each in page.points:
                yield point_from_wire(each, self._transport.parse_payload)
            if not page.next_cursor:
                return
            base.cursor = page.next_cursor

    def watch(
        self,
        *,
        from_token: Token | None = None,
        filter: FilterInput | None = None,
        before: bool = False,
        near: Mapping[str, Any] | None = None,
        with_payload: WithPayload = True,
        with_vectors: WithVectors = False,
        on_token: Callable[[Token], None] | None = None,
    ) -> Iterator[ChangeEvent]:
        """The changes of points as they happen, from a token or from now on, until the caller ends the loop. It goes on by itself after a break.

        `near`: `{"vector": ..., "using": ..., "threshold": ...}`, only points that are written with a vector so near. `on_token` is called when
        the watch has begun, and with each further token. TOKEN_EXPIRED where what followed the token is not kept any more.
        """
        return watch_collection(
            self._transport,
            self.name,
            from_token=from_token,
            filter=filter,
            before=before,
            near=near,
            with_payload=with_payload,
            with_vectors=with_vectors,
            on_token=on_token,
        )

    def _query_request(self, query: Mapping[str, Any]) -> points_pb2.QueryRequest:
        using = query.get("using") or ""
        given = [name for name in ("vector", "sparse", "point", "query") if query.get(name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise error_of(
                "INVALID_ARGUMENT",
                f'a query needs either "vector" or "sparse" or "point" or "query", and this one has {found}',
            )
        request = points_pb2.QueryRequest(
            collection=self.name,
            using=using,
            limit=limit_of(query.get("limit", 10), "limit"),
            offset=whole_number(query.get("offset", 0), "offset"),
            select=select_to_wire(query.get("with_payload", True), query.get("with_vectors", False)),
            ef=whole_number(query.get("ef", 0), "ef"),
            exact=query.get("exact", False),
            exact_scores=query.get("exact_scores", False),
            oversampling=query.get("oversampling", 0),
            allow_partial=query.get("allow_partial", False),
            trace=query.get("trace", False),
            explain=query.get("explain", False),
            filter=filter_of(query.get("filter")),
            consistency=self._session.consistency(query.get("consistency", "session")),
            partition=partition_of(query.get("partition")),
            prefetch=[prefetch_to_wire(each, f"prefetch[{i}]") for i, each in enumerate(query.get("prefetch") or ())],
            lookup=lookup_to_wire(query.get("lookup"), "lookup"),
        )
        # Left out where nothing is asked: queries of several stages cannot have it.
        if not query.get("rescore", True):
            request.rescore = False
        highlight = query.get("highlight", False)
        if highlight is not None and highlight is not False:
            request.highlight.CopyFrom(highlight_to_wire(highlight, "highlight"))
        if query.get("recall_target") is not None:
            request.recall_target = finite(query["recall_target"], "recall_target")
        if query.get("score_threshold") is not None:
            request.score_threshold = finite(query["score_threshold"], "score_threshold")
        if query.get("vector") is not None:
            value = field_value(query["vector"], using)
            request.MergeFromString(packed_field(points_pb2.QueryRequest.VECTOR_FIELD_NUMBER, value))
            if value.ndim == 2:
                request.vector_rows = value.shape[0]
        elif query.get("sparse") is not None:
            request.query.nearest.example.vector.CopyFrom(sparse_to_wire(query["sparse"], using))
        elif query.get("point") is not None:
            request.point.CopyFrom(id_to_wire(query["point"]))
        else:
            request.query.CopyFrom(query_to_wire(query["query"], using, "query"))
        return request
