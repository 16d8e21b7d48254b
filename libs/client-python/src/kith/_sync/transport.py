"""The channel of the synchronous client. Threads may share it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from kith._connect import diagnose
from kith._options import ConnectOptions
from kith._retry import Retrier
from kith._rpc import check_request_size, check_wait, error_of_rpc
from kith._tls import Channels, TlsOptions, channel_options, credentials_of
from kith.errors import KithError, error_of
from kith.v1.calls import Call, Request, Response

Item = TypeVar("Item")

#: Answers that wait to be taken; beyond them HTTP/2 flow control holds the server.
_ANSWERS_MAX = 64


def each(source: Iterable[Item]) -> Iterator[Item]:
    if isinstance(source, Iterable):
        return iter(source)
    raise error_of("INVALID_ARGUMENT", f"the source is a {type(source).__name__}; give an iterable of points")


def pause(seconds: float) -> None:
    time.sleep(seconds)


def diagnosed(target: str, tls: bool | TlsOptions, timeout_s: float) -> KithError:
    return diagnose(target, tls, timeout_s)


def error_from(error: grpc.RpcError) -> KithError:
    if isinstance(error, grpc.Call):
        return error_of_rpc(int(error.code().value[0]), error.details() or "", error.trailing_metadata())
    return error_of("INTERNAL", str(error))


class Stream(Generic[Request, Response]):
    """A stream of answers, and of requests where the call takes more than one."""

    def __init__(self, rpc: Any, requests: queue.SimpleQueue[Request | None] | None) -> None:
        self._rpc = rpc
        self._requests = requests
        self._answers: queue.Queue[Response | KithError] = queue.Queue(_ANSWERS_MAX)
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="kith-stream", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for answer in self._rpc:
                self._put(answer)
            error = error_of("SERVER_UNREACHABLE", "the server ended the stream")
        except grpc.RpcError as thrown:
            error = error_from(thrown)
        self._put(error)

    def _put(self, answer: Response | KithError) -> None:
        while not self._closed:
            try:
                self._answers.put(answer, timeout=0.1)
                return
            except queue.Full:
                continue

    def send(self, message: Request) -> None:
        """What cannot be sent is told by `receive`."""
        if self._requests is not None:
            self._requests.put(message)

    def receive(self, timeout_s: float | None) -> Response | None:
        """The next answer; None where none came in time; raises where the stream ended."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(answer, KithError):
            raise answer
        return answer

    def close(self) -> None:
        self._closed = True
        if self._requests is not None:
            self._requests.put(None)
        self._rpc.cancel()
        self._reader.join(timeout=5)


class Transport:
    """The channel with what every call shares: deadlines, retries, headers."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self.target = options.target
        self.parse_payload = options.parse_payload
        self.retrier = Retrier(options.retry)
        self._closing = threading.Event()
        check_wait(options.deadline_ms, "deadline_ms")
        self._channels = Channels(options.tls, self._new_channel)

    def _new_channel(self) -> grpc.Channel:
        credentials = credentials_of(self.options.tls)
        settings = channel_options(self.options.tls)
        if credentials is None:
            return grpc.insecure_channel(self.target, settings)
        return grpc.secure_channel(self.target, credentials, settings)

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        self._closing.set()
        for channel in self._channels.all:
            channel.close()

    def _check_open(self) -> None:
        if self.closed:
            raise error_of("FAILED_PRECONDITION", "the client is closed; connect() gives a new one")

    def end_of(self, deadline_ms: float | None) -> float:
        """When a call that begins now must have ended, in monotonic seconds."""
        return (
            time.monotonic()
            + (self.options.deadline_ms if deadline_ms is None else check_wait(deadline_ms, "deadline_ms")) / 1000
        )

    def once(
        self, call: Call[Request, Response], request: Request, deadline_ms: float | None = None, traceparent: str = ""
    ) -> Response:
        """One attempt."""
        return self._attempt(call, request, self.end_of(deadline_ms), traceparent)

    def retried(
        self, call: Call[Request, Response], request: Request, deadline_ms: float | None = None, traceparent: str = ""
    ) -> Response:
        """A call that may be repeated."""
        end = self.end_of(deadline_ms)
        self.retrier.deposit()
        tried = 0
        while True:
            tried += 1
            try:
                return self._attempt(call, request, end, traceparent)
            except KithError as error:
                wait = self.retrier.pause_ms(error, tried, (end - time.monotonic()) * 1000)
                if wait is None:
                    raise
            if self._closing.wait(wait / 1000):
                raise error_of("CANCELLED", "the client was closed while the call was in flight")

    def _attempt(self, call: Call[Request, Response], request: Request, end: float, traceparent: str) -> Response:
        self._check_open()
        check_request_size(request.ByteSize())
        left = end - time.monotonic()
        if left <= 0:
            raise error_of("DEADLINE_EXCEEDED", "the deadline passed before the call was made")
        method: Any = self._channels.newest.unary_unary(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        try:
            response: Response = method(request, timeout=left, metadata=self.options.metadata(traceparent))
        except grpc.RpcError as thrown:
            raise error_from(thrown) from None
        except ValueError:
            # What grpc raises where the channel was closed just now.
            self._check_open()
            raise
        return response

    def open_stream(self, call: Call[Request, Response]) -> Stream[Request, Response]:
        """A stream of requests and answers."""
        self._check_open()
        requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        method: Any = self._channels.newest.stream_stream(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        return Stream(method(iter(requests.get, None), metadata=self.options.metadata()), requests)

    def open_answers(self, call: Call[Request, Response], request: Request) -> Stream[Request, Response]:
        """A stream of answers to one request."""
        self._check_open()
        method: Any = self._channels.newest.unary_stream(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        return Stream(method(request, metadata=self.options.metadata()), None)
