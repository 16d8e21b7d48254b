"""What both transports share: channel options, errors of gRPC as errors of Kith, deadlines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from kith._checks import wrong_value
from kith.errors import ERROR_CODES, Detail, KithError, error_of
from kith.v1 import points_pb2

#: Largest message in either direction, in bytes; libs/base/limits.ts has the server's.
MESSAGE_BYTES: Final = 32 * 1024 * 1024
#: 23 days, the longest time to wait.
DEADLINE_MS_MAX: Final = 2_000_000_000

_DOMAIN: Final = "kith"
_STATUS_KEY: Final = "grpc-status-details-bin"
_TOO_LARGE: Final = re.compile(r"message.*larger than", re.IGNORECASE)

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # Checked before, with an error that says what to do.
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Retries belong to who knows what may be repeated.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

# The nearest code for a status that does not come from Kith itself.
_CODE_BY_STATUS: Final[Mapping[int, str]] = {
    1: "CANCELLED",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "REVISION_MISMATCH",
    11: "INVALID_ARGUMENT",
    12: "UNIMPLEMENTED",
    14: "SERVER_UNREACHABLE",
    15: "CORRUPT_DATA",
    16: "UNAUTHENTICATED",
}


def check_wait(ms: float, what: str) -> float:
    """A time to wait; INVALID_ARGUMENT for others than positive numbers."""
    if isinstance(ms, int | float) and not isinstance(ms, bool) and ms > 0:
        return min(float(ms), DEADLINE_MS_MAX)
    raise wrong_value(what, ms, "it must be more than 0 milliseconds")


def check_request_size(size_bytes: int) -> None:
    if size_bytes > MESSAGE_BYTES:
        raise error_of(
            "BATCH_TOO_LARGE",
            f"the request has {size_bytes} bytes; at most {MESSAGE_BYTES} fit into one message: send less at once",
            {"sizeBytes": size_bytes, "limitBytes": MESSAGE_BYTES},
        )


def error_of_rpc(status: int, message: str, trailers: Any) -> KithError:
    """The error behind a failed call. Where Kith answered: its own code, message, details and time to wait."""
    rich = next((value for key, value in trailers or () if key == _STATUS_KEY), None)
    code = _CODE_BY_STATUS.get(status, "INTERNAL")
    details: dict[str, Detail] = {}
    retry_after_ms: float | None = None
    if isinstance(rich, bytes):
        try:
            decoded = status_pb2.Status.FromString(rich)
            for detail in decoded.details:
                if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                    info = error_details_pb2.ErrorInfo.FromString(detail.value)
                    if info.domain == _DOMAIN and info.reason in ERROR_CODES:
                        code, message = info.reason, decoded.message
                    details.update(info.metadata)
                elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                    delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                    retry_after_ms = delay.seconds * 1000 + delay.nanos / 1e6
        except DecodeError as error:
            details["status_details"] = f"unreadable: {error}"
    elif code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(message):
        # Not for want of resources: it would be as large the next time.
        code, message = "BATCH_TOO_LARGE", f"{message}; send or ask for less at once"
    elif code == "DEADLINE_EXCEEDED":
        message = "the server did not answer within the deadline"
    return error_of(code, message, details, retry_after_ms)


def error_of_failure(failure: points_pb2.Failure) -> KithError:
    """The error of one request of a batch or a stream."""
    details: dict[str, Detail] = dict(failure.details)
    code = failure.code
    if code not in ERROR_CODES:
        details["code"] = code
        code = _CODE_BY_STATUS.get(failure.grpc_status, "INTERNAL")
    return error_of(code, failure.message, details, failure.retry_after_ms or None)
