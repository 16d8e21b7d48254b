"""When calls are tried again: a server that fails on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

import kith
from kith._retry import Retrier, RetryOptions
from kith.errors import error_of
from kith.v1 import calls, collections_pb2, points_pb2

FAST = RetryOptions(initial_ms=1, max_ms=2)


class FaultyServer:
    """Answers what its handler gives; a tuple (status, reason) is an error."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, dict[str, Any]]] = []
        self.handler: Callable[[str, Any], Any] = lambda path, request: None
        self.retry_after_s: float | None = None
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        by_path = {each.path: each for each in vars(calls).values() if isinstance(each, calls.Call)}
        server = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
                call = by_path.get(details.method)
                if call is None:
                    return None
                metadata = dict(details.invocation_metadata)

                def unary(request: Any, context: grpc.ServicerContext) -> Any:
                    server.seen.append((call.path, request, metadata))
                    return server.answer(call.path, request, context) or call.response()

                def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
                    for request in requests:
                        server.seen.append((call.path, request, metadata))
                        yield server.answer(call.path, request, context)

                coders = {
                    "request_deserializer": call.request.FromString,
                    "response_serializer": call.response.SerializeToString,
                }
                if call.client_streaming:
                    return grpc.stream_stream_rpc_method_handler(stream, **coders)
                return grpc.unary_unary_rpc_method_handler(unary, **coders)

        self._server.add_generic_rpc_handlers((Handler(),))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def answer(self, path: str, request: Any, context: grpc.ServicerContext) -> Any:
        answer = self.handler(path, request)
        if not isinstance(answer, tuple):
            return answer
        status, reason = answer
        details = []
        for message in (
            error_details_pb2.ErrorInfo(reason=reason, domain="kith", metadata={"field": "x"}),
            error_details_pb2.RetryInfo() if self.retry_after_s is not None else None,
        ):
            if message is None:
                continue
            if isinstance(message, error_details_pb2.RetryInfo):
                message.retry_delay.FromMicroseconds(int((self.retry_after_s or 0) * 1e6))
            packed = AnyMessage()
            packed.Pack(message)
            details.append(packed)
        rich = status_pb2.Status(code=status.value[0], message=f"it is {reason}", details=details)
        if reason:
            context.set_trailing_metadata((("grpc-status-details-bin", rich.SerializeToString()),))
        context.abort(status, f"plain {reason}")

    def calls(self, name: str) -> list[Any]:
        return [request for path, request, _ in self.seen if path.endswith(name)]

    def close(self) -> None:
        self._server.stop(None)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    faulty = FaultyServer()
    yield faulty
    faulty.close()


def failing(times: int, error: tuple[grpc.StatusCode, str], name: str, answer: Any = None) -> Callable[[str, Any], Any]:
    """The first calls of a name fail, later ones do not."""
    left = [times]

    def handler(path: str, _: Any) -> Any:
        if path.endswith(name) and left[0] > 0:
            left[0] -= 1
            return error
        return answer if path.endswith(name) else None

    return handler


AWAY = (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")


def test_a_write_is_repeated_under_its_key(server: FaultyServer) -> None:
    server.handler = failing(2, AWAY, "/UpsertColumns", points_pb2.UpsertResponse(upserted=1))
    with kith.connect(server.target, retry=FAST) as client:
        assert client.collection("c").upsert({"id": 1, "vector": [1]}).upserted == 1
    keys = [request.options.idempotency_key for request in server.calls("/UpsertColumns")]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32


def test_two_writes_have_two_keys(server: FaultyServer) -> None:
    with kith.connect(server.target) as client:
        for _ in range(2):
            client.collection("c").upsert({"id": 1, "vector": [1]})
    assert len({request.options.idempotency_key for request in server.calls("/UpsertColumns")}) == 2


@pytest.mark.parametrize("key", ["", "x" * 65, "a\ud800b", 5])
def test_keys_that_are_none_are_refused(server: FaultyServer, key: object) -> None:
    with kith.connect(server.target) as client, pytest.raises(kith.InvalidRequestError):
        client.collection("c").upsert({"id": 1, "vector": [1]}, idempotency_key=key)  # type: ignore[arg-type]
    assert server.calls("/UpsertColumns") == []


def test_retries_end_and_the_outcome_is_unknown(server: FaultyServer) -> None:
    server.handler = failing(99, AWAY, "/UpsertColumns")
    with kith.connect(server.target, retry=FAST) as client, pytest.raises(kith.UnavailableError) as caught:
        client.collection("c").upsert({"id": 1, "vector": [1]})
    assert caught.value.code == "LOG_UNAVAILABLE"
    assert len(server.calls("/UpsertColumns")) == 6
    key = server.calls("/UpsertColumns")[0].options.idempotency_key
    assert caught.value.details["idempotencyKey"] == key
    assert key in caught.value.message
    assert caught.value.details["field"] == "x"


def test_what_would_fail_again_is_not_repeated(server: FaultyServer) -> None:
    server.handler = failing(99, (grpc.StatusCode.INVALID_ARGUMENT, "DIMENSION_MISMATCH"), "/Query")
    with kith.connect(server.target, retry=FAST) as client, pytest.raises(kith.InvalidRequestError) as caught:
        client.collection("c").query(vector=[1])
    assert caught.value.code == "DIMENSION_MISMATCH"
    assert len(server.calls("/Query")) == 1


@pytest.mark.parametrize("name", ["create", "drop"])
def test_calls_that_may_not_be_repeated_are_made_once(server: FaultyServer, name: str) -> None:
    server.handler = lambda path, _: None if path.endswith("/Exists") else AWAY
    with kith.connect(server.target, retry=FAST) as client:
        handle = client.collection("c")
        with pytest.raises(kith.UnavailableError):
            handle.create(vectors={"dimension": 1}) if name == "create" else handle.drop()
    assert len([path for path, _, _ in server.seen if not path.endswith("/Exists")]) == 1


def test_the_server_says_how_long_to_wait(server: FaultyServer) -> None:
    server.retry_after_s = 0.2
    server.handler = failing(
        1, (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"), "/Count", points_pb2.CountResponse(count=5)
    )
    with kith.connect(server.target, retry=FAST) as client:
        begin = time.monotonic()
        assert client.collection("c").count() == 5
        assert time.monotonic() - begin >= 0.2


def test_a_pause_beyond_the_deadline_is_not_begun(server: FaultyServer) -> None:
    server.retry_after_s = 60
    server.handler = failing(9, (grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"), "/Count")
    with kith.connect(server.target) as client, pytest.raises(kith.ExhaustedError) as caught:
        client.collection("c").count(deadline_ms=5_000)
    assert caught.value.retry_after_ms == 60_000


def test_a_deadline_ends_a_call(server: FaultyServer) -> None:
    release = threading.Event()

    def handler(path: str, _: Any) -> Any:
        if path.endswith("/Count"):
            release.wait(10)

    server.handler = handler
    with kith.connect(server.target) as client, pytest.raises(kith.DeadlineExceededError):
        client.collection("c").count(deadline_ms=50)
    release.set()


def test_errors_of_others_have_the_nearest_code(server: FaultyServer) -> None:
    server.handler = lambda path, _: None if path.endswith("/Exists") else (grpc.StatusCode.PERMISSION_DENIED, "")
    with kith.connect(server.target) as client, pytest.raises(kith.PermissionDeniedError):
        client.collection("c").count()


def test_the_budget_bounds_retries() -> None:
    retrier = Retrier(RetryOptions(burst=2, ratio=0.5))
    error = error_of("SHARD_UNAVAILABLE", "away")
    assert [retrier.pause_ms(error, 1, 60_000) is None for _ in range(3)] == [False, False, True]
    retrier.deposit()
    assert retrier.pause_ms(error, 1, 60_000) is None
    retrier.deposit()
    pause = retrier.pause_ms(error, 1, 60_000)
    assert pause is not None
    assert 25 <= pause <= 50


def test_pauses_grow_to_their_limit() -> None:
    retrier = Retrier(RetryOptions(attempts=20, initial_ms=50, max_ms=400))
    error = error_of("SHARD_UNAVAILABLE", "away")
    pauses = [retrier.pause_ms(error, tried, 60_000) or 0 for tried in range(1, 10)]
    assert all(
        step / 2 <= pause <= step
        for pause, step in zip(pauses, [50, 100, 200, 400, 400, 400, 400, 400, 400], strict=True)
    )


def test_keys_and_headers_go_along(server: FaultyServer) -> None:
    secrets = iter(["first", "second", "third"])
    with kith.connect(server.target, api_key=lambda: next(secrets), headers={"X-Team": "a"}) as client:
        client.collection("c").count()
    metadata = next(each for path, _, each in server.seen if path.endswith("/Count"))
    assert metadata["authorization"] == "Bearer second"
    assert metadata["x-team"] == "a"


def test_a_bulk_stream_that_breaks_goes_on_with_the_same_keys(server: FaultyServer) -> None:
    broken = [False]

    def handler(path: str, request: Any) -> Any:
        if not path.endswith("/UpsertStream"):
            return None
        if len(server.calls("/UpsertStream")) == 3 and not broken[0]:
            broken[0] = True
            return (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        count = len(request.columns.nums) // 8
        return points_pb2.UpsertStreamResponse(
            request_id=request.request_id, response=points_pb2.UpsertResponse(upserted=count)
        )

    server.handler = handler
    with kith.connect(server.target, retry=FAST) as client:
        result = client.collection("c").upsert_many(
            ({"id": i, "vector": [1]} for i in range(50)), batch_points=5, in_flight=2
        )
    assert broken[0]
    assert result.upserted == 50
    first_ids: dict[str, bytes] = {}
    for request in server.calls("/UpsertStream"):
        key = request.columns.options.idempotency_key
        assert first_ids.setdefault(key, request.columns.nums) == request.columns.nums
    assert len(first_ids) == 10


def test_a_bulk_failure_that_may_pass_is_repeated(server: FaultyServer) -> None:
    failed = [0]

    def handler(path: str, request: Any) -> Any:
        if not path.endswith("/UpsertStream"):
            return None
        if failed[0] < 2:
            failed[0] += 1
            failure = points_pb2.Failure(
                code="RESOURCE_EXHAUSTED", message="slow down", retryable=True, retry_after_ms=5
            )
            return points_pb2.UpsertStreamResponse(request_id=request.request_id, failure=failure)
        return points_pb2.UpsertStreamResponse(
            request_id=request.request_id, response=points_pb2.UpsertResponse(upserted=1)
        )

    server.handler = handler
    with kith.connect(server.target, retry=FAST) as client:
        assert client.collection("c").upsert_many([{"id": 1, "vector": [1]}]).upserted == 1
    assert len({request.columns.options.idempotency_key for request in server.calls("/UpsertStream")}) == 1


def test_a_bulk_message_without_an_answer_ends_the_run(server: FaultyServer) -> None:
    release = threading.Event()

    def handler(path: str, _: Any) -> Any:
        if path.endswith("/UpsertStream"):
            release.wait(10)

    server.handler = handler
    with kith.connect(server.target) as client, pytest.raises(kith.DeadlineExceededError) as caught:
        client.collection("c").upsert_many([{"id": 1, "vector": [1]}], deadline_ms=100)
    assert caught.value.details["resumeIndex"] == 0
    release.set()


@pytest.mark.anyio
async def test_the_async_client_has_the_same_policy(server: FaultyServer) -> None:
    server.handler = failing(2, AWAY, "/UpsertColumns", points_pb2.UpsertResponse(upserted=1))
    async with await kith.connect_async(server.target, retry=FAST) as client:
        assert (await client.collection("c").upsert({"id": 1, "vector": [1]})).upserted == 1
    assert len({request.options.idempotency_key for request in server.calls("/UpsertColumns")}) == 1
    assert len(server.calls("/UpsertColumns")) == 3


def test_what_is_not_kith_is_said() -> None:
    other = grpc.server(futures.ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with pytest.raises(kith.UnsupportedError, match="not a Kith server"):
        kith.connect(f"127.0.0.1:{port}")
    other.stop(None)


def test_a_message_beyond_the_limit_is_not_sent(server: FaultyServer) -> None:
    with kith.connect(server.target) as client, pytest.raises(kith.KithError) as caught:
        client.collection("c").set_payload(list(range(1)), b"x" * 60_000, path="p" * 40_000_000)
    assert caught.value.code == "BATCH_TOO_LARGE"
    assert server.calls("/SetPayload") == []


def test_a_collection_of_another_name_meanwhile_ends_a_scroll(server: FaultyServer) -> None:
    pages = iter(("one", "two"))

    def handler(path: str, _: Any) -> Any:
        if not path.endswith("/Scroll"):
            return None
        page = points_pb2.ScrollResponse(next_cursor=b"more")
        page.token.collection_id = next(pages)
        return page

    server.handler = handler
    with kith.connect(server.target) as client, pytest.raises(kith.NotFoundError) as caught:
        list(client.collection("c").scroll())
    assert caught.value.code == "COLLECTION_NOT_FOUND"


def test_an_alias_that_was_switched_is_asked_once_more(server: FaultyServer) -> None:
    def handler(path: str, request: Any) -> Any:
        if path.endswith("/UpsertColumns"):
            written = points_pb2.UpsertResponse(upserted=1)
            written.token.collection_id = "old"
            written.token.shards.add(shard=0, sequence=7)
            return written
        if path.endswith("/Count"):
            return points_pb2.CountResponse(count=3)
        return collections_pb2.ExistsCollectionResponse() if path.endswith("/Exists") else None

    server.handler = handler
    with kith.connect(server.target) as client:
        handle = client.collection("alias")
        handle.upsert({"id": 1, "vector": [1]})
        assert handle.count() == 3
        sent = server.calls("/Count")[0].consistency.at_least
        assert (sent.collection_id, sent.shards[0].sequence) == ("old", 7)
        assert handle.count(consistency="none") == 3
        assert not server.calls("/Count")[1].HasField("consistency")


@pytest.mark.parametrize(
    "options",
    [{"attempts": "many"}, {"attempts": float("nan")}, {"attempts": float("inf")}, {"initial_ms": -1}, {"burst": True}],
)
def test_options_that_are_no_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(kith.KithError, match=next(iter(options))) as refused:
        kith.RetryOptions(**options)
    assert refused.value.code == "LIMIT_OUT_OF_RANGE"
