# Made by make_sync.py from _aio/collection_calls.py: change that one.
"""What all calls about one collection share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kith._sync.transport import Transport
from kith._checks import check_collection_name
from kith._session import Session
from kith._write import unknown_outcome
from kith.errors import KithError
from kith.types import ReadConsistency, Token
from kith.v1 import common_pb2
from kith.v1.calls import Call, Request

Answer = TypeVar("Answer")


class CollectionCalls:
    """The calls of one collection: what was written here before is seen by what is read."""

    def __init__(self, name: str, transport: Transport, session: Session) -> None:
        self.name = check_collection_name(name)
        self._transport = transport
        self._session = session

    @property
    def token(self) -> Token:
        """What this client has written here; another process reads at least that with `consistency=token`."""
        return self._session.token

    def _read(self, ask: Callable[[], Answer], consistency: ReadConsistency) -> Answer:
        """One read, whose token is taken in. Once more where the name is an alias that means another collection than the session's token is of."""
        for attempt in (1, 2):
            epoch = self._session.epoch
            try:
                answer = ask()
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

    def _write(self, call: Call[Request, Any], request: Any, deadline_ms: float | None) -> Any:
        epoch = self._session.epoch
        try:
            response = self._transport.retried(call, request, deadline_ms)
        except KithError as error:
            self._forget_refused(error, "session", epoch)
            raise unknown_outcome(error, request.options.idempotency_key) from error
        self._session.wrote(response.token, epoch)
        return response

    def _forget_refused(self, error: KithError, consistency: ReadConsistency, epoch: int) -> None:
        """Where the session's own token was refused, the next read starts afresh with whatever has the name."""
        if error.code == "INVALID_TOKEN" and consistency == "session":
            self._session.clear(epoch)
