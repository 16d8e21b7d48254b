# Made by make_sync.py from _aio/client.py: change that one.
"""The connection to a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from kith._sync.admin import Aliases, Backups, Cluster, Collections, Keys, Roles
from kith._sync.collection import CollectionHandle
from kith._sync.transport import Transport, diagnosed, pause
from kith._checks import check_collection_name, invalid
from kith._connect import DEFAULT_TARGET, check_target
from kith._options import ConnectOptions
from kith._retry import RetryOptions
from kith._rpc import check_wait
from kith._session import Session
from kith._tls import TlsOptions
from kith.errors import KithError, error_of
from kith.v1 import calls, collections_pb2


class KithClient:
    """A connection to a Kith server. Cheap to share, expensive to make: one per process is enough. Use `connect()`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # By name of the collection; as many as the program uses names.
        self._sessions: dict[str, Session] = {}
        self.collections = Collections(transport)
        self.aliases = Aliases(transport)
        self.cluster = Cluster(transport)
        self.backups = Backups(transport)
        self.keys = Keys(transport)
        self.roles = Roles(transport)

    @property
    def target(self) -> str:
        """The address that was given to `connect()`."""
        return self._transport.target

    def collection(self, name: str) -> CollectionHandle:
        """A handle for one collection, which need not exist yet. Handles of one name share what the client has written."""
        session = self._sessions.setdefault(check_collection_name(name), Session())
        return CollectionHandle(name, self._transport, session)

    def close(self) -> None:
        """Ends the connection. Calls in flight fail with CANCELLED; later ones with FAILED_PRECONDITION."""
        self._transport.close()

    def __enter__(self) -> KithClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    target: str = DEFAULT_TARGET,
    *,
    connect_timeout_ms: float | None = None,
    deadline_ms: float = 30_000,
    tls: bool | TlsOptions = False,
    api_key: str | Callable[[], str] | None = None,
    headers: Mapping[str, str] | None = None,
    retry: RetryOptions | None = None,
    parse_payload: Callable[[bytes], Any] = json.loads,
) -> KithClient:
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
    transport = Transport(options)
    try:
        _wait_for_server(transport, connect_timeout_ms)
    except BaseException:
        transport.close()
        raise
    return KithClient(transport)


def _wait_for_server(transport: Transport, connect_timeout_ms: float | None) -> None:
    patience_ms = check_wait(5_000 if connect_timeout_ms is None else connect_timeout_ms, "connect_timeout_ms")
    end = time.monotonic() + patience_ms / 1000
    wait = 0.02
    while True:
        try:
            # What the router answers by itself, whatever is behind it.
            request = collections_pb2.ExistsCollectionRequest(name="connect")
            transport.once(calls.COLLECTIONS_EXISTS, request, max(1.0, (end - time.monotonic()) * 1000))
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
            problem = diagnosed(
                transport.target, transport.options.tls, min(1.0, max(0.05, end - time.monotonic()))
            )
            refused = connect_timeout_ms is None and problem.details.get("reason") == "refused"
            if problem.code != "SERVER_UNREACHABLE" or refused or time.monotonic() + wait >= end:
                raise problem from error
        pause(wait)
        wait = min(0.5, wait * 2)
