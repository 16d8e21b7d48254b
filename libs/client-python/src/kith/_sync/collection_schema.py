# Made by make_sync.py from _aio/collection_schema.py: change that one.
"""A collection itself: its schema, its indexes and their generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kith._sync.collection_calls import CollectionCalls
from kith._checks import check_collection_name, whole_number
from kith._decode.collections import (
    alter_vector_field_to_wire,
    check_same_schema,
    collection_from_wire,
    generations_from_wire,
    index_infos_from_wire,
    labels_to_wire,
    payload_index_to_wire,
    specs_of,
    stats_from_wire,
    strict_to_wire,
    text_generations_from_wire,
    vector_field_to_wire,
)
from kith._decode.points import write_from_wire
from kith._sparse import add_sparse_request, sparse_fields
from kith._write import write_options
from kith.errors import KithError
from kith.types import (
    AlteredVectorField,
    Bm25Options,
    CollectionInfo,
    CollectionStats,
    Datatype,
    GenerationInfo,
    PayloadIndexInfo,
    PayloadIndexKind,
    SparseSpec,
    StrictMode,
    TextGenerationInfo,
    TextIndexOptions,
    VectorSpec,
    WriteAck,
    WriteResult,
)
from kith.v1 import calls, collections_pb2, points_pb2

#: Building the rest of a graph takes minutes where a large import has just ended.
_WAIT_INDEXED_DEADLINE_MS = 600_000


class CollectionSchema(CollectionCalls):
    """What is about the collection, and not about its points."""

    def create(
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
            response = self._transport.once(calls.COLLECTIONS_CREATE, request, deadline_ms)
        except KithError as error:
            if error.code != "COLLECTION_EXISTS" or not if_not_exists:
                raise
            info = self.info(deadline_ms=deadline_ms)
            check_same_schema(info, vectors, shards, replicas, partition_key, sparse)
            return info
        info = collection_from_wire(response.collection)
        self._session.begin(info.id)
        return info

    def info(self, *, deadline_ms: float | None = None) -> CollectionInfo:
        """COLLECTION_NOT_FOUND where there is none."""
        request = collections_pb2.GetCollectionRequest(name=self.name)
        return collection_from_wire(
            (self._transport.retried(calls.COLLECTIONS_GET, request, deadline_ms)).collection
        )

    def exists(self, *, deadline_ms: float | None = None) -> bool:
        request = collections_pb2.ExistsCollectionRequest(name=self.name)
        return (self._transport.retried(calls.COLLECTIONS_EXISTS, request, deadline_ms)).exists

    def update(
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
            (self._transport.retried(calls.COLLECTIONS_UPDATE, request, deadline_ms)).collection
        )

    def drop(self, *, deadline_ms: float | None = None) -> None:
        """Deletes the collection with all its points. COLLECTION_NOT_FOUND where there is none."""
        epoch = self._session.epoch
        self._transport.once(
            calls.COLLECTIONS_DELETE, collections_pb2.DeleteCollectionRequest(name=self.name), deadline_ms
        )
        self._session.clear(epoch)

    def truncate(
        self, *, ack: WriteAck = "applied", idempotency_key: str | None = None, deadline_ms: float | None = None
    ) -> WriteResult:
        """Deletes all points; schema, indexes and settings stay. A point that is written afterwards stays."""
        request = points_pb2.TruncateRequest(collection=self.name, options=write_options(ack, idempotency_key))
        return write_from_wire(self._write(calls.POINTS_TRUNCATE, request, deadline_ms))

    def rename(self, new_name: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """Gives the collection another name at once; `client.collection(new_name)` is its handle from then on."""
        epoch = self._session.epoch
        request = collections_pb2.RenameCollectionRequest(name=self.name, new_name=check_collection_name(new_name))
        response = self._transport.once(calls.COLLECTIONS_RENAME, request, deadline_ms)
        self._session.clear(epoch)
        return collection_from_wire(response.collection)

    def stats(self, *, deadline_ms: float | None = None) -> CollectionStats:
        """Counts and sizes, summed over the shards and by shard."""
        request = collections_pb2.CollectionStatsRequest(name=self.name)
        return stats_from_wire(self._transport.retried(calls.COLLECTIONS_STATS, request, deadline_ms))

    def wait_indexed(self, *, deadline_ms: float | None = None) -> int:
        """Returns when every point that this client has written, or that was applied before the call, is in the graph, with their number."""

        def request() -> collections_pb2.WaitIndexedRequest:
            return collections_pb2.WaitIndexedRequest(name=self.name, token=self._session.written)

        wait_ms = _WAIT_INDEXED_DEADLINE_MS if deadline_ms is None else deadline_ms
        response = self._read(
            lambda: self._transport.retried(calls.COLLECTIONS_WAIT_INDEXED, request(), wait_ms), "session"
        )
        return response.indexed_vector_count

    def create_payload_index(
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
        response = self._transport.retried(calls.COLLECTIONS_CREATE_PAYLOAD_INDEX, request, wait_ms)
        return collection_from_wire(response.collection)

    def drop_payload_index(self, path: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """INVALID_SCHEMA where the field has none."""
        request = collections_pb2.DropPayloadIndexRequest(collection=self.name, path=path)
        response = self._transport.once(calls.COLLECTIONS_DROP_PAYLOAD_INDEX, request, deadline_ms)
        return collection_from_wire(response.collection)

    def list_payload_indexes(self, *, deadline_ms: float | None = None) -> list[PayloadIndexInfo]:
        request = collections_pb2.ListPayloadIndexesRequest(collection=self.name)
        return index_infos_from_wire(
            (self._transport.retried(calls.COLLECTIONS_LIST_PAYLOAD_INDEXES, request, deadline_ms)).indexes
        )

    def add_vector_field(
        self, name: str, spec: VectorSpec, *, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is one of the name."""
        request = collections_pb2.AddVectorFieldRequest(collection=self.name, field=vector_field_to_wire(name, spec))
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_ADD_VECTOR_FIELD, request, deadline_ms)).collection
        )

    def add_sparse_field(
        self, name: str, *, modifier: Literal["idf"] | None = None, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is a vector field of the name."""
        request = add_sparse_request(self.name, name, modifier)
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_ADD_VECTOR_FIELD, request, deadline_ms)).collection
        )

    def drop_vector_field(self, name: str, *, deadline_ms: float | None = None) -> CollectionInfo:
        """With the vectors that points have of it. UNKNOWN_VECTOR where there is none."""
        request = collections_pb2.DropVectorFieldRequest(collection=self.name, name=name)
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_DROP_VECTOR_FIELD, request, deadline_ms)).collection
        )

    def alter_vector_field(
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
        response = self._transport.retried(calls.COLLECTIONS_ALTER_VECTOR_FIELD, request, wait_ms)
        return AlteredVectorField(collection_from_wire(response.collection), response.generation)

    def list_generations(self, *, deadline_ms: float | None = None) -> list[GenerationInfo]:
        request = collections_pb2.ListGenerationsRequest(collection=self.name)
        return generations_from_wire(
            (self._transport.retried(calls.COLLECTIONS_LIST_GENERATIONS, request, deadline_ms)).generations
        )

    def alter_payload_index(
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
        response = self._transport.retried(calls.COLLECTIONS_ALTER_PAYLOAD_INDEX, request, wait_ms)
        return AlteredVectorField(collection_from_wire(response.collection), response.generation)

    def list_text_generations(self, *, deadline_ms: float | None = None) -> list[TextGenerationInfo]:
        """The generations of those indexes by BM25 that have two."""
        request = collections_pb2.ListGenerationsRequest(collection=self.name)
        return text_generations_from_wire(
            (self._transport.retried(calls.COLLECTIONS_LIST_GENERATIONS, request, deadline_ms)).text_generations
        )

    def promote_generation(
        self, field: str = "", *, index: str = "", force: bool = False, deadline_ms: float | None = None
    ) -> CollectionInfo:
        """FAILED_PRECONDITION, with the numbers, while it is not whole or its recall is too low (`force`: although it is)."""
        request = collections_pb2.PromoteGenerationRequest(collection=self.name, field=field, index=index, force=force)
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_PROMOTE_GENERATION, request, deadline_ms)).collection
        )

    def rollback_generation(
        self, field: str = "", *, index: str = "", deadline_ms: float | None = None
    ) -> CollectionInfo:
        """The generation that is kept answers again. FAILED_PRECONDITION where none is kept."""
        request = collections_pb2.RollbackGenerationRequest(collection=self.name, field=field, index=index)
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_ROLLBACK_GENERATION, request, deadline_ms)).collection
        )

    def drop_generation(
        self, field: str = "", *, index: str = "", deadline_ms: float | None = None
    ) -> CollectionInfo:
        """Drops the generation that does not answer. FAILED_PRECONDITION where there is none."""
        request = collections_pb2.DropGenerationRequest(collection=self.name, field=field, index=index)
        return collection_from_wire(
            (self._transport.once(calls.COLLECTIONS_DROP_GENERATION, request, deadline_ms)).collection
        )
