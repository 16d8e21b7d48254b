"""The connection to a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from kith._aio.admin import AsyncAliases, AsyncBackups, AsyncCluster, AsyncCollections, AsyncKeys, AsyncRoles
from kith._aio.collection import AsyncCollectionHandle
from kith._aio.transport import AsyncTransport, diagnosed, pause
from kith._checks import check_collection_name, invalid
from kith._connect import DEFAULT_TARGET, check_target
from kith._options import ConnectOptions
from kith._retry import RetryOptions
from kith._rpc import check_wait
from kith._session import Session
from kith._tls import TlsOptions
from kith.errors import KithError, error_of
from kith.v1 import calls, collections_pb2


class AsyncKithClient:
    """A connection to a Kith server. Cheap to share, expensive to make: one per process is enough. Use `connect_async()`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        # By name of the collection; as many as the program uses names.
        self._sessions: dict[str, Session] = {}
        self.collections = AsyncCollections(transport)
        self.aliases = AsyncAliases(transport)
        self.cluster = AsyncCluster(transport)
        self.backups = AsyncBackups(transport)
        self.keys = AsyncKeys(transport)
        self.roles = AsyncRoles(transport)

    @property
    def target(self) -> str:
        """The address that was given to `connect_async()`."""
        return self._transport.target

    def collection(self, name: str) -> AsyncCollectionHandle:
        """A handle for one collection, which need not exist yet. Handles of one name share what the client has written."""
        session = self._sessions.setdefault(check_collection_name(name), Session())
        return AsyncCollectionHandle(name, self._transport, session)

    async def close(self) -> None:
        """Ends the connection. Calls in flight fail with CANCELLED; later ones with FAILED_PRECONDITION."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncKithClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def connect_async(
    target: str = DEFAULT_TARGET,
    *,
    connect_timeout_ms: float | None = None,
    deadline_ms: float = 30_000,
    tls: bool | TlsOptions = False,
    api_key: str | Callable[[], str] | None = None,
    headers: Mapping[str, str] | None = None,
    retry: RetryOptions | None = None,
    parse_payload: Callable[[bytes], Any] = json.loads,
) -> AsyncKithClient:
    """Connects to a Kith server and waits until it answers.

    `connect_timeout_ms`: how long to wait for the server; by default 5 000 for one that does not answer, and no time where nothing listens.
    `deadline_ms`: of calls that name none. `api_key`: a key or a token; a function is asked before each call.
    SERVER_UNREACHABLE, TLS_MISMATCH, CERTIFICATE_UNTRUSTED; UNIMPLEMENTED where something answers that is not Kith.
    """
    if not isinstance(tls, bool | TlsOptions):
        raise invalid("tls", "must be True, False or TlsOptions")
    if retry is not None and not isinstance(retry, RetryOptions):
        raise invalid("retry", "must be RetryOptions")
    options = ConnectOptions(
        check_target(target), deadline_ms, tls, api_key, dict(headers or {}), retry or RetryOptions(), parse_payload
    )
    transport = AsyncTransport(options)
    try:
        await _wait_for_server(transport, connect_timeout_ms)
    except BaseException:
        await transport.close()
        raise
    return AsyncKithClient(transport)


async def _wait_for_server(transport: AsyncTransport, connect_timeout_ms: float | None) -> None:
    patience_ms = check_wait(5_000 if connect_timeout_ms is None else connect_timeout_ms, "connect_timeout_ms")
    end = time.monotonic() + patience_ms / 1000
    wait = 0.02
    while True:
        try:
            # What the router answers by itself, whatever is behind it.
            request = collections_pb2.ExistsCollectionRequest(name="connect")
            await transport.once(calls.COLLECTIONS_EXISTS, request, max(1.0, (end - time.monotonic()) * 1000))
            return
        except KithError as error:
            if error.code == "UNIMPLEMENTED":
                message = f"what answers at {transport.target} is not a Kith server: {error.message}"
                raise error_of("UNIMPLEMENTED", message, {"target": transport.target}) from error
            # A server whose catalog or log is away answers reads all the same.
            if error.code in ("CATALOG_UNAVAILABLE", "LOG_UNAVAILABLE"):
                return
            if not error.retryable and error.code != "DEADLINE_EXCEEDED":
                raise
            problem = await diagnosed(
                transport.target, transport.options.tls, min(1.0, max(0.05, end - time.monotonic()))
            )
            refused = connect_timeout_ms is None and problem.details.get("reason") == "refused"
            if problem.code != "SERVER_UNREACHABLE" or refused or time.monotonic() + wait >= end:
                raise problem from error
        await pause(wait)
        wait = min(0.5, wait * 2)
