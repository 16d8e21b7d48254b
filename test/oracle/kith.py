"""A small client of Kith's public API, and the conversion of Qdrant's models to its messages (as proto JSON)."""

import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from qdrant_client import models

UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Kith:
    """Calls by the name of the method, with requests as proto JSON; answers are messages."""

    def __init__(self, root: Path, target: str) -> None:
        buf = root / "node_modules" / ".bin" / "buf"
        image = subprocess.run(
            [buf, "build", "--path", "proto/kith/v1", "--output", "-#format=binpb"],
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout
        pool = descriptor_pool.DescriptorPool()
        self.methods: dict[str, tuple[str, Any, Any]] = {}
        files = descriptor_pb2.FileDescriptorSet.FromString(image).file
        for file in files:
            pool.Add(file)
        for file in files:
            for service in file.service:
                full = pool.FindServiceByName(f"{file.package}.{service.name}")
                for method in full.methods:
                    self.methods[f"{service.name}.{method.name}"] = (
                        f"/{full.full_name}/{method.name}",
                        message_factory.GetMessageClass(method.input_type),
                        message_factory.GetMessageClass(method.output_type),
                    )
        self.channel = grpc.insecure_channel(target)

    def call(self, method: str, request: dict[str, Any]) -> Any:
        path, input_class, output_class = self.methods[method]
        message = json_format.ParseDict(request, input_class())
        send = self.channel.unary_unary(
            path, request_serializer=input_class.SerializeToString, response_deserializer=output_class.FromString
        )
        return send(message, timeout=30)

    def close(self) -> None:
        self.channel.close()


def id_to_wire(value: int | str) -> dict[str, Any]:
    return {"num": str(value)} if isinstance(value, int) else {"uuid": value}


def id_from_wire(message: Any) -> int | str:
    kind = message.WhichOneof("id")
    return getattr(message, kind) if kind is not None else 0


def list_of(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def filter_to_wire(tree: models.Filter | None) -> dict[str, Any] | None:
    if tree is None:
        return None
    wire: dict[str, Any] = {}
    for name in ("must", "should", "must_not"):
        conditions = list_of(getattr(tree, name))
        if conditions:
            wire[name] = [condition_to_wire(each) for each in conditions]
    if tree.min_should is not None:
        conditions = [condition_to_wire(each) for each in tree.min_should.conditions]
        wire["min_should"] = {"conditions": conditions, "min_count": tree.min_should.min_count}
    return wire


def condition_to_wire(condition: Any) -> dict[str, Any]:
    if isinstance(condition, models.Filter):
        return {"filter": filter_to_wire(condition)}
    if isinstance(condition, models.IsEmptyCondition):
        return {"is_empty": {"key": condition.is_empty.key}}
    if isinstance(condition, models.IsNullCondition):
        return {"is_null": {"key": condition.is_null.key}}
    if isinstance(condition, models.HasIdCondition):
        return {"has_id": {"ids": [id_to_wire(each) for each in condition.has_id]}}
    if isinstance(condition, models.HasVectorCondition):
        return {"has_vector": {"name": condition.has_vector}}
    if isinstance(condition, models.SliceCondition):
        return {"slice": {"index": condition.slice.index, "total": condition.slice.total}}
    if isinstance(condition, models.NestedCondition):
        return {"nested": {"key": condition.nested.key, "filter": filter_to_wire(condition.nested.filter)}}
    assert isinstance(condition, models.FieldCondition)
    return field_to_wire(condition)


def field_to_wire(condition: models.FieldCondition) -> dict[str, Any]:
    key = condition.key
    if condition.match is not None:
        return {"match": {"key": key, **match_to_wire(condition.match)}}
    if isinstance(condition.range, models.DatetimeRange):
        bounds = {f"{name}_us": micros_of(value) for name, value in bounds_of(condition.range)}
        return {"datetime_range": {"key": key, **bounds}}
    if condition.range is not None:
        return {"range": {"key": key, **{name: {"number": value} for name, value in bounds_of(condition.range)}}}
    if condition.values_count is not None:
        return {"values_count": {"key": key, **dict(bounds_of(condition.values_count))}}
    if condition.geo_radius is not None:
        area = condition.geo_radius
        return {"geo_radius": {"key": key, "center": geo_to_wire(area.center), "radius_meters": area.radius}}
    if condition.geo_bounding_box is not None:
        box = condition.geo_bounding_box
        corners = {"top_left": geo_to_wire(box.top_left), "bottom_right": geo_to_wire(box.bottom_right)}
        return {"geo_bounding_box": {"key": key, **corners}}
    assert condition.geo_polygon is not None
    polygon = condition.geo_polygon
    ring = lambda line: {"points": [geo_to_wire(each) for each in line.points]}  # noqa: E731
    interiors = [ring(each) for each in polygon.interiors or []]
    return {"geo_polygon": {"key": key, "exterior": ring(polygon.exterior), "interiors": interiors}}


def bounds_of(bounds: Any) -> list[tuple[str, Any]]:
    values = ((name, getattr(bounds, name)) for name in ("gt", "gte", "lt", "lte"))
    return [(name, value) for name, value in values if value is not None]


def micros_of(value: datetime) -> int:
    delta = value - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def geo_to_wire(point: models.GeoPoint) -> dict[str, float]:
    return {"lat": point.lat, "lon": point.lon}


def match_to_wire(match: Any) -> dict[str, Any]:
    if isinstance(match, models.MatchValue):
        value = match.value
        if isinstance(value, bool):
            return {"boolean": value}
        return {"integer": str(value)} if isinstance(value, int) else {"keyword": value}
    if isinstance(match, (models.MatchAny, models.MatchExcept)):
        values = match.any if isinstance(match, models.MatchAny) else match.except_
        name = "any" if isinstance(match, models.MatchAny) else "except"
        numbers = len(values) > 0 and isinstance(values[0], int)
        return {f"{name}_{'integers' if numbers else 'keywords'}": {"values": list(values)}}
    for kind, name in (
        (models.MatchText, "text"),
        (models.MatchTextAny, "text_any"),
        (models.MatchPhrase, "phrase"),
        (models.MatchPrefix, "prefix"),
    ):
        if isinstance(match, kind):
            return {name: getattr(match, name)}
    raise TypeError(f"no conversion of {match!r}")


def example_to_wire(example: Any) -> dict[str, Any]:
    return {"vector": {"values": example}} if isinstance(example, list) else {"point": id_to_wire(example)}


def pairs_to_wire(pairs: Any) -> list[dict[str, Any]]:
    return [
        {"positive": example_to_wire(each.positive), "negative": example_to_wire(each.negative)}
        for each in list_of(pairs)
    ]


STRATEGIES = {
    models.RecommendStrategy.AVERAGE_VECTOR: "RECOMMEND_STRATEGY_AVERAGE",
    models.RecommendStrategy.BEST_SCORE: "RECOMMEND_STRATEGY_BEST_SCORE",
    models.RecommendStrategy.SUM_SCORES: "RECOMMEND_STRATEGY_SUM_SCORES",
}


def query_to_wire(query: Any) -> dict[str, Any]:
    if isinstance(query, models.NearestQuery):
        nearest: dict[str, Any] = {"example": example_to_wire(query.nearest)}
        if query.mmr is not None:
            nearest["mmr"] = {"candidates": query.mmr.candidates_limit or 0}
            if query.mmr.diversity is not None:
                nearest["mmr"]["diversity"] = query.mmr.diversity
        return {"nearest": nearest}
    if isinstance(query, models.RecommendQuery):
        wanted = query.recommend
        wire: dict[str, Any] = {
            "positive": [example_to_wire(each) for each in wanted.positive or []],
            "negative": [example_to_wire(each) for each in wanted.negative or []],
        }
        if wanted.strategy is not None:
            wire["strategy"] = STRATEGIES[wanted.strategy]
        return {"recommend": wire}
    if isinstance(query, models.DiscoverQuery):
        target = example_to_wire(query.discover.target)
        return {"discover": {"target": target, "context": pairs_to_wire(query.discover.context)}}
    if isinstance(query, models.ContextQuery):
        return {"context": {"context": pairs_to_wire(query.context)}}
    if isinstance(query, models.OrderByQuery):
        return {"order_by": order_to_wire(query.order_by)}
    if isinstance(query, models.SampleQuery):
        return {"sample": {}}
    if isinstance(query, models.RrfQuery):
        return {"fusion": {"reciprocal_rank": {"k": query.rrf.k or 0, "weights": query.rrf.weights or []}}}
    if isinstance(query, models.FusionQuery):
        name = "reciprocal_rank" if query.fusion == models.Fusion.RRF else "distribution_based"
        return {"fusion": {name: {}}}
    if isinstance(query, models.FormulaQuery):
        return {"formula": formula_to_wire(query)}
    raise TypeError(f"no conversion of {query!r}")


def order_to_wire(order: models.OrderBy) -> dict[str, Any]:
    wire: dict[str, Any] = {"key": order.key}
    if order.direction is not None:
        wire["direction"] = f"DIRECTION_{'ASCENDING' if order.direction == models.Direction.ASC else 'DESCENDING'}"
    if isinstance(order.start_from, datetime):
        wire["datetime"] = order.start_from.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    elif order.start_from is not None:
        wire["number"] = order.start_from
    return wire


def formula_to_wire(query: models.FormulaQuery) -> dict[str, Any]:
    defaults = {}
    for key, value in (query.defaults or {}).items():
        if isinstance(value, str):
            defaults[key] = {"datetime": value}
        elif isinstance(value, dict):
            defaults[key] = {"geo": value}
        else:
            defaults[key] = {"number": value}
    return {"expression": expression_to_wire(query.formula), "defaults": defaults}


def expression_to_wire(node: Any) -> dict[str, Any]:
    if isinstance(node, (int, float)):
        return {"constant": node}
    if isinstance(node, str):
        return {"variable": node}
    inner = expression_to_wire
    for kind, field, name in (
        (models.SumExpression, "sum", "sum"),
        (models.MultExpression, "mult", "product"),
        (models.MaxExpression, "max", "max"),
        (models.MinExpression, "min", "min"),
    ):
        if isinstance(node, kind):
            return {name: {"operands": [inner(each) for each in getattr(node, field)]}}
    for kind, field, name in (
        (models.NegExpression, "neg", "negate"),
        (models.AbsExpression, "abs", "absolute"),
        (models.SqrtExpression, "sqrt", "sqrt"),
        (models.ExpExpression, "exp", "exp"),
        (models.LnExpression, "ln", "ln"),
        (models.Log10Expression, "log10", "log10"),
    ):
        if isinstance(node, kind):
            return {name: inner(getattr(node, field))}
    if isinstance(node, models.DivExpression):
        wire = {"left": inner(node.div.left), "right": inner(node.div.right)}
        if node.div.by_zero_default is not None:
            wire["by_zero"] = node.div.by_zero_default
        return {"divide": wire}
    if isinstance(node, models.PowExpression):
        return {"power": {"base": inner(node.pow.base), "exponent": inner(node.pow.exponent)}}
    if isinstance(node, models.DatetimeExpression):
        return {"datetime": node.datetime}
    if isinstance(node, models.DatetimeKeyExpression):
        return {"datetime_key": node.datetime_key}
    if isinstance(node, models.GeoDistance):
        return {"geo_distance": {"origin": geo_to_wire(node.geo_distance.origin), "to": node.geo_distance.to}}
    for kind, field, name in (
        (models.LinDecayExpression, "lin_decay", "linear_decay"),
        (models.ExpDecayExpression, "exp_decay", "exponential_decay"),
        (models.GaussDecayExpression, "gauss_decay", "gauss_decay"),
    ):
        if isinstance(node, kind):
            return {name: decay_to_wire(getattr(node, field))}
    return {"condition": filter_to_wire(models.Filter(must=[node]))}


def decay_to_wire(decay: models.DecayParamsExpression) -> dict[str, Any]:
    wire: dict[str, Any] = {"x": expression_to_wire(decay.x)}
    if decay.target is not None:
        wire["target"] = expression_to_wire(decay.target)
    if decay.scale is not None:
        wire["scale"] = decay.scale
    if decay.midpoint is not None:
        wire["midpoint"] = decay.midpoint
    return wire


def stage_to_wire(stage: Any) -> dict[str, Any]:
    """A Prefetch, or the arguments of a query in the same form."""
    wire: dict[str, Any] = {"using": stage.using or "", "limit": stage.limit or 0}
    if stage.prefetch:
        wire["prefetch"] = [stage_to_wire(each) for each in list_of(stage.prefetch)]
    if stage.query is not None:
        wire["query"] = query_to_wire(stage.query)
    if stage.filter is not None:
        wire["filter"] = filter_to_wire(stage.filter)
    if stage.score_threshold is not None:
        wire["score_threshold"] = stage.score_threshold
    if stage.lookup_from is not None:
        wire["lookup"] = {"collection": stage.lookup_from.collection, "using": stage.lookup_from.vector or ""}
    return wire
