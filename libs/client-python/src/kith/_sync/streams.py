# Made by make_sync.py from _aio/streams.py: change that one.
"""Bulk upserts and watches over their streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from kith._sync.transport import Stream, Transport, each, pause
from kith._bulk import BulkCore, BulkOptions
from kith._checks import finite, only_keys
from kith._decode.points import change_from_wire
from kith._filters import filter_of
from kith._query_tree import select_to_wire
from kith._retry import backoff_ms
from kith._session import Session, token_from_wire, token_to_wire
from kith._vectors import vector_to_wire
from kith.errors import KithError
from kith.types import ChangeEvent, FilterInput, Point, PointInput, Token, UpsertManyResult, WithPayload, WithVectors
from kith.v1 import calls, points_pb2, watch_pb2


def upsert_many(
    transport: Transport,
    collection: str,
    session: Session,
    source: Iterable[PointInput | Point],
    options: BulkOptions,
) -> UpsertManyResult:
    """One run: reads the source, keeps a bounded number of messages in flight, reports."""
    core = BulkCore(collection, session, transport.retrier, options)
    run = _Run(transport, core)
    try:
        for point in each(source):
            if core.add(point):
                run.send()
            while core.full:
                run.step()
        core.finish()
        while not core.done:
            run.step()
    except KithError as error:
        raise core.with_totals(error) from error
    finally:
        run.close()
    return core.result()


class _Run:
    def __init__(self, transport: Transport, core: BulkCore) -> None:
        self._transport = transport
        self._core = core
        self._stream: Stream[points_pb2.UpsertStreamRequest, points_pb2.UpsertStreamResponse] | None = None

    def send(self) -> None:
        """Sends what is ready, on a new stream where the last one broke."""
        for message in self._core.sendable(time.monotonic()):
            if self._stream is None:
                self._stream = self._transport.open_stream(calls.POINTS_UPSERT_STREAM)
            self._stream.send(message)

    def step(self) -> None:
        """Sends what is ready, and takes in the next answer, or what is due."""
        self.send()
        wait_s = self._core.wait_s(time.monotonic())
        if self._stream is None:
            pause(wait_s or 0.001)
            return
        try:
            answer = self._stream.receive(wait_s)
        except KithError as error:
            self.close()
            self._core.broke(error, time.monotonic())
            return
        if answer is None:
            self._core.expire(time.monotonic())
        else:
            self._core.answered(answer, time.monotonic())

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def watch_collection(
    transport: Transport,
    collection: str,
    *,
    from_token: Token | None,
    filter: FilterInput | None,
    before: bool,
    near: Mapping[str, object] | None,
    with_payload: WithPayload,
    with_vectors: WithVectors,
    on_token: Callable[[Token], None] | None,
) -> Iterator[ChangeEvent]:
    """The changes of a collection, over as many streams as it takes: one that breaks goes on from the last token."""
    request = watch_pb2.WatchRequest(
        collection=collection,
        filter=filter_of(filter),
        before=before,
        select=select_to_wire(with_payload, with_vectors),
    )
    if near is not None:
        fields = only_keys(near, ("vector", "using", "threshold"), "near")
        using = str(fields.get("using", ""))
        request.near.using = using
        request.near.vector.CopyFrom(vector_to_wire(fields.get("vector"), using))
        request.near.threshold = finite(fields.get("threshold"), "near.threshold")
    if from_token is not None:
        getattr(request, "from").CopyFrom(token_to_wire(from_token))
    attempt = 0
    while True:
        stream = transport.open_answers(calls.CHANGES_WATCH, request)
        try:
            while True:
                answer = stream.receive(None)
                if answer is None:
                    continue
                attempt = 0
                # The token is behind all of the message: who goes on behind another change of it than the last has the message again.
                again = getattr(request, "from") if request.HasField("from") else answer.token
                last = len(answer.changes) - 1
                for i, change in enumerate(answer.changes):
                    yield change_from_wire(change, answer.token if i == last else again, transport.parse_payload)
                getattr(request, "from").CopyFrom(answer.token)
                if on_token is not None:
                    on_token(token_from_wire(answer.token))
        except KithError as error:
            if not error.retryable or transport.closed:
                raise
            wait_ms = error.retry_after_ms or backoff_ms(attempt, 50, 5_000)
            attempt += 1
        finally:
            stream.close()
        pause(wait_ms / 1000)
