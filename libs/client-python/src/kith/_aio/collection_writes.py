"""Writes to the points of a collection."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from kith._aio.collection_calls import AsyncCollectionCalls
from kith._aio.streams import upsert_many
from kith._bulk import BulkOptions
from kith._checks import names_of
from kith._decode.points import item_errors, upsert_from_wire, write_batch_from_wire, write_from_wire
from kith._filters import filter_of
from kith._ids import Id
from kith._session import token_from_wire
from kith._sparse import SparseInput
from kith._times import expiry_ms
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
    update_vectors_to_wire,
    upsert_request,
    write_options,
)
from kith.types import (
    DeleteResult,
    FilterInput,
    ItemError,
    PartitionValue,
    Point,
    PointInput,
    SettledBatch,
    UpsertManyProgress,
    UpsertManyResult,
    UpsertResult,
    VectorsInput,
    WriteAck,
    WriteBatchResult,
    WriteMode,
    WriteResult,
    WriteTarget,
)
from kith.v1 import calls, points_pb2


class AsyncCollectionWrites(AsyncCollectionCalls):
    """What changes points."""

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
