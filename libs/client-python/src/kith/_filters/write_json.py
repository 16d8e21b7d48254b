"""The JSON form of a filter that a server sent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from kith._ids import is_uuid
from kith.types import JsonObject
from kith.v1 import filter_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_YEAR_1_US = -62_135_596_800_000_000


def filter_to_json(wire: filter_pb2.Filter) -> JsonObject:
    """`filter_from_json` reads it back as the same message."""
    result: JsonObject = {}
    if wire.must:
        result["must"] = [_condition(each) for each in wire.must]
    if wire.should:
        result["should"] = [_condition(each) for each in wire.should]
    if wire.must_not:
        result["must_not"] = [_condition(each) for each in wire.must_not]
    if wire.HasField("min_should"):
        conditions = [_condition(each) for each in wire.min_should.conditions]
        result["min_should"] = {"conditions": conditions, "min_count": wire.min_should.min_count}
    return result


def _condition(wire: filter_pb2.Condition) -> JsonObject:
    kind = wire.WhichOneof("condition")
    if kind == "match":
        return {"key": wire.match.key, "match": _match(wire.match)}
    if kind == "range":
        bounds = {
            name: _bound(getattr(wire.range, name)) for name in ("gt", "gte", "lt", "lte") if wire.range.HasField(name)
        }
        return {"key": wire.range.key, "range": bounds}
    if kind == "datetime_range":
        at = wire.datetime_range
        times = {
            name: _time(getattr(at, f"{name}_us")) for name in ("gt", "gte", "lt", "lte") if at.HasField(f"{name}_us")
        }
        return {"key": at.key, "range": times}
    if kind == "geo_radius":
        return {
            "key": wire.geo_radius.key,
            "geo_radius": {"center": _geo(wire.geo_radius.center), "radius": wire.geo_radius.radius_meters},
        }
    if kind == "geo_bounding_box":
        box = wire.geo_bounding_box
        return {
            "key": box.key,
            "geo_bounding_box": {"top_left": _geo(box.top_left), "bottom_right": _geo(box.bottom_right)},
        }
    if kind == "geo_polygon":
        polygon: JsonObject = {"exterior": _ring(wire.geo_polygon.exterior)}
        if wire.geo_polygon.interiors:
            polygon["interiors"] = [_ring(each) for each in wire.geo_polygon.interiors]
        return {"key": wire.geo_polygon.key, "geo_polygon": polygon}
    if kind == "values_count":
        count = wire.values_count
        counts = {name: getattr(count, name) for name in ("gt", "gte", "lt", "lte") if count.HasField(name)}
        return {"key": count.key, "values_count": counts}
    if kind == "is_empty":
        return {"is_empty": {"key": wire.is_empty.key}}
    if kind == "is_null":
        return {"is_null": {"key": wire.is_null.key}}
    if kind == "has_id":
        beside = {"partition": wire.has_id.partition} if wire.has_id.partition else {}
        return {"has_id": [_id(each) for each in wire.has_id.ids], **beside}
    if kind == "partition":
        return {"partition": wire.partition}
    if kind == "has_vector":
        return {"has_vector": wire.has_vector.name}
    if kind == "slice":
        return {"slice": {"index": wire.slice.index, "total": wire.slice.total}}
    if kind == "nested":
        return {"nested": {"key": wire.nested.key, "filter": filter_to_json(wire.nested.filter)}}
    return filter_to_json(wire.filter)


def _match(wire: filter_pb2.MatchCondition) -> JsonObject:
    kind = wire.WhichOneof("match")
    if kind in ("keyword", "integer", "boolean"):
        return {"value": getattr(wire, kind)}
    if kind in ("any_keywords", "any_integers"):
        return {"any": list(getattr(wire, kind).values)}
    if kind in ("except_keywords", "except_integers"):
        return {"except": list(getattr(wire, kind).values)}
    return {} if kind is None else {kind: getattr(wire, kind)}


def _bound(wire: filter_pb2.NumberBound) -> float | int:
    if wire.WhichOneof("value") == "integer":
        return wire.integer
    return int(wire.number) if wire.number.is_integer() and abs(wire.number) < 2**53 else wire.number


def _time(micros: int) -> str:
    if micros >= _YEAR_1_US:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
    # datetime has no year 0; 400 years are always as many days.
    later = _EPOCH + timedelta(days=146_097, microseconds=micros)
    return "0000" + later.isoformat()[4:].replace("+00:00", "Z")


def _geo(wire: filter_pb2.GeoPoint) -> JsonObject:
    return {"lat": wire.lat, "lon": wire.lon}


def _ring(wire: filter_pb2.GeoRing) -> JsonObject:
    return {"points": [_geo(each) for each in wire.points]}


def _id(wire: Any) -> object:
    if wire.WhichOneof("id") == "name" and is_uuid(wire.name):
        return {"name": wire.name}
    return getattr(wire, wire.WhichOneof("id"))
