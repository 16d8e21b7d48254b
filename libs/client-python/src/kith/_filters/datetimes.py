"""Datetimes of filters: RFC 3339 with a zone, to the microsecond; libs/filter/datetime.ts has the same."""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(
    r"\s*([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?(?: ?(Z|z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?)?)?"
)
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class NoZoneError(ValueError):
    """A datetime that does not say its zone."""


def micros_of(text: str) -> int:
    """Microseconds since the Unix epoch; ValueError where the text is no datetime, NoZoneError where it names no zone."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second = int(match[4] or 0), int(match[5] or 0), int(match[6] or 0)
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] + (month == 2 and leap):
        raise ValueError(text)
    # The second 60 is the leap second: the first of the next minute.
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(text)
    if match[8] is None:
        raise NoZoneError(text)
    offset = 0
    if match[8][0] in "+-":
        digits = match[8][1:].replace(":", "").ljust(4, "0")
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 23 or minutes > 59:
            raise ValueError(text)
        offset = (hours * 3600 + minutes * 60) * (1 if match[8][0] == "+" else -1)
    # datetime has no year 0 and no second 60: counted as https://howardhinnant.github.io/date_algorithms.html does, days_from_civil.
    march_year = year - (month <= 2)
    era, year_of_era = divmod(march_year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    return seconds * 1_000_000 + int((match[7] or "")[:6].ljust(6, "0"))
