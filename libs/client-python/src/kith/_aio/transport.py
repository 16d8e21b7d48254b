"""The channel of the asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from kith._connect import diagnose
from kith._options import ConnectOptions
from kith._retry import Retrier
from kith._rpc import check_request_size, check_wait, error_of_rpc
from kith._tls import Channels, TlsOptions, channel_options, credentials_of
from kith.errors import KithError, error_of
from kith.v1.calls import Call, Request, Response

Item = TypeVar("Item")


async def each(source: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    """The items of either kind of source."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def diagnosed(target: str, tls: bool | TlsOptions, timeout_s: float) -> KithError:
    return await asyncio.to_thread(diagnose, target, tls, timeout_s)


def error_from(error: grpc.RpcError) -> KithError:
    if isinstance(error, grpc.aio.AioRpcError):
        return error_of_rpc(int(error.code().value[0]), error.details() or "", error.trailing_metadata())
    return error_of("INTERNAL", str(error))


class AsyncStream(Generic[Request, Response]):
    """A stream of answers, and of requests where the call takes more than one."""

    def __init__(self, rpc: Any, open_requests: bool) -> None:
        self._rpc = rpc
        self._open_requests = open_requests
        self._answers: asyncio.Queue[Response | KithError] = asyncio.Queue(maxsize=64)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        # Reads on its own: to give up a read would end the call.
        try:
            while (answer := await self._rpc.read()) is not grpc.aio.EOF:
                await self._answers.put(answer)
            # Raises where it did not end well.
            status = await self._rpc.code()
            error = error_of("SERVER_UNREACHABLE", "the server ended the stream")
            if status is not grpc.StatusCode.OK:
                error = error_of_rpc(
                    int(status.value[0]), await self._rpc.details() or "", await self._rpc.trailing_metadata()
                )
        except grpc.RpcError as thrown:
            error = error_from(thrown)
        await self._answers.put(error)

    async def send(self, message: Request) -> None:
        """What cannot be sent is told by `receive`."""
        try:
            await self._rpc.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            return

    async def receive(self, timeout_s: float | None) -> Response | None:
        """The next answer; None where none came in time; raises where the stream ended."""
        try:
            answer = await asyncio.wait_for(self._answers.get(), timeout_s)
        except asyncio.TimeoutError:
            return None
        if isinstance(answer, KithError):
            raise answer
        return answer

    async def close(self) -> None:
        self._rpc.cancel()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


class AsyncTransport:
    """The channel with what every call shares: deadlines, retries, headers. Calls of one event loop."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self.target = options.target
        self.parse_payload = options.parse_payload
        self.retrier = Retrier(options.retry)
        self.closed = False
        check_wait(options.deadline_ms, "deadline_ms")
        self._channels = Channels(options.tls, self._new_channel)

    def _new_channel(self) -> grpc.aio.Channel:
        credentials = credentials_of(self.options.tls)
        settings = channel_options(self.options.tls)
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, settings)
        return grpc.aio.secure_channel(self.target, credentials, settings)

    async def close(self) -> None:
        self.closed = True
        for channel in self._channels.all:
            await channel.close()

    def _check_open(self) -> None:
        if self.closed:
            raise error_of("FAILED_PRECONDITION", "the client is closed; connect_async() gives a new one")

    def end_of(self, deadline_ms: float | None) -> float:
        """When a call that begins now must have ended, in monotonic seconds."""
        return (
            time.monotonic()
            + (self.options.deadline_ms if deadline_ms is None else check_wait(deadline_ms, "deadline_ms")) / 1000
        )

    async def once(
        self, call: Call[Request, Response], request: Request, deadline_ms: float | None = None, traceparent: str = ""
    ) -> Response:
        """One attempt."""
        return await self._attempt(call, request, self.end_of(deadline_ms), traceparent)

    async def retried(
        self, call: Call[Request, Response], request: Request, deadline_ms: float | None = None, traceparent: str = ""
    ) -> Response:
        """A call that may be repeated."""
        end = self.end_of(deadline_ms)
        self.retrier.deposit()
        tried = 0
        while True:
            tried += 1
            try:
                return await self._attempt(call, request, end, traceparent)
            except KithError as error:
                wait = self.retrier.pause_ms(error, tried, (end - time.monotonic()) * 1000)
                if wait is None:
                    raise
            await pause(wait / 1000)

    async def _attempt(self, call: Call[Request, Response], request: Request, end: float, traceparent: str) -> Response:
        self._check_open()
        check_request_size(request.ByteSize())
        left = end - time.monotonic()
        if left <= 0:
            raise error_of("DEADLINE_EXCEEDED", "the deadline passed before the call was made")
        method: Any = self._channels.newest.unary_unary(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        try:
            response: Response = await method(request, timeout=left, metadata=self.options.metadata(traceparent))
        except grpc.RpcError as thrown:
            raise error_from(thrown) from None
        except asyncio.CancelledError:
            # Also what calls in flight meet when the channel is closed.
            if self.closed:
                raise error_of("CANCELLED", "the client was closed while the call was in flight") from None
            raise
        return response

    def open_stream(self, call: Call[Request, Response]) -> AsyncStream[Request, Response]:
        """A stream of requests and answers."""
        self._check_open()
        method: Any = self._channels.newest.stream_stream(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        return AsyncStream(method(metadata=self.options.metadata()), True)

    def open_answers(self, call: Call[Request, Response], request: Request) -> AsyncStream[Request, Response]:
        """A stream of answers to one request."""
        self._check_open()
        method: Any = self._channels.newest.unary_stream(
            call.path, call.request.SerializeToString, call.response.FromString
        )
        return AsyncStream(method(request, metadata=self.options.metadata()), False)
