"""Times between Python and the wire; all of them have a zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from kith._checks import integer_of, wrong_value


def timestamp_of(at: datetime, what: str) -> Timestamp:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise wrong_value(what, at, "give a datetime with a zone, such as datetime.now(timezone.utc)")
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(timezone.utc))
    return stamp


def time_of(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=timezone.utc)


def time_of_ms(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)


def expiry_ms(at: datetime | int | None) -> int:
    """Milliseconds since the Unix epoch; 0 for never."""
    if at is None:
        return 0
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise wrong_value("expires_at", at, "give a datetime with a zone, such as datetime.now(timezone.utc)")
        ms: int | None = round(at.timestamp() * 1000)
    else:
        ms = integer_of(at)
    if ms is None or not 0 < ms < 2**53:
        raise wrong_value("expires_at", at, "give a datetime after 1970, or whole milliseconds since the Unix epoch")
    return ms
