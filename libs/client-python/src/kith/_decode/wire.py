"""What answers of all kinds have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from kith._checks import whole_number
from kith._times import time_of

ParsePayload = Callable[[bytes], Any]


def optional_in(message: Message, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def time_in(message: Message, name: str) -> Any:
    return time_of(getattr(message, name)) if message.HasField(name) else None


def plain(kind: Callable[..., Any], message: Message, names: Sequence[str], /, **others: Any) -> Any:
    """A result whose fields have the names of the message's."""
    return kind(**{name: getattr(message, name) for name in names}, **others)


def name_in(table: Mapping[str, int], value: int, otherwise: str) -> Any:
    return next((name for name, number in table.items() if number == value), otherwise)


def limit_of(value: object, what: str) -> int:
    """0 is "the default" on the wire, and nobody asks for nothing on purpose."""
    return whole_number(value, what, low=1)
