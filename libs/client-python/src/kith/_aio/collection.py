"""One collection of a server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from numpy.typing import NDArray

from kith._aio.streams import upsert_many, watch_collection
from kith._aio.transport import AsyncTransport
from kith._bulk import BulkOptions
from kith._checks import check_collection_name, finite, integer_of, names_of, only_keys, partition_of, whole_number
from kith._decode import (
    alter_vector_field_to_wire,
    check_same_schema,
    collection_from_wire,
    explain_from_wire,
    facet_from_wire,
    generations_from_wire,
    groups_from_wire,
    index_infos_from_wire,
    item_errors,
    labels_to_wire,
    limit_of,
    matrix_from_wire,
    payload_index_to_wire,
    point_from_wire,
    query_from_wire,
    specs_of,
    stats_from_wire,
    strict_to_wire,
    text_generations_from_wire,
    upsert_from_wire,
    vector_field_to_wire,
    write_batch_from_wire,
    write_from_wire,
)
from kith._filters import filter_of
from kith._ids import Id, id_to_wire
from kith._query_tree import lookup_to_wire, order_by_to_wire, prefetch_to_wire, query_to_wire, select_to_wire
from kith._rpc import error_of_failure
from kith._session import Session, same_collection, token_from_wire
from kith._sparse import SparseInput, add_sparse_request, sparse_fields, sparse_to_wire
from kith._times import expiry_ms
from kith._vectors import VectorInput, field_value, packed_field
from kith._write import (
    check_batch_count,
    columns_request,
    delete_to_wire,
    mode_to_wire,
    operation_to_wire,
    payload_bytes,
    points_of,
    rows_of,
    set_columns,
    target_to_wire,
    unknown_outcome,
    update_vectors_to_wire,
    upsert_request,
    write_options,
)
from kith.errors import KithError, error_of
from kith.query import PrefetchInput, QueryExpression
from kith.types import (
    AlteredVectorField,
    Bm25Options,
    ChangeEvent,
    CollectionInfo,
    CollectionStats,
    Datatype,
    DeleteResult,
    DistanceMatrix,
    ExplainStep,
    FacetResult,
    FilterInput,
    GenerationInfo,
    GroupsResult,
    ItemError,
    PartitionValue,
    PayloadIndexInfo,
    PayloadIndexKind,
    Point,
    PointInput,
    QueryBatchItem,
    QueryResult,
    ReadConsistency,
    SettledBatch,
    SparseSpec,
    StrictMode,
    TextGenerationInfo,
    TextIndexOptions,
    Token,
    UpsertManyProgress,
    UpsertManyResult,
    UpsertResult,
    VectorsInput,
    VectorSpec,
    WithPayload,
    WithVectors,
    WriteAck,
    WriteBatchResult,
    WriteMode,
    WriteResult,
    WriteTarget,
)
from kith.v1 import calls, collections_pb2, common_pb2, points_pb2
from kith.v1.calls import Call, Request

Answer = TypeVar("Answer")

#: Building the rest of a graph takes minutes where a large import has just ended.
_WAIT_INDEXED_DEADLINE_MS = 600_000
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
    "score_threshold",
    "consistency",
    "partition",
    "allow_partial",
    "trace",
    "explain",
    "with_payload",
    "with_vectors",
)


class AsyncCollectionHandle:
    """One collection of a server, by name; it need not exist yet. Reads see what the same client wrote before."""

    def __init__(self, name: str, transport: AsyncTransport, session: Session) -> None:
        self.name = check_collection_name(name)
        self._transport = transport
        self._session = session

    @property
    def token(self) -> Token:
        """What this client has written here; another process reads at least that with `consistency=token`."""
        return self._session.token

    # Collections

    async def create(
        self,
        *,
        vectors: VectorSpec | Mapping[str, VectorSpec] | None = None,
        sparse: Mapping[str, SparseSpec] | None = None,
        shards: int | None = None,
        replicas: int | None = None,
        labels: Mapping[str, str] | None = None,
        strict_mode: StrictMode | None = None,
        recall_target: float | None = None,
        partition_key: str | None = None,
        if_not_exists: bool = False,
        deadline_ms: float | None = None,
    ) -> CollectionInfo:
        """Creates the collection and waits until its shards are placed. `vectors`: one spec for a single unnamed vector, or specs by name; `sparse`: sparse
        fields by name.

        `partition_key`: path of a field of the payload by whose value points are put into shards; each point must have one, and keeps it.
        COLLECTION_EXISTS where the name is taken; with `if_not_exists` only where the collection is not as these options say.
        """
        request = collections_pb2.CreateCollectionRequest(
            name=self.name,
            vectors=[vector_field_to_wire(name, spec) for name, spec in specs_of(vectors, sparse)],
            sparse_vectors=sparse_fields(sparse),
            shard_count=whole_number(0 if shards is None else shards, "shards"),
            replication_factor=whole_number(0 if replicas is None else replicas, "replicas"),
            labels=labels_to_wire(labels),
            strict_mode=None if strict_mode is None else strict_to_wire(strict_mode),
            recall_target=recall_target,
            partition_key=partition_key,
        )
        try:
            # Not repeated by itself: after a lost answer, a second try would report the client's own collection as taken.
            response = await self._transport.once(calls.COLLECTIONS_CREATE, request, deadline_ms)
        except KithError as error:
            if error.code != "COLLECTION_EXISTS" or not if_not_exists:
                raise
            info = await self.info(deadline_ms=deadline_ms)
            check_same_schema(info, vectors, shards, replicas, partition_key, sparse)
            return info
        info = collection_from_wire(response.collection)
        self._session.begin(info.id)
        return info

    async def info(self, *, deadline_ms: float | None = None) -> CollectionInfo:
        """COLLECTION_NOT_FOUND where there is none."""
        request = collections_pb2.GetCollectionRequest(name=self.name)
        return collection_from_wire(
            (await self._transport.retried(calls.COLLECTIONS_GET, request, deadline_ms)).collection
        )

    async def exists(self, *, deadline_ms: float | None = None) -> bool:
        request = collections_pb2.ExistsCollectionRequest(name=self.name)
        return (await self._transport.retried(calls.COLLECTIONS_EXISTS, request, deadline_ms)).exists

    async def update(
        self,
        *,
        ef_search: int | Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
        strict_mode: StrictMode | None = None,
        recall_target: float | None = None,
        replicas: int | None = None,
        deadline_ms: float | None = None,
    ) -> CollectionInfo:
        """Changes search defaults, labels (an empty value removes one), limits ({} takes them away), the recall target (0: none) and the number of replicas."""
        by_field = ef_search if isinstance(ef_search, Mapping) else {} if ef_search is None else {"": ef_search}
        request = collections_pb2.UpdateCollectionRequest(
            name=self.name,
            ef_search={name: whole_number(value, "ef_search") for name, value in by_field.items()},
            labels=labels_to_wire(labels),
            strict_mode=None if strict_mode is None else strict_to_wire(strict_mode),
            recall_target=recall_target,
        )
        if replicas is not None:
            request.replication_factor = whole_number(replicas, "replicas")
        return collection_from_wire(
            (await self._transport.retried(calls.COLLECTIONS_UPDATE, request, deadline_ms)).collection
        )

    async def drop(self, *, deadline_ms: float | None = None) -> None:
        """Deletes the collection with all its points. COLLECTION_NOT_FOUND where there is none."""
        epoch = self._session.epoch
        await self._transport.once(
            calls.COLLECTIONS_DELETE, collections_pb2.DeleteCollectionRequest(name=self.name), deadline_ms
        )
        self._session.clear(epoch)

    async def truncate(
        self, *, ack: WriteAck = "applied", idempotency_key: str | None = None, deadline_ms: float | None = None
    ) -> WriteResult:
        """Deletes all points; schema, indexes and settings stay. A point that is written afterwards stays."""
        request = points_pb2.TruncateRequest(collection=self.name, options=write_options(ack, idempotency_key))
        return write_from_wire(await self._write(calls.POINTS_TRUNCATE, request, deadline_ms))

    async def rename(self, new_name: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """Gives the collection another name at once; `client.collection(new_name)` is its handle from then on."""
        epoch = self._session.epoch
        request = collections_pb2.RenameCollectionRequest(name=self.name, new_name=check_collection_name(new_name))
        response = await self._transport.once(calls.COLLECTIONS_RENAME, request, deadline_ms)
        self._session.clear(epoch)
        return collection_from_wire(response.collection)

    async def stats(self, *, deadline_ms: float | None = None) -> CollectionStats:
        """Counts and sizes, summed over the shards and by shard."""
        request = collections_pb2.CollectionStatsRequest(name=self.name)
        return stats_from_wire(await self._transport.retried(calls.COLLECTIONS_STATS, request, deadline_ms))

    async def wait_indexed(self, *, deadline_ms: float | None = None) -> int:
        """Returns when every point that this client has written, or that was applied before the call, is in the graph, with their number."""

        def request() -> collections_pb2.WaitIndexedRequest:
            return collections_pb2.WaitIndexedRequest(name=self.name, token=self._session.written)

        wait_ms = _WAIT_INDEXED_DEADLINE_MS if deadline_ms is None else deadline_ms
        response = await self._read(
            lambda: self._transport.retried(calls.COLLECTIONS_WAIT_INDEXED, request(), wait_ms), "session"
        )
        return response.indexed_vector_count

    async def create_payload_index(
        self,
        path: str,
        kind: PayloadIndexKind,
        *,
        is_tenant: bool = False,
        is_principal: bool = False,
        text: TextIndexOptions | None = None,
        bm25: Bm25Options | None = None,
        wait: bool = False,
        deadline_ms: float | None = None,
    ) -> CollectionInfo:
        """Adds an index of a field of the payload, which is built while queries and writes go on; `wait`: until every replica answers by it."""
        request = collections_pb2.CreatePayloadIndexRequest(
            collection=self.name,
            index=payload_index_to_wire(path, kind, is_tenant, is_principal, text, bm25),
            wait=wait,
        )
        wait_ms = _WAIT_INDEXED_DEADLINE_MS if deadline_ms is None else deadline_ms
        response = await self._transport.retried(calls.COLLECTIONS_CREATE_PAYLOAD_INDEX, request, wait_ms)
        return collection_from_wire(response.collection)

    async def drop_payload_index(self, path: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """INVALID_SCHEMA where the field has none."""
        request = collections_pb2.DropPayloadIndexRequest(collection=self.name, path=path)
        response = await self._transport.once(calls.COLLECTIONS_DROP_PAYLOAD_INDEX, request, deadline_ms)
        return collection_from_wire(response.collection)

    async def list_payload_indexes(self, *, deadline_ms: float | None = None) -> list[PayloadIndexInfo]:
        request = collections_pb2.ListPayloadIndexesRequest(collection=self.name)
        return index_infos_from_wire(
            (await self._transport.retried(calls.COLLECTIONS_LIST_PAYLOAD_INDEXES, request, deadline_ms)).indexes
        )

    async def add_vector_field(
        self, name: str, spec: VectorSpec, *, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is one of the name."""
        request = collections_pb2.AddVectorFieldRequest(collection=self.name, field=vector_field_to_wire(name, spec))
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_ADD_VECTOR_FIELD, request, deadline_ms)).collection
        )

    async def add_sparse_field(
        self, name: str, *, modifier: Literal["idf"] | None = None, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is a vector field of the name."""
        request = add_sparse_request(self.name, name, modifier)
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_ADD_VECTOR_FIELD, request, deadline_ms)).collection
        )

    async def drop_vector_field(self, name: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """With the vectors that points have of it. UNKNOWN_VECTOR where there is none."""
        request = collections_pb2.DropVectorFieldRequest(collection=self.name, name=name)
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_DROP_VECTOR_FIELD, request, deadline_ms)).collection
        )

    async def alter_vector_field(
        self,
        field: str,
        *,
        datatype: Datatype | None = None,
        m: int = 0,
        ef_construction: int = 0,
        originals: bool | None = None,
        min_recall: float | None = None,
        auto_recall: float | None = None,
        manual: bool = False,
        wait: bool = False,
        deadline_ms: float | None = None,
    ) -> AlteredVectorField:
        """Begins another generation of the index of a vector field ("" for the unnamed one), which answers by itself once it is whole and its recall holds.

        `min_recall`: least recall@10 against an exact search, else that of the one before less 0.02; `manual`: it answers when `promote_generation`
        says so; `wait`: until it answers; `auto_recall`: pick the datatype by the data, as `choices` of the collection's info then says.
        """
        request = alter_vector_field_to_wire(
            self.name, field, datatype, m, ef_construction, originals, min_recall, auto_recall, manual, wait
        )
        wait_ms = _WAIT_INDEXED_DEADLINE_MS if deadline_ms is None else deadline_ms
        response = await self._transport.retried(calls.COLLECTIONS_ALTER_VECTOR_FIELD, request, wait_ms)
        return AlteredVectorField(collection_from_wire(response.collection), response.generation)

    async def list_generations(self, *, deadline_ms: float | None = None) -> list[GenerationInfo]:
        request = collections_pb2.ListGenerationsRequest(collection=self.name)
        return generations_from_wire(
            (await self._transport.retried(calls.COLLECTIONS_LIST_GENERATIONS, request, deadline_ms)).generations
        )

    async def alter_payload_index(
        self,
        path: str,
        *,
        bm25: Bm25Options | None = None,
        manual: bool = False,
        wait: bool = False,
        deadline_ms: float | None = None,
    ) -> AlteredVectorField:
        """Begins another generation of an index by BM25, as `bm25` says, which answers by itself once it is whole.

        `manual`: it answers when `promote_generation` says so; `wait`: until it answers.
        """
        request = collections_pb2.AlterPayloadIndexRequest(
            collection=self.name,
            index=payload_index_to_wire(path, "bm25", False, False, None, bm25),
            manual=manual,
            wait=wait,
        )
        wait_ms = _WAIT_INDEXED_DEADLINE_MS if deadline_ms is None else deadline_ms
        response = await self._transport.retried(calls.COLLECTIONS_ALTER_PAYLOAD_INDEX, request, wait_ms)
        return AlteredVectorField(collection_from_wire(response.collection), response.generation)

    async def list_text_generations(self, *, deadline_ms: float | None = None) -> list[TextGenerationInfo]:
        """The generations of those indexes by BM25 that have two."""
        request = collections_pb2.ListGenerationsRequest(collection=self.name)
        return text_generations_from_wire(
            (await self._transport.retried(calls.COLLECTIONS_LIST_GENERATIONS, request, deadline_ms)).text_generations
        )

    async def promote_generation(
        self, field: str = "", *, index: str = "", force: bool = False, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """FAILED_PRECONDITION, with the numbers, while it is not whole or its recall is too low (`force`: although it is)."""
        request = collections_pb2.PromoteGenerationRequest(collection=self.name, field=field, index=index, force=force)
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_PROMOTE_GENERATION, request, deadline_ms)).collection
        )

    async def rollback_generation(
        self, field: str = "", *, index: str = "", deadline_ms: float | None = None
    ) -> CollectionInfo:
        """The generation that is kept answers again. FAILED_PRECONDITION where none is kept."""
        request = collections_pb2.RollbackGenerationRequest(collection=self.name, field=field, index=index)
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_ROLLBACK_GENERATION, request, deadline_ms)).collection
        )

    async def drop_generation(
        self, field: str = "", *, index: str = "", deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Drops the generation that does not answer. FAILED_PRECONDITION where there is none."""
        request = collections_pb2.DropGenerationRequest(collection=self.name, field=field, index=index)
        return collection_from_wire(
            (await self._transport.once(calls.COLLECTIONS_DROP_GENERATION, request, deadline_ms)).collection
        )

    # Writes

    async def upsert(
        self,
        points: PointInput | Point | Sequence[PointInput | Point],
        *,
        ack: WriteAck = "applied",
        mode: WriteMode = "upsert",
        only_if: FilterInput | None = None,
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> UpsertResult:
        """Writes one point or up to 10 000. For more, or for points that come one by one: `upsert_many`."""
        many = points_of(points)
        check_batch_count(len(many))
        rows = rows_of(many)
        condition = filter_of(only_if)
        request: points_pb2.UpsertColumnsRequest | points_pb2.UpsertRequest
        if all(row.shape == rows[0].shape for row in rows):
            request = points_pb2.UpsertColumnsRequest()
            set_columns(request, rows)
        else:
            request = upsert_request(rows)
        request.collection = self.name
        request.mode = mode_to_wire(mode)
        request.options.CopyFrom(write_options(ack, idempotency_key))
        if condition is not None:
            request.only_if.CopyFrom(condition)
        if isinstance(request, points_pb2.UpsertColumnsRequest):
            return upsert_from_wire(await self._write(calls.POINTS_UPSERT_COLUMNS, request, deadline_ms))
        return upsert_from_wire(await self._write(calls.POINTS_UPSERT, request, deadline_ms))

    async def upsert_columns(
        self,
        *,
        ids: Sequence[Id] | NDArray[Any],
        vectors: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None,
        sparse: Mapping[str, Sequence[SparseInput]] | None = None,
        payloads: Sequence[Mapping[str, Any] | bytes | None] | None = None,
        expires_at: Sequence[datetime | int | None] | None = None,
        ack: WriteAck = "applied",
        mode: WriteMode = "upsert",
        only_if: FilterInput | None = None,
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> UpsertResult:
        """The fastest form for data that is in arrays already: one matrix per vector field, sent as it lies in memory where it is float32."""
        request = columns_request(ids, vectors, payloads, expires_at, sparse)
        request.collection = self.name
        request.mode = mode_to_wire(mode)
        request.options.CopyFrom(write_options(ack, idempotency_key))
        condition = filter_of(only_if)
        if condition is not None:
            request.only_if.CopyFrom(condition)
        return upsert_from_wire(await self._write(calls.POINTS_UPSERT_COLUMNS, request, deadline_ms))

    async def upsert_many(
        self,
        source: Iterable[PointInput | Point] | AsyncIterable[PointInput | Point],
        *,
        batch_bytes: int = 1024 * 1024,
        batch_points: int = 10_000,
        in_flight: int = 4,
        ack: WriteAck = "applied",
        mode: WriteMode = "upsert",
        on_progress: Callable[[UpsertManyProgress], None] | None = None,
        on_item_error: Callable[[ItemError], None] | None = None,
        on_batch: Callable[[SettledBatch], None] | None = None,
        deadline_ms: float = 60_000,
    ) -> UpsertManyResult:
        """Writes any number of points from an iterable, over one stream of columnar messages.

        At most `in_flight` messages are unanswered at a time, and the source is not read further meanwhile. Points that are refused are reported
        one by one and the others go on; an error of the whole raises, with `details["resumeIndex"]`. Of two points with one id the last one wins.
        `deadline_ms` is that of each message with its retries.
        """
        options = BulkOptions(
            batch_bytes, batch_points, in_flight, ack, mode, deadline_ms, on_progress, on_item_error, on_batch
        )
        return await upsert_many(self._transport, self.name, self._session, source, options)

    async def delete(
        self,
        target: WriteTarget,
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> DeleteResult:
        """Deletes points by id, or all that pass a filter: `{"filter": "year < 1900"}`. Ids that do not exist are no error."""
        request = delete_to_wire(target, only_if, expected_version, partition)
        request.collection = self.name
        request.options.CopyFrom(write_options(ack, idempotency_key))
        response = await self._write(calls.POINTS_DELETE, request, deadline_ms)
        return DeleteResult(response.deleted, item_errors(response.errors), token_from_wire(response.token))

    async def set_payload(
        self,
        target: WriteTarget,
        payload: Mapping[str, Any] | bytes,
        *,
        path: str = "",
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Sets keys of payloads, each as a whole, and leaves others alone; a None removes its key. With `path`, the keys of the object there.

        As all writes of parts: by ids, what does not exist is a POINT_NOT_FOUND in `errors`.
        """
        request = points_pb2.SetPayloadRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            payload=payload_bytes(payload),
            path=path,
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_SET_PAYLOAD, request, deadline_ms))

    async def overwrite_payload(
        self,
        target: WriteTarget,
        payload: Mapping[str, Any] | bytes,
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Puts one payload in the place of what the points have."""
        request = points_pb2.OverwritePayloadRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            payload=payload_bytes(payload),
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_OVERWRITE_PAYLOAD, request, deadline_ms))

    async def delete_payload(
        self,
        target: WriteTarget,
        paths: str | Sequence[str],
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Removes what paths lead to in payloads: keys ("a.b", "a[].b"), or all elements of an array ("a[]")."""
        request = points_pb2.DeletePayloadRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            paths=names_of(paths, "paths"),
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_DELETE_PAYLOAD, request, deadline_ms))

    async def clear_payload(
        self,
        target: WriteTarget,
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Removes the payloads."""
        request = points_pb2.ClearPayloadRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_CLEAR_PAYLOAD, request, deadline_ms))

    async def update_vectors(
        self,
        points: VectorsInput | Sequence[VectorsInput],
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Sets vectors of points that exist; their other vectors and their payloads stay."""
        request = update_vectors_to_wire(points, only_if, expected_version, partition)
        request.collection = self.name
        request.options.CopyFrom(write_options(ack, idempotency_key))
        return write_from_wire(await self._write(calls.POINTS_UPDATE_VECTORS, request, deadline_ms))

    async def delete_vectors(
        self,
        target: WriteTarget,
        vectors: str | Sequence[str],
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """Removes the vectors of these fields; "" is the unnamed one."""
        request = points_pb2.DeleteVectorsRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            vectors=names_of(vectors, "vectors"),
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_DELETE_VECTORS, request, deadline_ms))

    async def set_expiry(
        self,
        target: WriteTarget,
        expires_at: datetime | int | None,
        *,
        only_if: FilterInput | None = None,
        expected_version: int | Sequence[int] | None = None,
        partition: PartitionValue | None = None,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteResult:
        """From when on points are not found any more: a datetime, milliseconds since the Unix epoch, or None for never."""
        request = points_pb2.SetExpiryRequest(
            collection=self.name,
            target=target_to_wire(target, only_if, expected_version, partition),
            expires_at_ms=expiry_ms(expires_at),
            options=write_options(ack, idempotency_key),
        )
        return write_from_wire(await self._write(calls.POINTS_SET_EXPIRY, request, deadline_ms))

    async def write_batch(
        self,
        operations: Sequence[Mapping[str, Any]],
        *,
        ack: WriteAck = "applied",
        idempotency_key: str | None = None,
        deadline_ms: float | None = None,
    ) -> WriteBatchResult:
        """Up to 1 000 writes of any kind, in order: each sees what those before it did. `{"op": "set_payload", "target": 1, "payload": {...}}`.

        They are checked as a whole before any is written; then each has its own answer, and one that fails does not stop those after it.
        """
        request = points_pb2.WriteBatchRequest(
            collection=self.name,
            operations=[operation_to_wire(operation, i) for i, operation in enumerate(operations)],
            options=write_options(ack, idempotency_key),
        )
        return write_batch_from_wire(await self._write(calls.POINTS_WRITE_BATCH, request, deadline_ms))

    # Reads

    async def query(
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
        response = await self._read(
            lambda: self._transport.retried(calls.POINTS_QUERY, request(), deadline_ms, traceparent), consistency
        )
        return query_from_wire(response, self._transport.parse_payload, trace_id)

    async def query_batch(
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
        response = await self._transport.retried(calls.POINTS_QUERY_BATCH, request, deadline_ms)
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

    async def query_groups(
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

        response = await self._read(
            lambda: self._transport.retried(calls.POINTS_QUERY_GROUPS, request(), deadline_ms), consistency
        )
        return groups_from_wire(response, self._transport.parse_payload)

    async def facet(
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
            await self._read(lambda: self._transport.retried(calls.POINTS_FACET, request(), deadline_ms), consistency)
        )

    async def matrix(
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
            await self._read(
                lambda: self._transport.retried(calls.POINTS_SEARCH_MATRIX, request(), deadline_ms), consistency
            )
        )

    async def get(
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
        points = await self.get_many(
            [id],
            with_payload=with_payload,
            with_vectors=with_vectors,
            consistency=consistency,
            partition=partition,
            deadline_ms=deadline_ms,
        )
        return points[0] if points else None

    async def get_many(
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

        response = await self._read(
            lambda: self._transport.retried(calls.POINTS_GET, request(), deadline_ms), consistency
        )
        return [point_from_wire(each, self._transport.parse_payload) for each in response.points]

    async def count(
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

        response = await self._read(
            lambda: self._transport.retried(calls.POINTS_COUNT, request(), deadline_ms), consistency
        )
        if on_explain is not None and response.HasField("explain"):
            on_explain(explain_from_wire(response.explain))
        return response.count

    async def scroll(
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
    ) -> AsyncIterator[Point]:
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

            page = await self._read(
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
    ) -> AsyncIterator[ChangeEvent]:
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

    # What they share

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

    async def _read(self, ask: Callable[[], Awaitable[Answer]], consistency: ReadConsistency) -> Answer:
        """One read, whose token is taken in. Once more where the name is an alias that means another collection than the session's token is of."""
        for attempt in (1, 2):
            epoch = self._session.epoch
            try:
                answer = await ask()
            except KithError as error:
                self._forget_refused(error, consistency, epoch)
                if attempt == 2 or error.code != "INVALID_TOKEN" or "alias" not in error.details:
                    raise
            else:
                token = getattr(answer, "token", None)
                if isinstance(token, common_pb2.Token):
                    self._session.read(token, epoch)
                return answer
        raise AssertionError("the second attempt returns or raises")

    async def _write(self, call: Call[Request, Any], request: Any, deadline_ms: float | None) -> Any:
        epoch = self._session.epoch
        try:
            response = await self._transport.retried(call, request, deadline_ms)
        except KithError as error:
            self._forget_refused(error, "session", epoch)
            raise unknown_outcome(error, request.options.idempotency_key) from error
        self._session.wrote(response.token, epoch)
        return response

    def _forget_refused(self, error: KithError, consistency: ReadConsistency, epoch: int) -> None:
        """Where the session's own token was refused, the next read starts afresh with whatever has the name."""
        if error.code == "INVALID_TOKEN" and consistency == "session":
            self._session.clear(epoch)
