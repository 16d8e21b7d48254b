"""Checks of what callers pass in, with errors that name the value."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from kith.errors import KithError, error_of

T = TypeVar("T")

_COLLECTION_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NAME_LENGTH: Final = 128


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def invalid(path: str, what: str) -> KithError:
    return error_of("INVALID_ARGUMENT", f"{path} {what}", {"path": path})


def wrong_value(what: str, value: object, why: str, code: str = "INVALID_ARGUMENT") -> KithError:
    return error_of(code, f"{what} is {shown(value)}; {why}", {"field": what, "value": shown(value)})


def only_keys(value: object, keys: Collection[str], at: str) -> Mapping[str, Any]:
    """The mapping itself; INVALID_ARGUMENT where it has another key, or is none: what is misspelt would be lost without a word."""
    if not isinstance(value, Mapping):
        raise invalid(at, "is no mapping")
    for key in value:
        if key not in keys:
            raise invalid(f"{at}.{key}", f"is unknown; known here are {', '.join(keys)}")
    return value


def list_of(value: object, at: str) -> Sequence[Any]:
    """INVALID_ARGUMENT for anything else; text is none."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return value
    raise wrong_value(at, value, "it must be a list")


def text_of(value: object, at: str) -> str:
    """INVALID_ARGUMENT for anything else, and for text that UTF-8 cannot hold."""
    if not isinstance(value, str):
        raise wrong_value(at, value, "it must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong_value(at, value, "it has a lone surrogate, which UTF-8 cannot hold") from None
    return value


def flag_of(value: object, at: str) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong_value(at, value, "it must be True or False")


def one_of(table: Mapping[str, T], name: object, what: str, code: str = "INVALID_ARGUMENT") -> T:
    if isinstance(name, str) and name in table:
        return table[name]
    raise wrong_value(what, name, f"use one of {', '.join(table)}", code)


def whole_number(value: object, what: str, low: int = 0, high: int = 0xFFFF_FFFF) -> int:
    """LIMIT_OUT_OF_RANGE for what is no whole number between both."""
    number = integer_of(value)
    if number is not None and low <= number <= high:
        return number
    raise wrong_value(what, value, f"it must be a whole number in {low}..{high}", "LIMIT_OUT_OF_RANGE")


def integer_of(value: object) -> int | None:
    """The integer that this is; None for anything else, bools included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    index = getattr(type(value), "__index__", None)
    # Integers of numpy; its bools have no __index__.
    return int(index(value)) if index is not None and getattr(value, "ndim", 0) == 0 else None


def finite(value: object, what: str) -> float:
    if isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool) and value - value == 0:
        return float(value)
    raise wrong_value(what, value, "it must be a finite number")


def check_collection_name(name: object) -> str:
    if not isinstance(name, str) or not _COLLECTION_NAME.fullmatch(name):
        raise error_of(
            "INVALID_NAME",
            f"the name of the collection is {shown(name)}; use letters, digits, _ and -, beginning with a letter or digit",
            {"name": shown(name)},
        )
    if len(name) > _NAME_LENGTH:
        raise error_of(
            "INVALID_NAME",
            f"the name of the collection has {len(name)} characters; at most {_NAME_LENGTH} are allowed",
            {"name": name[:80], "limit": _NAME_LENGTH},
        )
    return name


def partition_of(value: object) -> str | None:
    """The value of a partition key on the wire, where whole numbers are text; None for none."""
    if value is None or isinstance(value, str):
        return value
    number = integer_of(value)
    if number is None:
        raise wrong_value("partition", value, "give a string or a whole number")
    return str(number)


def names_of(names: str | Collection[str], what: str) -> list[str]:
    """One name, or several."""
    given = [names] if isinstance(names, str) else list(names)
    for name in given:
        if not isinstance(name, str):
            raise wrong_value(what, name, "it must be text")
    return given
