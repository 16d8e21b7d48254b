"""Makes queries: what `query=` and `prefetch=` take.

    from kith import query as q

    films.query(
        query=q.fusion("rrf"),
        prefetch=[q.prefetch(q.nearest(vector), limit=50), q.prefetch(q.order_by("year", "desc"), limit=50)],
    )
    films.query(**q.hybrid(text="boundary layer", vector=vector, sparse={"words": words}, limit=10))
    films.query(
        query=q.formula(q.sum("$score", q.product(0.1, q.condition("year > 1990"))), defaults={"$score": 0}),
        prefetch=[q.prefetch(q.nearest(vector))],
    )

Each gives the tree as a dict, which may be written by hand as well.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping, Sequence
from datetime import datetime as DateTime
from typing import Any, Literal

from kith._ids import Id
from kith._sparse import SparseInput
from kith._vectors import VectorInput
from kith.errors import KithError
from kith.types import AnalyzerOptions, FilterInput

QueryExpression = Mapping[str, Any]
#: A vector, or the id of a point, which then is no result itself.
ExampleInput = VectorInput | Id
#: A number, a path in the payload, "$score" or "$score[n]", or what the functions below give.
ExpressionInput = float | str | Mapping[str, Any]
PrefetchInput = Mapping[str, Any]


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def nearest(example: ExampleInput, *, diversity: float | None = None, candidates: int | None = None) -> QueryExpression:
    """The points nearest to the example. With `diversity` (0..1) or `candidates`: those that are unlike each other (MMR)."""
    mmr = _given(diversity=diversity, candidates=candidates)
    return {"nearest": example, **({"mmr": mmr} if mmr else {})}


def text(text: str, *, analyzer: AnalyzerOptions | None = None, plain: bool = False) -> QueryExpression:
    """
    The points whose texts fit best by BM25; `using` names the index. Words, +must, -not, "a phrase", pre*, fuzzy~, weighed^2, (one OR another); with
    `plain` all of that is nothing but text. `analyzer`: instead of that of the index.
    """
    return {"text": {"text": text, "plain": plain, **_given(analyzer=analyzer)}}


def recommend(
    positive: Sequence[ExampleInput] = (),
    negative: Sequence[ExampleInput] = (),
    strategy: Literal["average", "best_score", "sum_scores"] = "average",
) -> QueryExpression:
    """Like the positive examples, and unlike the negative ones."""
    return {"recommend": {"positive": list(positive), "negative": list(negative), "strategy": strategy}}


def discover(target: ExampleInput, context: Sequence[tuple[ExampleInput, ExampleInput]] = ()) -> QueryExpression:
    """Near to the target, on the positive side of each pair (positive, negative)."""
    return {"discover": {"target": target, "context": _pairs(context)}}


def feedback(
    target: ExampleInput, judged: Sequence[tuple[ExampleInput, float]], *, a: float, b: float, c: float
) -> QueryExpression:
    """
    Like the target, and more so like examples with high scores than like those with low ones: `a` times the similarity to the target, and c * d**b times
    the difference of the similarities for each pair of judged examples whose scores differ by d.
    """
    examples = [{"example": example, "score": score} for example, score in judged]
    return {"feedback": {"target": target, "judged": examples, "a": a, "b": b, "c": c}}


def context(pairs: Sequence[tuple[ExampleInput, ExampleInput]]) -> QueryExpression:
    """On the positive side of each pair (positive, negative)."""
    return {"context": _pairs(pairs)}


def _pairs(pairs: Sequence[tuple[ExampleInput, ExampleInput]]) -> list[dict[str, ExampleInput]]:
    return [{"positive": positive, "negative": negative} for positive, negative in pairs]


def fusion(
    method: Literal["rrf", "dbsf", "relative"], *, k: int | None = None, weights: Sequence[float] | None = None
) -> QueryExpression:
    """The results of all prefetches as one list. `k` is for "rrf", `weights` (one for each prefetch) for "rrf" and "relative"."""
    options = _given(k=k, weights=weights)
    return {"fusion": {method: options} if options else method}


def order_by(
    key: str, direction: Literal["asc", "desc"] = "asc", start_from: float | DateTime | None = None
) -> QueryExpression:
    """By a number or datetime in the payload."""
    return {"order_by": {"key": key, "direction": direction, **_given(start_from=start_from)}}


def sample() -> QueryExpression:
    """Random points."""
    return {"sample": "random"}


def formula(
    expression: ExpressionInput, defaults: Mapping[str, float | str | Mapping[str, float]] | None = None
) -> QueryExpression:
    """A score made of the scores of prefetches and of the payload. `defaults` stand for missing values, by path or "$score[n]"."""
    return {"formula": expression, **_given(defaults=defaults)}


def prefetch(
    query: QueryExpression | None = None,
    *,
    prefetch: Sequence[PrefetchInput] | None = None,
    using: str | None = None,
    filter: FilterInput | None = None,
    limit: int | None = None,
    score_threshold: float | None = None,
    ef: int | None = None,
    exact: bool | None = None,
    lookup: Mapping[str, str] | None = None,
) -> PrefetchInput:
    """A query whose results another one works on. Without a query: points in order of id."""
    return _given(
        query=query,
        prefetch=prefetch,
        using=using,
        filter=filter,
        limit=limit,
        score_threshold=score_threshold,
        ef=ef,
        exact=exact,
        lookup=lookup,
    )


_CANDIDATES_MIN, _CANDIDATE_FACTOR, _CANDIDATES_MAX = 50, 5, 10_000
_PARTS = ("text", "vector", "sparse")


def hybrid(
    *,
    text: str | QueryExpression | None = None,
    vector: VectorInput | None = None,
    like: Sequence[Id] = (),
    sparse: Mapping[str, SparseInput] | None = None,
    using: str | None = None,
    text_index: str | None = None,
    fusion: Literal["rrf", "dbsf", "relative"] = "rrf",
    weights: Mapping[str, float] | None = None,
    limit: int = 10,
    offset: int = 0,
    candidates: int | None = None,
    ef: int | None = None,
    exact: bool | None = None,
) -> dict[str, Any]:
    """
    What finds by a text, a vector (or points like it) and sparse vectors at once, two of them at least: arguments of `query`, to be given as
    `query(**hybrid(...))`. `using` names the dense field, `sparse` has its fields by name, `text` may be what `text()` gives. `weights`: what "text", "vector" and
    "sparse" count (1), not with "dbsf". `candidates`: results of each that are fused; by default five times the limit and the offset, 50 at least.
    """
    if vector is not None and like:
        raise KithError("INVALID_ARGUMENT", "a hybrid query takes either a vector or points that are like it")
    if candidates is None:
        candidates = builtins.min(_CANDIDATES_MAX, builtins.max(_CANDIDATES_MIN, _CANDIDATE_FACTOR * (limit + offset)))
    found: list[tuple[str, PrefetchInput]] = []
    if text is not None:
        words = {"text": {"text": text, "plain": False}} if isinstance(text, str) else text
        found.append(("text", prefetch(words, using=text_index, limit=candidates)))
    if vector is not None or like:
        near = nearest(vector) if vector is not None else recommend(like)
        found.append(("vector", prefetch(near, using=using, limit=candidates, ef=ef, exact=exact)))
    for name, each in (sparse or {}).items():
        found.append(("sparse", prefetch(nearest(each), using=name, limit=candidates)))  # type: ignore[arg-type]
    if len(found) < 2:
        raise KithError(
            "INVALID_ARGUMENT",
            "a hybrid query needs two at least of a text, a vector (or points that are like it), and sparse vectors",
        )
    method: Any = fusion
    if weights is not None:
        held = [part for part, _ in found]
        _check_weights(weights, held, fusion)
        method = {fusion: {"weights": [weights.get(part, 1) for part in held]}}
    return {
        "prefetch": [each for _, each in found],
        "query": {"fusion": method},
        "limit": limit,
        **({"offset": offset} if offset else {}),
    }


def _check_weights(weights: Mapping[str, float], held: Sequence[str], fusion: str) -> None:
    if fusion == "dbsf":
        raise KithError("INVALID_ARGUMENT", 'the fusion "dbsf" takes no weights; use "rrf" or "relative"')
    for name, weight in weights.items():
        if name not in _PARTS:
            raise KithError("INVALID_ARGUMENT", f"weights.{name} is unknown; there are text, vector and sparse")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise KithError("INVALID_ARGUMENT", f"weights.{name} is {weight!r}; give a number of 0 or more")
        if name not in held:
            raise KithError("INVALID_ARGUMENT", f"weights.{name} is of nothing that is looked for")


def condition(filter: FilterInput) -> ExpressionInput:
    """1 where the point passes, else 0."""
    return {"condition": filter}


def sum(*operands: ExpressionInput) -> ExpressionInput:
    return {"sum": list(operands)}


def product(*operands: ExpressionInput) -> ExpressionInput:
    return {"product": list(operands)}


def max(*operands: ExpressionInput) -> ExpressionInput:
    return {"max": list(operands)}


def min(*operands: ExpressionInput) -> ExpressionInput:
    return {"min": list(operands)}


def negate(operand: ExpressionInput) -> ExpressionInput:
    return {"negate": operand}


def absolute(operand: ExpressionInput) -> ExpressionInput:
    return {"absolute": operand}


def sqrt(operand: ExpressionInput) -> ExpressionInput:
    return {"sqrt": operand}


def exp(operand: ExpressionInput) -> ExpressionInput:
    return {"exp": operand}


def ln(operand: ExpressionInput) -> ExpressionInput:
    return {"ln": operand}


def log10(operand: ExpressionInput) -> ExpressionInput:
    return {"log10": operand}


def acosh(operand: ExpressionInput) -> ExpressionInput:
    """Inverse hyperbolic cosine of a number of at least 1."""
    return {"acosh": operand}


def divide(left: ExpressionInput, right: ExpressionInput, by_zero: float | None = None) -> ExpressionInput:
    """`by_zero` is the result of a division by zero; without it the query fails."""
    return {"divide": {"left": left, "right": right, **_given(by_zero=by_zero)}}


def power(base: ExpressionInput, exponent: ExpressionInput) -> ExpressionInput:
    return {"power": {"base": base, "exponent": exponent}}


def datetime(text: str) -> ExpressionInput:
    """Seconds since the epoch of an RFC 3339 datetime with a zone."""
    return {"datetime": text}


def datetime_key(path: str) -> ExpressionInput:
    """The same of one in the payload."""
    return {"datetime_key": path}


def geo_distance(lat: float, lon: float, to: str) -> ExpressionInput:
    """Metres from here to a geo point in the payload."""
    return {"geo_distance": {"origin": {"lat": lat, "lon": lon}, "to": to}}


def _decay(
    kind: str, x: ExpressionInput, target: ExpressionInput | None, scale: float | None, midpoint: float | None
) -> ExpressionInput:
    return {kind: {"x": x, **_given(target=target, scale=scale, midpoint=midpoint)}}


def linear_decay(
    x: ExpressionInput, target: ExpressionInput | None = None, scale: float | None = None, midpoint: float | None = None
) -> ExpressionInput:
    """1 at the target, `midpoint` at the distance `scale` from it."""
    return _decay("linear_decay", x, target, scale, midpoint)


def exponential_decay(
    x: ExpressionInput, target: ExpressionInput | None = None, scale: float | None = None, midpoint: float | None = None
) -> ExpressionInput:
    return _decay("exponential_decay", x, target, scale, midpoint)


def gauss_decay(
    x: ExpressionInput, target: ExpressionInput | None = None, scale: float | None = None, midpoint: float | None = None
) -> ExpressionInput:
    return _decay("gauss_decay", x, target, scale, midpoint)
