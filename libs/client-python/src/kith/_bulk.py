"""Bulk upserts without the stream: what is sent next, and what an answer means. Both clients drive it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kith._checks import shown, whole_number
from kith._decode.points import item_errors
from kith._ids import id_key
from kith._retry import Retrier
from kith._rpc import MESSAGE_BYTES, check_request_size, check_wait, error_of_failure
from kith._session import Session, same_collection
from kith._write import BATCH_POINTS, Row, mode_to_wire, random_key, set_columns, write_options
from kith.errors import KithError, error_of
from kith.types import ItemError, SettledBatch, UpsertManyProgress, UpsertManyResult, WriteAck, WriteMode
from kith.v1 import points_pb2

_ERRORS_KEPT: Final = 100

# The fault of single points: the batch is halved until they are found, and the others are written.
_PER_ITEM: Final = frozenset(
    (
        "INVALID_ID",
        "DUPLICATE_ID",
        "INVALID_PAYLOAD",
        "VECTOR_NOT_FINITE",
        "ZERO_VECTOR",
        "VECTOR_OUT_OF_RANGE",
        "PAYLOAD_TOO_LARGE",
        "BATCH_TOO_LARGE",
    )
)
# The fault of every point of a batch, since all have the same shape.
_PER_BATCH: Final = frozenset(("DIMENSION_MISMATCH", "UNKNOWN_VECTOR"))
# What makes a single point unfit to be sent.
_REFUSED_BY_CLIENT: Final = _PER_ITEM | _PER_BATCH | {"INVALID_ARGUMENT"}


@dataclass(frozen=True)
class BulkOptions:
    batch_bytes: int = 1024 * 1024
    batch_points: int = BATCH_POINTS
    in_flight: int = 4
    ack: WriteAck = "applied"
    mode: WriteMode = "upsert"
    deadline_ms: float = 60_000
    on_progress: Callable[[UpsertManyProgress], None] | None = None
    on_item_error: Callable[[ItemError], None] | None = None
    on_batch: Callable[[SettledBatch], None] | None = None

    def __post_init__(self) -> None:
        whole_number(self.batch_bytes, "batch_bytes", 1, MESSAGE_BYTES // 2)
        whole_number(self.batch_points, "batch_points", 1, BATCH_POINTS)
        whole_number(self.in_flight, "in_flight", 1, 256)
        check_wait(self.deadline_ms, "deadline_ms")
        mode_to_wire(self.mode)
        write_options(self.ack, None)


@dataclass
class _Part:
    """A run of rows of a batch, as one message with all its tries."""

    start: int
    end: int
    key: str
    #: Monotonic seconds.
    end_at: float
    tried: int = 0
    not_before: float = 0.0
    request_id: int | None = None
    epoch: int = 0


@dataclass(eq=False)
class _Batch:
    first_index: int
    rows: list[Row] = field(default_factory=list)
    #: Position in the input of each row.
    indexes: list[int] = field(default_factory=list)
    #: Of the input: more than the rows where items were refused.
    count: int = 0
    size_bytes: int = 0
    #: Batches with an earlier row of one of its ids: it goes out when they are settled, retries included.
    after: set[_Batch] = field(default_factory=set)
    keys: set[object] = field(default_factory=set)
    #: Runs of rows that are still to be written, the next one last.
    runs: list[tuple[int, int]] = field(default_factory=list)
    part: _Part | None = None


class BulkCore:
    """One run of `upsert_many`."""

    def __init__(self, collection: str, session: Session, retrier: Retrier, options: BulkOptions) -> None:
        self._collection = collection
        self._session = session
        self._retrier = retrier
        self._options = options
        self._written = Session()
        self._batch = _Batch(0)
        #: Batches that are not settled, oldest first.
        self._open: list[_Batch] = []
        self._holders: dict[object, _Batch] = {}
        self._waiting: dict[int, _Batch] = {}
        self._next_id = 1
        self._settled: dict[int, int] = {}
        self._resume_index = 0
        self._sent = self._upserted = self._failed = self._bytes = 0
        self._errors: list[ItemError] = []

    @property
    def full(self) -> bool:
        """The source is not read further meanwhile."""
        return len(self._open) >= self._options.in_flight

    @property
    def done(self) -> bool:
        return not self._open

    def add(self, point: object) -> bool:
        """Takes a point in; True where a message became ready."""
        ready = False
        index = self._batch.first_index + self._batch.count
        try:
            row = Row(point)
        except KithError as error:
            if error.code not in _REFUSED_BY_CLIENT:
                raise
            given = point.get("id") if isinstance(point, Mapping) else getattr(point, "id", None)
            self._sent += 1
            self._refuse(ItemError(index, error.code, f"point {shown(given)}: {error.message}"))
        else:
            key = id_key(row.id)
            # One message holds each id once, and rows of one shape.
            if self._batch.rows and (key in self._batch.keys or row.shape != self._batch.rows[0].shape):
                self._flush()
                ready = True
            holder = self._holders.get(key)
            if holder is not None:
                self._batch.after.add(holder)
            self._holders[key] = self._batch
            self._batch.keys.add(key)
            self._batch.rows.append(row)
            self._batch.indexes.append(index)
            self._batch.size_bytes += row.size_bytes
        self._batch.count += 1
        options = self._options
        if self._batch.size_bytes >= options.batch_bytes or self._batch.count >= options.batch_points:
            self._flush()
            ready = True
        return ready

    def finish(self) -> None:
        """The source has ended."""
        if self._batch.count > 0:
            self._flush()

    def _flush(self) -> None:
        batch = self._batch
        self._batch = _Batch(batch.first_index + batch.count)
        self._sent += len(batch.rows)
        self._bytes += batch.size_bytes
        if not batch.rows:
            self._settle(batch)
            return
        batch.runs.append((0, len(batch.rows)))
        self._open.append(batch)

    def sendable(self, now: float) -> list[points_pb2.UpsertStreamRequest]:
        """The messages that go out now."""
        messages = []
        for batch in self._open:
            if len(self._waiting) >= self._options.in_flight:
                break
            if batch.after or (batch.part is not None and batch.part.request_id is not None):
                continue
            if batch.part is None:
                start, end = batch.runs.pop()
                batch.part = _Part(start, end, random_key(), now + self._options.deadline_ms / 1000)
                self._retrier.deposit()
            part = batch.part
            if part.not_before > now:
                continue
            part.request_id = self._next_id
            part.tried += 1
            part.epoch = self._session.epoch
            self._next_id += 1
            message = self._message(batch, part)
            self._waiting[part.request_id] = batch
            messages.append(message)
        return messages

    def _message(self, batch: _Batch, part: _Part) -> points_pb2.UpsertStreamRequest:
        message = points_pb2.UpsertStreamRequest(request_id=part.request_id)
        columns = message.columns
        columns.collection = self._collection
        columns.mode = mode_to_wire(self._options.mode)
        columns.options.CopyFrom(write_options(self._options.ack, part.key))
        set_columns(columns, batch.rows[part.start : part.end])
        check_request_size(message.ByteSize())
        return message

    def wait_s(self, now: float) -> float | None:
        """How long until something is due without an answer; None: nothing is."""
        due = [
            each.part.end_at if each.part.request_id is not None else each.part.not_before
            for each in self._open
            if each.part is not None
        ]
        return max(0.0, min(due) - now) if due else None

    def expire(self, now: float) -> None:
        """DEADLINE_EXCEEDED where a message is not answered in time."""
        for batch in self._open:
            if batch.part is not None and batch.part.request_id is not None and batch.part.end_at <= now:
                raise error_of("DEADLINE_EXCEEDED", "the upsert was not answered before its deadline")

    def answered(self, answer: points_pb2.UpsertStreamResponse, now: float) -> None:
        """Takes in one answer; raises where the run cannot go on."""
        batch = self._waiting.pop(answer.request_id, None)
        if batch is None or batch.part is None:
            return
        part = batch.part
        part.request_id = None
        outcome = answer.WhichOneof("outcome")
        if outcome == "response":
            self._took(batch, part, answer.response)
        elif outcome == "failure":
            self._failed_with(batch, part, error_of_failure(answer.failure), now)
        else:
            raise error_of("INTERNAL", "the server answered with neither a result nor an error")

    def broke(self, error: KithError, now: float) -> None:
        """The stream is gone: what was on it goes out again under the same keys; raises where it may not."""
        lost = list(self._waiting.values())
        self._waiting.clear()
        # The end of a stream says nothing about one request on it.
        if error.code in ("CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL"):
            error = error_of("SHARD_UNAVAILABLE", f"the stream of the upserts broke: {error.message}")
        if not lost and not error.retryable:
            raise error
        for batch in lost:
            if batch.part is not None:
                batch.part.request_id = None
                self._again(batch.part, error, now)

    def _took(self, batch: _Batch, part: _Part, response: points_pb2.UpsertResponse) -> None:
        self._session.wrote(response.token, part.epoch)
        same_collection(self._collection, self._written.collection_id, response.token)
        self._written.wrote(response.token, self._written.epoch)
        self._upserted += response.upserted
        for each in item_errors(response.errors):
            self._refuse(ItemError(batch.indexes[part.start + each.index], each.code, each.message))
        self._end_part(batch)

    def _failed_with(self, batch: _Batch, part: _Part, error: KithError, now: float) -> None:
        if error.code in _PER_ITEM and part.end - part.start > 1:
            # Nothing of a refused request was written. Halving finds the faulty points in a few messages.
            middle = (part.start + part.end) // 2
            batch.runs += [(middle, part.end), (part.start, middle)]
            batch.part = None
        elif error.code in _PER_ITEM or error.code in _PER_BATCH:
            message = error.message
            if part.end - part.start == 1:
                # The server tells which row of this message it is; what the caller has is the position in the input.
                message = re.sub(r"^row 0(?: \(.*?\))?: ", "", message)
            for row in range(part.start, part.end):
                self._refuse(ItemError(batch.indexes[row], error.code, message))
            self._end_part(batch)
        else:
            self._again(part, error, now)

    def _again(self, part: _Part, error: KithError, now: float) -> None:
        pause = self._retrier.pause_ms(error, part.tried, (part.end_at - now) * 1000)
        if pause is None:
            raise error
        part.not_before = now + pause / 1000

    def _end_part(self, batch: _Batch) -> None:
        batch.part = None
        if batch.runs:
            return
        self._open.remove(batch)
        for other in (*self._open, self._batch):
            other.after.discard(batch)
        for key in batch.keys:
            if self._holders.get(key) is batch:
                del self._holders[key]
        self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        self._settled[batch.first_index] = batch.count
        while (run := self._settled.pop(self._resume_index, None)) is not None:
            self._resume_index += run
        if self._options.on_batch is not None:
            self._options.on_batch(SettledBatch(batch.first_index, batch.count, self._resume_index))
        if self._options.on_progress is not None:
            self._options.on_progress(UpsertManyProgress(self._sent, self._upserted, self._failed, self._bytes))

    def _refuse(self, error: ItemError) -> None:
        self._failed += 1
        if len(self._errors) < _ERRORS_KEPT:
            self._errors.append(error)
        if self._options.on_item_error is not None:
            self._options.on_item_error(error)

    def result(self) -> UpsertManyResult:
        return UpsertManyResult(
            self._sent, self._upserted, self._failed, self._bytes, self._errors, self._written.token
        )

    def with_totals(self, error: KithError) -> KithError:
        """The error of the whole run, with how far it came."""
        message = (
            f"{error.message} (upsert_many stopped after {self._upserted} points; every item before position {self._resume_index} is "
            "settled, later ones may be written or not)"
        )
        details = {
            **error.details,
            "upserted": self._upserted,
            "failed": self._failed,
            "resumeIndex": self._resume_index,
        }
        return error_of(error.code, message, details, error.retry_after_ms)
