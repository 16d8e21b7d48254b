"""Queries as trees, on the wire. The keys are those of the TypeScript SDK in snake_case; an unknown one is refused with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from kith._checks import (
    finite,
    flag_of,
    integer_of,
    invalid,
    list_of,
    names_of,
    one_of,
    only_keys,
    text_of,
    whole_number,
)
from kith._filters import filter_of
from kith._ids import id_to_wire
from kith._sparse import is_sparse, sparse_to_wire
from kith._texts import text_query_to_wire
from kith._times import timestamp_of
from kith._vectors import vector_to_wire
from kith.types import WithPayload, WithVectors
from kith.v1 import filter_pb2, points_pb2, query_pb2

_PREFETCH_KEYS: Final = ("prefetch", "query", "using", "filter", "limit", "score_threshold", "ef", "exact", "lookup")
_KINDS: Final = (
    "nearest",
    "recommend",
    "discover",
    "context",
    "feedback",
    "fusion",
    "order_by",
    "sample",
    "formula",
    "text",
)
_SIDE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {"nearest": ("mmr",), "formula": ("defaults",)}
_STRATEGIES: Final = {
    "average": query_pb2.RECOMMEND_STRATEGY_AVERAGE,
    "best_score": query_pb2.RECOMMEND_STRATEGY_BEST_SCORE,
    "sum_scores": query_pb2.RECOMMEND_STRATEGY_SUM_SCORES,
}
_DIRECTIONS: Final = {"asc": query_pb2.DIRECTION_ASCENDING, "desc": query_pb2.DIRECTION_DESCENDING}

_LISTS: Final = ("sum", "product", "max", "min")
_UNARIES: Final = ("negate", "absolute", "sqrt", "exp", "ln", "log10", "acosh")
_DECAYS: Final = ("linear_decay", "exponential_decay", "gauss_decay")
_OPERATORS: Final = (
    *_LISTS,
    *_UNARIES,
    *_DECAYS,
    "condition",
    "divide",
    "power",
    "datetime",
    "datetime_key",
    "geo_distance",
)


def select_to_wire(with_payload: WithPayload = True, with_vectors: WithVectors = False) -> points_pb2.Select:
    select = points_pb2.Select(payload=with_payload is not False)
    if isinstance(with_vectors, bool):
        select.all_vectors = with_vectors
    else:
        select.vectors.extend(names_of(with_vectors, "with_vectors"))
    if isinstance(with_payload, bool):
        return select
    parts = only_keys(with_payload, ("include", "exclude"), "with_payload")
    if "include" in parts:
        select.include.extend(names_of(parts["include"], "with_payload.include"))
        # Nothing is included; on the wire an empty list is the whole payload.
        select.payload = len(select.include) > 0
    elif "exclude" in parts:
        select.exclude.extend(names_of(parts["exclude"], "with_payload.exclude"))
    return select


def prefetch_to_wire(given: object, at: str) -> query_pb2.Prefetch:
    fields = only_keys(given, _PREFETCH_KEYS, at)
    using = text_of(fields.get("using", ""), f"{at}.using")
    wire = query_pb2.Prefetch(
        prefetch=[
            prefetch_to_wire(each, f"{at}.prefetch[{i}]")
            for i, each in enumerate(list_of(fields.get("prefetch") or (), f"{at}.prefetch"))
        ],
        using=using,
        filter=filter_of(fields.get("filter")),
        limit=whole_number(fields.get("limit", 0), f"{at}.limit"),
        ef=whole_number(fields.get("ef", 0), f"{at}.ef"),
        exact=flag_of(fields.get("exact", False), f"{at}.exact"),
        lookup=lookup_to_wire(fields.get("lookup"), f"{at}.lookup"),
    )
    if fields.get("query") is not None:
        wire.query.CopyFrom(query_to_wire(fields["query"], using, f"{at}.query"))
    if fields.get("score_threshold") is not None:
        wire.score_threshold = finite(fields["score_threshold"], f"{at}.score_threshold")
    return wire


def lookup_to_wire(given: object, at: str) -> query_pb2.Lookup | None:
    if given is None:
        return None
    fields = only_keys(given, ("collection", "using"), at)
    return query_pb2.Lookup(
        collection=text_of(fields.get("collection", ""), f"{at}.collection"),
        using=text_of(fields.get("using", ""), f"{at}.using"),
    )


def query_to_wire(given: object, using: str, at: str) -> query_pb2.Query:
    """A way to score or order points; INVALID_ARGUMENT names the node at fault."""
    if not isinstance(given, Mapping):
        raise invalid(at, "is no mapping; the functions of kith.query make them")
    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        raise invalid(at, f"has {'more than one' if kinds else 'none'} of {', '.join(_KINDS)}; give one of them")
    (kind,) = kinds
    query = only_keys(given, (kind, *_SIDE_KEYS.get(kind, ())), at)
    value, where = query[kind], f"{at}.{kind}"
    if kind == "nearest":
        nearest = query_pb2.Nearest(example=_example(value, using, where))
        if query.get("mmr") is not None:
            mmr = only_keys(query["mmr"], ("diversity", "candidates"), f"{at}.mmr")
            nearest.mmr.candidates = whole_number(mmr.get("candidates", 0), f"{at}.mmr.candidates")
            if mmr.get("diversity") is not None:
                nearest.mmr.diversity = finite(mmr["diversity"], f"{at}.mmr.diversity")
        return query_pb2.Query(nearest=nearest)
    if kind == "recommend":
        fields = only_keys(value, ("positive", "negative", "strategy"), where)
        recommend = query_pb2.Recommend(
            positive=_examples(fields.get("positive", ()), using, f"{where}.positive"),
            negative=_examples(fields.get("negative", ()), using, f"{where}.negative"),
            strategy=one_of(_STRATEGIES, fields.get("strategy", "average"), f"{where}.strategy"),
        )
        return query_pb2.Query(recommend=recommend)
    if kind == "discover":
        fields = only_keys(value, ("target", "context"), where)
        target = _example(fields.get("target"), using, f"{where}.target")
        pairs = _pairs(fields.get("context", ()), using, f"{where}.context")
        return query_pb2.Query(discover=query_pb2.Discover(target=target, context=pairs))
    if kind == "context":
        return query_pb2.Query(context=query_pb2.Context(context=_pairs(value, using, where)))
    if kind == "feedback":
        return query_pb2.Query(feedback=_feedback(value, using, where))
    if kind == "fusion":
        return query_pb2.Query(fusion=_fusion(value, where))
    if kind == "order_by":
        return query_pb2.Query(order_by=order_by_to_wire(value, where))
    if kind == "sample":
        if value != "random":
            raise invalid(where, 'is unknown; use "random"')
        return query_pb2.Query(sample=query_pb2.Sample())
    if kind == "text":
        return query_pb2.Query(text=text_query_to_wire(value, where))
    formula = query_pb2.Formula(expression=_expression(value, where))
    defaults = query.get("defaults") or {}
    if not isinstance(defaults, Mapping):
        raise invalid(f"{at}.defaults", "is no mapping")
    for key, default in defaults.items():
        formula.defaults[text_of(key, f"{at}.defaults")].CopyFrom(_default(default, f"{at}.defaults.{key}"))
    return query_pb2.Query(formula=formula)


def _example(value: object, using: str, at: str) -> query_pb2.Example:
    if isinstance(value, str | UUID) or integer_of(value) is not None:
        return query_pb2.Example(point=id_to_wire(value))  # type: ignore[arg-type]
    if is_sparse(value):
        return query_pb2.Example(vector=sparse_to_wire(value, using))
    if isinstance(value, np.ndarray | Sequence):
        return query_pb2.Example(vector=vector_to_wire(value, using))
    raise invalid(at, "is missing, or neither a vector nor the id of a point")


def _examples(examples: object, using: str, at: str) -> list[query_pb2.Example]:
    return [_example(each, using, f"{at}[{i}]") for i, each in enumerate(list_of(examples, at))]


def _pairs(pairs: object, using: str, at: str) -> list[query_pb2.ContextPair]:
    wires = []
    for i, each in enumerate(list_of(pairs, at)):
        pair = only_keys(each, ("positive", "negative"), f"{at}[{i}]")
        positive = _example(pair.get("positive"), using, f"{at}[{i}].positive")
        wires.append(
            query_pb2.ContextPair(
                positive=positive, negative=_example(pair.get("negative"), using, f"{at}[{i}].negative")
            )
        )
    return wires


def _feedback(given: object, using: str, at: str) -> query_pb2.Feedback:
    fields = only_keys(given, ("target", "judged", "a", "b", "c"), at)
    wire = query_pb2.Feedback(
        target=_example(fields.get("target"), using, f"{at}.target"),
        a=finite(fields.get("a"), f"{at}.a"),
        b=finite(fields.get("b"), f"{at}.b"),
        c=finite(fields.get("c"), f"{at}.c"),
    )
    for i, each in enumerate(list_of(fields.get("judged", ()), f"{at}.judged")):
        judged = only_keys(each, ("example", "score"), f"{at}.judged[{i}]")
        example = _example(judged.get("example"), using, f"{at}.judged[{i}].example")
        wire.judged.add(example=example, score=finite(judged.get("score"), f"{at}.judged[{i}].score"))
    return wire


def _fusion(given: object, at: str) -> query_pb2.Fusion:
    if isinstance(given, str):
        methods = {
            "rrf": query_pb2.Fusion(reciprocal_rank=query_pb2.ReciprocalRank()),
            "dbsf": query_pb2.Fusion(distribution_based=query_pb2.DistributionBased()),
            "relative": query_pb2.Fusion(relative_score=query_pb2.RelativeScore()),
        }
        return one_of(methods, given, at)
    fields = only_keys(given, ("rrf", "relative"), at)
    if len(fields) != 1:
        raise invalid(at, "needs one of rrf, relative")
    if "rrf" in fields:
        rrf = only_keys(fields["rrf"], ("k", "weights"), f"{at}.rrf")
        k = whole_number(rrf.get("k", 0), f"{at}.rrf.k")
        return query_pb2.Fusion(reciprocal_rank=query_pb2.ReciprocalRank(k=k, weights=_weights(rrf, f"{at}.rrf")))
    relative = only_keys(fields["relative"], ("weights",), f"{at}.relative")
    return query_pb2.Fusion(relative_score=query_pb2.RelativeScore(weights=_weights(relative, f"{at}.relative")))


def _weights(fields: Mapping[str, Any], at: str) -> list[float]:
    return [
        finite(each, f"{at}.weights[{i}]") for i, each in enumerate(list_of(fields.get("weights", ()), f"{at}.weights"))
    ]


def order_by_to_wire(order: object, at: str) -> query_pb2.OrderBy:
    """A path, or {"key": path, "direction": "asc" or "desc", "start_from": number or datetime}."""
    if isinstance(order, str):
        return query_pb2.OrderBy(key=text_of(order, at), direction=query_pb2.DIRECTION_ASCENDING)
    fields = only_keys(order, ("key", "direction", "start_from"), at)
    direction = one_of(_DIRECTIONS, fields.get("direction", "asc"), f"{at}.direction")
    wire = query_pb2.OrderBy(key=text_of(fields.get("key", ""), f"{at}.key"), direction=direction)
    start = fields.get("start_from")
    if isinstance(start, datetime):
        wire.datetime.CopyFrom(timestamp_of(start, f"{at}.start_from"))
    elif start is not None:
        wire.number = finite(start, f"{at}.start_from")
    return wire


def _default(value: object, at: str) -> query_pb2.FormulaDefault:
    """Text is a datetime."""
    if isinstance(value, str):
        return query_pb2.FormulaDefault(datetime=text_of(value, at))
    if isinstance(value, Mapping):
        return query_pb2.FormulaDefault(geo=_geo(value, at))
    return query_pb2.FormulaDefault(number=finite(value, at))


def _geo(value: object, at: str) -> filter_pb2.GeoPoint:
    fields = only_keys(value, ("lat", "lon"), at)
    return filter_pb2.GeoPoint(lat=finite(fields.get("lat"), f"{at}.lat"), lon=finite(fields.get("lon"), f"{at}.lon"))


def _expression(given: object, at: str) -> query_pb2.Expression:
    if isinstance(given, str):
        return query_pb2.Expression(variable=text_of(given, at))
    if not isinstance(given, Mapping):
        return query_pb2.Expression(constant=finite(given, at))
    fields = only_keys(given, _OPERATORS, at)
    if len(fields) != 1:
        raise invalid(at, f"needs one operator, and has {', '.join(fields) or 'none'}")
    ((operator, value),) = fields.items()
    where = f"{at}.{operator}"
    wire = query_pb2.Expression()
    if operator in _LISTS:
        operands = [_expression(each, f"{where}[{i}]") for i, each in enumerate(list_of(value, where))]
        getattr(wire, operator).CopyFrom(query_pb2.Operands(operands=operands))
    elif operator in _UNARIES:
        getattr(wire, operator).CopyFrom(_expression(value, where))
    elif operator in _DECAYS:
        getattr(wire, operator).CopyFrom(_decay(value, where))
    elif operator == "condition":
        condition = filter_of(value)
        if condition is None:
            raise invalid(where, "is missing")
        wire.condition.CopyFrom(condition)
    elif operator == "divide":
        parts = only_keys(value, ("left", "right", "by_zero"), where)
        divide = query_pb2.Divide(
            left=_expression(parts.get("left"), f"{where}.left"),
            right=_expression(parts.get("right"), f"{where}.right"),
        )
        if parts.get("by_zero") is not None:
            divide.by_zero = finite(parts["by_zero"], f"{where}.by_zero")
        wire.divide.CopyFrom(divide)
    elif operator == "power":
        parts = only_keys(value, ("base", "exponent"), where)
        base = _expression(parts.get("base"), f"{where}.base")
        wire.power.CopyFrom(
            query_pb2.Power(base=base, exponent=_expression(parts.get("exponent"), f"{where}.exponent"))
        )
    elif operator == "datetime":
        wire.datetime = text_of(value, where)
    elif operator == "datetime_key":
        wire.datetime_key = text_of(value, where)
    else:
        parts = only_keys(value, ("origin", "to"), where)
        wire.geo_distance.CopyFrom(
            query_pb2.GeoDistance(
                origin=_geo(parts.get("origin"), f"{where}.origin"), to=text_of(parts.get("to", ""), f"{where}.to")
            )
        )
    return wire


def _decay(given: object, at: str) -> query_pb2.Decay:
    fields = only_keys(given, ("x", "target", "scale", "midpoint"), at)
    wire = query_pb2.Decay(x=_expression(fields.get("x"), f"{at}.x"))
    if fields.get("target") is not None:
        wire.target.CopyFrom(_expression(fields["target"], f"{at}.target"))
    if fields.get("scale") is not None:
        wire.scale = finite(fields["scale"], f"{at}.scale")
    if fields.get("midpoint") is not None:
        wire.midpoint = finite(fields["midpoint"], f"{at}.midpoint")
    return wire
