"""Makes filters: what `filter=` takes, besides the textual form.

from kith import where

films.query(vector=vector, filter=where.all(where.range("year", gte=1990), where.not_(where.equals("crew[].name", "ann"))))
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from kith._checks import shown
from kith._filters.paths import path_problem
from kith.errors import KithError, error_of
from kith.types import JsonObject


class FilterBuilder:
    """Conditions and what joins them; each gives the JSON form. INVALID_FILTER for a path that is none."""

    def equals(self, path: str, value: str | int | bool) -> JsonObject:
        """The value, or one of an array's, is equal."""
        return _field(path, match={"value": value})

    def one_of(self, path: str, values: Sequence[str] | Sequence[int]) -> JsonObject:
        return _field(path, match={"any": list(values)})

    def none_of(self, path: str, values: Sequence[str] | Sequence[int]) -> JsonObject:
        """Neither null nor one of these; a missing field does not match."""
        return _field(path, match={"except": list(values)})

    def range(
        self,
        path: str,
        *,
        gt: float | datetime | str | None = None,
        gte: float | datetime | str | None = None,
        lt: float | datetime | str | None = None,
        lte: float | datetime | str | None = None,
    ) -> JsonObject:
        """A number, or a datetime (with a zone), within all bounds."""
        bounds = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
        return _field(path, range={name: bound for name, bound in bounds.items() if bound is not None})

    def words(self, path: str, text: str) -> JsonObject:
        """A text with all words of this one, in any order."""
        return _field(path, match={"text": text})

    def any_word(self, path: str, text: str) -> JsonObject:
        """A text with one word of this one at least."""
        return _field(path, match={"text_any": text})

    def phrase(self, path: str, text: str) -> JsonObject:
        """A text with the words of this one in a row."""
        return _field(path, match={"phrase": text})

    def starts_with(self, path: str, text: str) -> JsonObject:
        return _field(path, match={"prefix": text})

    def has_substring(self, path: str, text: str) -> JsonObject:
        """A string that has this one somewhere in it, character by character."""
        return _field(path, match={"substring": text})

    def count(
        self, path: str, *, gt: int | None = None, gte: int | None = None, lt: int | None = None, lte: int | None = None
    ) -> JsonObject:
        """How many elements an array has; 0 for a missing field, 1 for what is no array."""
        bounds = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
        return _field(path, values_count={name: bound for name, bound in bounds.items() if bound is not None})

    def near(self, path: str, lat: float, lon: float, meters: float) -> JsonObject:
        return _field(path, geo_radius={"center": {"lat": lat, "lon": lon}, "radius": meters})

    def within_box(self, path: str, north: float, west: float, south: float, east: float) -> JsonObject:
        box = {"top_left": {"lat": north, "lon": west}, "bottom_right": {"lat": south, "lon": east}}
        return _field(path, geo_bounding_box=box)

    def within_polygon(
        self, path: str, exterior: Sequence[tuple[float, float]], *interiors: Sequence[tuple[float, float]]
    ) -> JsonObject:
        """Rings of (latitude, longitude), the first point again at the end."""
        rings = [{"points": [{"lat": lat, "lon": lon} for lat, lon in ring]} for ring in (exterior, *interiors)]
        return _field(path, geo_polygon={"exterior": rings[0], "interiors": rings[1:]})

    def is_empty(self, path: str) -> JsonObject:
        """The field is missing, null or an empty array."""
        return {"must": [{"is_empty": {"key": _checked(path)}}]}

    def exists(self, path: str) -> JsonObject:
        return {"must_not": [{"is_empty": {"key": _checked(path)}}]}

    def is_null(self, path: str) -> JsonObject:
        return {"must": [{"is_null": {"key": _checked(path)}}]}

    def has_id(self, *ids: Any) -> JsonObject:
        return {"must": [{"has_id": list(ids)}]}

    def has_vector(self, name: str = "") -> JsonObject:
        return {"must": [{"has_vector": name}]}

    def slice(self, index: int, total: int) -> JsonObject:
        """Part `index` of `total` of all points, by their ids: for scans in parallel."""
        return {"must": [{"slice": {"index": index, "total": total}}]}

    def nested(self, path: str, condition: JsonObject) -> JsonObject:
        """One object in an array passes, whose paths begin in it."""
        return {"must": [{"nested": {"key": _checked(path), "filter": condition}}]}

    def all(self, *conditions: JsonObject) -> JsonObject:
        return {"must": list(conditions)} if conditions else {}

    def any(self, *conditions: JsonObject) -> JsonObject:
        """INVALID_FILTER for no condition at all: nothing would pass."""
        if not conditions:
            raise _invalid("any", "has no conditions; give at least one")
        return {"should": list(conditions)}

    def not_(self, *conditions: JsonObject) -> JsonObject:
        """None of these holds."""
        if not conditions:
            raise _invalid("not_", "has no conditions; give at least one")
        return {"must_not": list(conditions)}

    def at_least(self, count: int, *conditions: JsonObject) -> JsonObject:
        return {"min_should": {"conditions": list(conditions), "min_count": count}}


where: Final = FilterBuilder()


def _field(path: str, **condition: Any) -> JsonObject:
    return {"must": [{"key": _checked(path), **condition}]}


def _checked(path: str) -> str:
    problem = path_problem(path) if isinstance(path, str) else ("it is no text", 0)
    if problem is None:
        return path
    raise _invalid(shown(path), f"is no path into a payload: {problem[0]}, at character {problem[1] + 1}")


def _invalid(what: str, why: str) -> KithError:
    return error_of("INVALID_FILTER", f"{what} {why}", {"path": what})
