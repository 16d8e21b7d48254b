"""Filters: the textual form and the JSON form, as messages."""

from __future__ import annotations

from kith._filters.read_json import filter_from_json
from kith._filters.text import parse_filter
from kith._filters.write_json import filter_to_json
from kith.types import FilterInput
from kith.v1 import filter_pb2

__all__ = ["filter_from_json", "filter_of", "filter_to_json", "parse_filter"]


def filter_of(given: FilterInput | None) -> filter_pb2.Filter | None:
    """The message of a filter in its textual form or as JSON; INVALID_FILTER says what is wrong, and where."""
    if given is None:
        return None
    return filter_from_json(parse_filter(given) if isinstance(given, str) else given)
