"""Filters in the JSON form: `{"must": [{"key": "year", "range": {"gt": 1990}}]}`. What a condition means is docs/filters.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import numpy as np

from kith._checks import integer_of, shown
from kith._filters.datetimes import NoZoneError, micros_of
from kith._filters.paths import path_problem
from kith._ids import id_to_wire
from kith.errors import KithError, error_of
from kith.v1 import common_pb2, filter_pb2

T = TypeVar("T")

_FILTER_KEYS: Final = ("must", "should", "must_not", "min_should")
_FIELD_OPERATORS: Final = (
    "match",
    "range",
    "geo_bounding_box",
    "geo_radius",
    "geo_polygon",
    "values_count",
    "is_empty",
    "is_null",
)
_MATCH_OPERATORS: Final = ("value", "any", "except", "text", "text_any", "phrase", "prefix", "substring")
_POINT_OPERATORS: Final = ("is_empty", "is_null", "has_id", "has_vector", "slice", "partition", "nested")
_BOUNDS: Final = ("gt", "gte", "lt", "lte")
_DEPTH_MAX: Final = 16
#: The largest integer that doubles and their neighbours tell apart.
_EXACT_MAX: Final = 2**53 - 1


def invalid_filter(at: str, why: str) -> KithError:
    return error_of("INVALID_FILTER", f"{at}: {why}", {"path": at})


def filter_from_json(value: object, at: str = "filter") -> filter_pb2.Filter:
    """The message. INVALID_FILTER, with the path of the node, for unknown keys, wrong types and values that cannot be meant."""
    return _filter(value, at, 1)


def _filter(value: object, at: str, depth: int) -> filter_pb2.Filter:
    if depth > _DEPTH_MAX:
        raise invalid_filter(at, f"filters are more than {_DEPTH_MAX} deep")
    fields = _object(value, at, _FILTER_KEYS)
    result = filter_pb2.Filter(
        must=_conditions(fields.get("must"), f"{at}.must", depth) or (),
        should=_conditions(fields.get("should"), f"{at}.should", depth) or (),
        must_not=_conditions(fields.get("must_not"), f"{at}.must_not", depth) or (),
    )
    least = fields.get("min_should")
    if least is not None:
        where = f"{at}.min_should"
        parts = _object(least, where, ("conditions", "min_count"))
        conditions = _conditions(parts.get("conditions"), f"{where}.conditions", depth)
        if conditions is None:
            raise invalid_filter(f"{where}.conditions", "missing")
        count = integer_of(parts.get("min_count"))
        if count is None or not 1 <= count <= len(conditions):
            given = shown(parts.get("min_count"))
            raise invalid_filter(
                f"{where}.min_count", f"{given} is not in 1..{len(conditions)}, the number of conditions beside it"
            )
        result.min_should.CopyFrom(filter_pb2.MinShould(conditions=conditions, min_count=count))
    if depth > 1 and not result.ByteSize():
        raise invalid_filter(at, "the filter has no condition")
    return result


def _conditions(value: object, at: str, depth: int) -> list[filter_pb2.Condition] | None:
    """One condition may stand for a list of one."""
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return [_condition(value, at, depth)]
    if len(value) == 0:
        raise invalid_filter(at, "the list has no condition; leave it out where there is none")
    return _list(value, at, lambda each, where: _condition(each, where, depth))


def _condition(value: object, at: str, depth: int) -> filter_pb2.Condition:
    fields = _object(value, at)
    if "key" in fields:
        return _field_condition(fields, at)
    operator = next((name for name in _POINT_OPERATORS if name in fields), None)
    if operator is None:
        _check_keys(fields, at, ("key", *_POINT_OPERATORS, *_FILTER_KEYS))
        return filter_pb2.Condition(filter=_filter(fields, at, depth + 1))
    _check_keys(fields, at, (operator, "partition") if operator == "has_id" else (operator,))
    inner, where = fields[operator], f"{at}.{operator}"
    if operator == "is_empty":
        return filter_pb2.Condition(
            is_empty=filter_pb2.FieldCondition(key=_key(_object(inner, where, ("key",)), where))
        )
    if operator == "is_null":
        return filter_pb2.Condition(is_null=filter_pb2.FieldCondition(key=_key(_object(inner, where, ("key",)), where)))
    if operator == "has_id":
        # Beside ids: they are those of points with this value of the partition key.
        beside = fields.get("partition")
        partition = None if beside is None else _string(beside, f"{at}.partition")
        return filter_pb2.Condition(has_id=filter_pb2.HasIdCondition(ids=_list(inner, where, _id), partition=partition))
    if operator == "partition":
        return filter_pb2.Condition(partition=_string(inner, where))
    if operator == "has_vector":
        return filter_pb2.Condition(has_vector=filter_pb2.HasVectorCondition(name=_string(inner, where)))
    if operator == "slice":
        parts = _object(inner, where, ("index", "total"))
        index, total = _count(parts.get("index"), f"{where}.index"), _count(parts.get("total"), f"{where}.total")
        return filter_pb2.Condition(slice=filter_pb2.SliceCondition(index=index, total=total))
    parts = _object(inner, where, ("key", "filter"))
    nested = _filter(parts.get("filter"), f"{where}.filter", depth + 1)
    return filter_pb2.Condition(nested=filter_pb2.NestedCondition(key=_key(parts, where), filter=nested))


def _field_condition(fields: Mapping[str, Any], at: str) -> filter_pb2.Condition:
    _check_keys(fields, at, ("key", *_FIELD_OPERATORS))
    key = _key(fields, at)
    operators = [name for name in _FIELD_OPERATORS if fields.get(name) is not None]
    if not operators:
        raise invalid_filter(at, f"no operator beside the key: one of {', '.join(_FIELD_OPERATORS)}")
    if len(operators) > 1:
        raise invalid_filter(at, f"more than one operator: {', '.join(operators)}; use one condition for each")
    (operator,) = operators
    value, where = fields[operator], f"{at}.{operator}"
    if operator == "match":
        return filter_pb2.Condition(match=_match(key, value, where))
    if operator == "range":
        return _range(key, value, where)
    if operator == "geo_bounding_box":
        box = _object(value, where, ("top_left", "bottom_right"))
        top_left = _geo(box.get("top_left"), f"{where}.top_left")
        bottom_right = _geo(box.get("bottom_right"), f"{where}.bottom_right")
        return filter_pb2.Condition(
            geo_bounding_box=filter_pb2.GeoBoundingBoxCondition(key=key, top_left=top_left, bottom_right=bottom_right)
        )
    if operator == "geo_radius":
        circle = _object(value, where, ("center", "radius"))
        center, radius = _geo(circle.get("center"), f"{where}.center"), _number(circle.get("radius"), f"{where}.radius")
        return filter_pb2.Condition(
            geo_radius=filter_pb2.GeoRadiusCondition(key=key, center=center, radius_meters=radius)
        )
    if operator == "geo_polygon":
        polygon = _object(value, where, ("exterior", "interiors"))
        holes = polygon.get("interiors")
        interiors = [] if holes is None else _list(holes, f"{where}.interiors", _ring)
        exterior = _ring(polygon.get("exterior"), f"{where}.exterior")
        return filter_pb2.Condition(
            geo_polygon=filter_pb2.GeoPolygonCondition(key=key, exterior=exterior, interiors=interiors)
        )
    if operator == "values_count":
        counts = _bounds(value, where, _count)
        return filter_pb2.Condition(values_count=filter_pb2.ValuesCountCondition(key=key, **counts))
    if not isinstance(value, bool):
        raise invalid_filter(where, f"expected true or false, not {shown(value)}")
    condition = filter_pb2.FieldCondition(key=key)
    positive = (
        filter_pb2.Condition(is_empty=condition) if operator == "is_empty" else filter_pb2.Condition(is_null=condition)
    )
    return positive if value else filter_pb2.Condition(filter=filter_pb2.Filter(must_not=[positive]))


def _match(key: str, value: object, at: str) -> filter_pb2.MatchCondition:
    fields = _object(value, at, _MATCH_OPERATORS)
    operators = [name for name in _MATCH_OPERATORS if fields.get(name) is not None]
    if len(operators) != 1:
        raise invalid_filter(
            at, f"a match has exactly one of {', '.join(_MATCH_OPERATORS)}; found: {', '.join(operators) or 'none'}"
        )
    (operator,) = operators
    given, where = fields[operator], f"{at}.{operator}"
    if operator == "value":
        if isinstance(given, bool | np.bool_):
            return filter_pb2.MatchCondition(key=key, boolean=bool(given))
        scalar = _scalar(given, where)
        if isinstance(scalar, str):
            return filter_pb2.MatchCondition(key=key, keyword=scalar)
        return filter_pb2.MatchCondition(key=key, integer=scalar)
    if operator in ("any", "except"):
        values = _list(given, where, _scalar)
        texts = [each for each in values if isinstance(each, str)]
        numbers = [each for each in values if not isinstance(each, str)]
        if texts and numbers:
            raise invalid_filter(where, "strings and integers in one list; use one condition for each")
        if operator == "any":
            if numbers:
                return filter_pb2.MatchCondition(key=key, any_integers=filter_pb2.Integers(values=numbers))
            return filter_pb2.MatchCondition(key=key, any_keywords=filter_pb2.Keywords(values=texts))
        if numbers:
            return filter_pb2.MatchCondition(key=key, except_integers=filter_pb2.Integers(values=numbers))
        return filter_pb2.MatchCondition(key=key, except_keywords=filter_pb2.Keywords(values=texts))
    text = _string(given, where)
    if operator == "text":
        return filter_pb2.MatchCondition(key=key, text=text)
    if operator == "text_any":
        return filter_pb2.MatchCondition(key=key, text_any=text)
    if operator == "phrase":
        return filter_pb2.MatchCondition(key=key, phrase=text)
    if operator == "substring":
        return filter_pb2.MatchCondition(key=key, substring=text)
    return filter_pb2.MatchCondition(key=key, prefix=text)


def _range(key: str, value: object, at: str) -> filter_pb2.Condition:
    """Bounds that are strings, or datetimes of Python, are datetimes."""
    fields = _object(value, at, _BOUNDS)
    if any(isinstance(fields.get(name), str | datetime) for name in _BOUNDS):
        micros = {f"{name}_us": bound for name, bound in _bounds(value, at, _datetime).items()}
        return filter_pb2.Condition(datetime_range=filter_pb2.DatetimeRangeCondition(key=key, **micros))
    bounds = _bounds(value, at, _number_bound)
    return filter_pb2.Condition(range=filter_pb2.RangeCondition(key=key, **bounds))


def _bounds(value: object, at: str, read: Callable[[object, str], T]) -> dict[str, Any]:
    fields = _object(value, at, _BOUNDS)
    return {name: read(fields[name], f"{at}.{name}") for name in _BOUNDS if fields.get(name) is not None}


def _number_bound(value: object, at: str) -> filter_pb2.NumberBound:
    number = integer_of(value)
    if number is not None and abs(number) > _EXACT_MAX:
        if not -(2**63) <= number < 2**63:
            raise invalid_filter(at, f"{number} is outside of the integers of 64 bits")
        return filter_pb2.NumberBound(integer=number)
    return filter_pb2.NumberBound(number=_number(value, at))


def _datetime(value: object, at: str) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise invalid_filter(at, f"the datetime {value.isoformat()} has no zone: give it a tzinfo")
        return micros_of(value.isoformat(timespec="microseconds"))
    if not isinstance(value, str):
        raise invalid_filter(at, f"expected a datetime like the other bound, not {shown(value)}")
    try:
        return micros_of(value)
    except NoZoneError:
        raise invalid_filter(
            at, f'the datetime "{value}" has no zone: add "Z" for UTC, or an offset like "+02:00"'
        ) from None
    except ValueError:
        raise invalid_filter(at, f"{shown(value)} is not a datetime of RFC 3339, like 2024-05-01T12:00:00Z") from None


def _geo(value: object, at: str) -> filter_pb2.GeoPoint:
    fields = _object(value, at, ("lat", "lon"))
    return filter_pb2.GeoPoint(lat=_number(fields.get("lat"), f"{at}.lat"), lon=_number(fields.get("lon"), f"{at}.lon"))


def _ring(value: object, at: str) -> filter_pb2.GeoRing:
    return filter_pb2.GeoRing(points=_list(_object(value, at, ("points",)).get("points"), f"{at}.points", _geo))


def _id(value: object, at: str) -> common_pb2.PointId:
    """`{"name": ...}` is a name that looks like a UUID."""
    try:
        if isinstance(value, Mapping):
            name = _string(_object(value, at, ("name",)).get("name"), f"{at}.name")
            id_to_wire(name)
            return common_pb2.PointId(name=name)
        return id_to_wire(value)  # type: ignore[arg-type]
    except KithError as error:
        if error.code != "INVALID_ID":
            raise
        raise invalid_filter(at, error.message) from error


def _key(fields: Mapping[str, Any], at: str) -> str:
    text = _string(fields.get("key"), f"{at}.key")
    problem = path_problem(text)
    if problem is not None:
        raise invalid_filter(
            f"{at}.key", f"the path {shown(text)} is not valid: {problem[0]}, at character {problem[1] + 1}"
        )
    return text


def _scalar(value: object, at: str) -> str | int:
    if isinstance(value, str):
        return _well_formed(value, at)
    number = integer_of(value)
    if number is None:
        if isinstance(value, float):
            raise invalid_filter(at, f"{value} is a float; only integers, strings and booleans are matched exactly")
        raise invalid_filter(at, f"expected a string or an integer, not {shown(value)}")
    if not -(2**63) <= number < 2**63:
        raise invalid_filter(at, f"{number} is outside of the integers of 64 bits")
    return number


def _number(value: object, at: str) -> float:
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if number - number == 0:
            return number
        raise invalid_filter(at, f"{value} is not a finite number")
    raise invalid_filter(at, f"expected a number, not {shown(value)}")


def _count(value: object, at: str) -> int:
    number = integer_of(value)
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is None or not 0 <= number <= 0xFFFF_FFFF:
        raise invalid_filter(at, f"{shown(value)} is not a whole number in 0..{0xFFFF_FFFF}")
    return number


def _string(value: object, at: str) -> str:
    if isinstance(value, str):
        return _well_formed(value, at)
    raise invalid_filter(at, f"expected a string, not {shown(value)}")


def _well_formed(text: str, at: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid_filter(at, f"{shown(text)} has a lone surrogate, which UTF-8 cannot hold") from None
    return text


def _list(value: object, at: str, read: Callable[[object, str], T]) -> list[T]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise invalid_filter(at, f"expected a list, not {shown(value)}")
    given: Sequence[object] = list(value)
    return [read(each, f"{at}[{i}]") for i, each in enumerate(given)]


def _object(value: object, at: str, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid_filter(at, f"expected an object, not {shown(value)}")
    if known is not None:
        _check_keys(value, at, known)
    return value


def _check_keys(fields: Mapping[str, Any], at: str, known: Sequence[str]) -> None:
    for key in fields:
        if key not in known:
            raise invalid_filter(f"{at}.{key}", f"unknown key {shown(key)}; known here: {', '.join(known)}")
