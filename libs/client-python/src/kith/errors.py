"""The errors of Kith: one class with a stable code, and subclasses by what a caller can do about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Detail = str | int | float | bool


class KithError(Exception):
    """What went wrong. Decide by `code`, or by the subclass, never by the message.

    `details` names the fault (texts, where the server told it); `retry_after_ms` is how long to wait before another try.
    """

    code: str
    message: str
    details: dict[str, Detail]
    retry_after_ms: float | None

    def __init__(
        self,
        code: str,
        message: str,
        details: Mapping[str, Detail] | None = None,
        retry_after_ms: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after_ms = retry_after_ms

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later without a change by the caller."""
        return self.code in RETRYABLE

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.code, self.message, self.details, self.retry_after_ms))


class InvalidRequestError(KithError):
    """The request cannot be meant so: its details name the field."""


class NotFoundError(KithError):
    """There is no such collection, point, key, or other thing."""


class AlreadyExistsError(KithError):
    """The name or id is taken."""


class PreconditionError(KithError):
    """The state of things does not allow it."""


class ConflictError(KithError):
    """Something changed meanwhile; the same again may succeed."""


class UnavailableError(KithError):
    """A server or what it needs is away; the same again may succeed."""


class ExhaustedError(KithError):
    """Too much at once, or no room; the same may succeed later."""


class AuthenticationError(KithError):
    """The server does not know who calls."""


class PermissionDeniedError(KithError):
    """The caller may not do that."""


class DeadlineExceededError(KithError):
    """No answer came in time."""


class CancelledError(KithError):
    """The call was ended before it was answered."""


class UnsupportedError(KithError):
    """The server does not know the call."""


class InternalError(KithError):
    """A fault of Kith, or damaged data."""


# The gRPC status and the class of each code; the same codes as libs/base/errors.ts.
_invalid = (3, InvalidRequestError)
_missing = (5, NotFoundError)
_exists = (6, AlreadyExistsError)
_precondition = (9, PreconditionError)
_aborted = (10, ConflictError)
_exhausted = (8, ExhaustedError)
_unavailable = (14, UnavailableError)

ERROR_CODES: Final[Mapping[str, tuple[int, type[KithError]]]] = {
    "INVALID_ARGUMENT": _invalid,
    "INVALID_NAME": _invalid,
    "INVALID_ID": _invalid,
    "DUPLICATE_ID": _invalid,
    "INVALID_PAYLOAD": _invalid,
    "INVALID_SCHEMA": _invalid,
    "INVALID_TOKEN": _invalid,
    "TOKEN_EXPIRED": _precondition,
    "INVALID_FILTER": _invalid,
    "DIMENSION_MISMATCH": _invalid,
    "VECTOR_NOT_FINITE": _invalid,
    "ZERO_VECTOR": _invalid,
    "VECTOR_OUT_OF_RANGE": _invalid,
    "UNKNOWN_VECTOR": _invalid,
    "LIMIT_OUT_OF_RANGE": _invalid,
    "PAYLOAD_TOO_LARGE": _invalid,
    "BATCH_TOO_LARGE": _invalid,
    "COLLECTION_LIMIT": _invalid,
    "PARTITION_KEY_MISSING": _invalid,
    "PARTITION_KEY_FIXED": _invalid,
    "INVALID_CONFIG": _invalid,
    "COLLECTION_NOT_FOUND": _missing,
    "POINT_NOT_FOUND": _missing,
    "NOT_FOUND": _missing,
    "COLLECTION_EXISTS": _exists,
    "POINT_EXISTS": _exists,
    "ALREADY_EXISTS": _exists,
    "FAILED_PRECONDITION": _precondition,
    "VERSION_MISMATCH": _precondition,
    "CONDITION_FAILED": _precondition,
    "READ_ONLY": _precondition,
    "COLLECTION_NOT_READY": _unavailable,
    "REVISION_MISMATCH": _aborted,
    "STALE_EPOCH": _aborted,
    "RESOURCE_EXHAUSTED": _exhausted,
    "DISK_FULL": _exhausted,
    "LOG_UNAVAILABLE": _unavailable,
    "CATALOG_UNAVAILABLE": _unavailable,
    "SHARD_UNAVAILABLE": _unavailable,
    "SHUTTING_DOWN": _unavailable,
    "SERVER_UNREACHABLE": _unavailable,
    "TLS_MISMATCH": _precondition,
    "CERTIFICATE_UNTRUSTED": _precondition,
    "INVALID_ADDRESS": _invalid,
    "UNAUTHENTICATED": (16, AuthenticationError),
    "PERMISSION_DENIED": (7, PermissionDeniedError),
    "DEADLINE_EXCEEDED": (4, DeadlineExceededError),
    "CANCELLED": (1, CancelledError),
    "UNIMPLEMENTED": (12, UnsupportedError),
    "CORRUPT_DATA": (15, InternalError),
    "INTERNAL": (13, InternalError),
}

RETRYABLE: Final[frozenset[str]] = frozenset(
    code for code, (_, kind) in ERROR_CODES.items() if kind in (ConflictError, ExhaustedError, UnavailableError)
)


def error_of(
    code: str,
    message: str,
    details: Mapping[str, Detail] | None = None,
    retry_after_ms: float | None = None,
) -> KithError:
    """The error of the class that the code has; KithError itself for a code of a newer server."""
    kind = ERROR_CODES[code][1] if code in ERROR_CODES else KithError
    return kind(code, message, details, retry_after_ms)
