"""Values of wrong types in queries: a KithError that names the place, never a TypeError."""

from __future__ import annotations

from typing import Any

import pytest

from kith import KithError
from kith._query_tree import prefetch_to_wire, query_to_wire

_ORIGIN = {"lat": 0, "lon": 0}
_TARGET = {"target": 1, "a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("value", [5, True, None, {"x": 1}, b"x"])
@pytest.mark.parametrize(
    ("place", "query"),
    [
        ("recommend.positive", lambda v: {"recommend": {"positive": v}}),
        ("context", lambda v: {"context": v}),
        ("context[0]", lambda v: {"context": [v]}),
        ("discover.context", lambda v: {"discover": {"target": 1, "context": v}}),
        ("feedback.judged", lambda v: {"feedback": {**_TARGET, "judged": v}}),
        ("fusion", lambda v: {"fusion": v}),
        ("fusion.rrf.weights", lambda v: {"fusion": {"rrf": {"weights": v}}}),
        ("order_by.key", lambda v: {"order_by": {"key": v}}),
        ("sample", lambda v: {"sample": v}),
        ("formula.sum", lambda v: {"formula": {"sum": v}}),
        ("formula.datetime_key", lambda v: {"formula": {"datetime_key": v}}),
        ("formula.geo_distance.to", lambda v: {"formula": {"geo_distance": {"origin": _ORIGIN, "to": v}}}),
        ("formula.geo_distance.origin", lambda v: {"formula": {"geo_distance": {"origin": v, "to": "x"}}}),
    ],
)
def test_a_wrong_value_is_refused(place: str, query: Any, value: object) -> None:
    with pytest.raises(KithError) as refused:
        query_to_wire(query(value), "", "query")
    assert refused.value.code == "INVALID_ARGUMENT"
    assert f"query.{place}" in str(refused.value)


@pytest.mark.parametrize(
    "prefetch",
    [
        {"prefetch": 5},
        {"using": 5},
        {"using": "\ud800"},
        {"exact": "yes"},
        {"lookup": {"collection": 5}},
        {"query": {"formula": "\ud800"}},
        {"query": {"formula": 1, "defaults": 5}},
    ],
)
def test_a_wrong_prefetch_is_refused(prefetch: Any) -> None:
    with pytest.raises(KithError) as refused:
        prefetch_to_wire(prefetch, "prefetch[0]")
    assert refused.value.code == "INVALID_ARGUMENT"
