"""Random points, filters and queries. Everything comes from one seeded source, so that a run can be repeated."""

import random
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from qdrant_client import models

VECTORS = {
    "a": (4, models.Distance.COSINE, "METRIC_COSINE"),
    "b": (6, models.Distance.DOT, "METRIC_DOT"),
    "c": (3, models.Distance.EUCLID, "METRIC_L2"),
}
GENRES = ["drama", "crime", "comedy", "horror", "Drama", "döner"]
WORDS = ["red", "car", "fast", "old", "house", "blue"]
NUMBER_KEYS = ["year", "rating", "meta.votes", "cast[].age", "scores", "scores[]", "mixed"]
KEYWORD_KEYS = ["genre", "tags", "meta.source", "cast[].name", "mixed", "missing"]
START = datetime(2020, 1, 1, tzinfo=timezone.utc)


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, values: Any) -> Any:
        return self.random.choice(list(values))

    # points

    def ids(self, count: int) -> list[int | str]:
        numbers = self.random.sample(range(3 * count), count)
        return [
            number if self.chance(0.8) else str(uuid.UUID(int=self.random.getrandbits(128), version=4))
            for number in numbers
        ]

    def vector(self, name: str) -> list[float]:
        return [round(self.random.uniform(-1, 1), 4) for _ in range(VECTORS[name][0])]

    def vectors(self) -> dict[str, list[float]]:
        return {name: self.vector(name) for name in VECTORS if name == "a" or self.chance(0.85)}

    def moment(self) -> datetime:
        return START + timedelta(seconds=self.random.randrange(4 * 365 * 86_400))

    def datetime_text(self) -> str:
        moment = self.moment()
        form = self.random.random()
        if form < 0.6:
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if form < 0.8:
            return moment.strftime("%Y-%m-%dT%H:%M:%S.%f+02:00")
        return moment.strftime("%Y-%m-%d")

    def place(self) -> dict[str, float]:
        return {"lat": round(self.random.uniform(-80, 80), 3), "lon": round(self.random.uniform(-179, 179), 3)}

    def payload(self) -> dict[str, Any]:
        some = self.random
        content: dict[str, Any] = {"serial": some.randrange(10_000), "weight": round(some.uniform(0.1, 9), 3)}
        optional: dict[str, Any] = {
            "genre": lambda: self.pick(GENRES),
            "year": lambda: some.randrange(1980, 2000),
            "rating": lambda: self.pick([round(some.uniform(0, 10), 1), some.randrange(10), float(some.randrange(5))]),
            "good": lambda: self.chance(0.5),
            "tags": lambda: [self.pick(GENRES) for _ in range(some.randrange(4))],
            "scores": lambda: [some.randrange(6) for _ in range(some.randrange(4))],
            "mixed": lambda: self.pick([None, 3, "drama", 2.5, True, [], [1, "crime"], {"x": 1}]),
            "title": lambda: " ".join(self.pick(WORDS) for _ in range(some.randrange(1, 6))),
            "at": self.datetime_text,
            "place": lambda: self.pick([self.place(), [self.place(), self.place()]]),
            "meta": lambda: {"votes": some.randrange(100), "source": self.pick(["web", "tv", "tv-2"])},
            "cast": lambda: [
                {"name": self.pick(["ann", "bob", "eve"]), "age": some.randrange(20, 30)} for _ in range(some.randrange(4))
            ],
        }
        for key, value in optional.items():
            if self.chance(0.85):
                content[key] = None if self.chance(0.04) else value()
        return content

    # filters

    def filter(self, ids: list[Any], depth: int = 2) -> models.Filter:
        clauses: dict[str, Any] = {}
        for name, probability in (("must", 0.6), ("should", 0.4), ("must_not", 0.3)):
            if self.chance(probability):
                clauses[name] = [self.condition(ids, depth) for _ in range(self.random.randrange(1, 3))]
        if self.chance(0.1):
            conditions = [self.condition(ids, depth) for _ in range(3)]
            clauses["min_should"] = models.MinShould(conditions=conditions, min_count=self.random.randrange(1, 4))
        if not clauses:
            clauses["must"] = [self.condition(ids, depth)]
        return models.Filter(**clauses)

    def condition(self, ids: list[Any], depth: int, nested: bool = False) -> Any:
        if depth > 0 and self.chance(0.2):
            return self.filter(ids, depth - 1) if not nested else self.nested_field()
        if nested:
            return self.nested_field()
        kind = self.random.randrange(12)
        if kind < 4:
            return self.match()
        if kind < 6:
            return models.FieldCondition(key=self.pick(NUMBER_KEYS), range=self.range())
        if kind == 6:
            low = self.moment()
            return models.FieldCondition(
                key="at", range=models.DatetimeRange(gte=low, lt=low + timedelta(days=self.random.randrange(1, 900)))
            )
        if kind == 7:
            return self.geo()
        if kind == 8:
            key = self.pick(["tags", "scores", "genre", "missing", "mixed", "cast"])
            return models.FieldCondition(key=key, values_count=models.ValuesCount(gte=self.random.randrange(4)))
        if kind == 9:
            key = self.pick(["tags", "genre", "missing", "mixed", "cast[].name", "meta.source"])
            field = models.PayloadField(key=key)
            return self.pick([models.IsEmptyCondition(is_empty=field), models.IsNullCondition(is_null=field)])
        if kind == 10:
            inner = models.Filter(must=[self.nested_field() for _ in range(self.random.randrange(1, 3))])
            return models.NestedCondition(nested=models.Nested(key="cast", filter=inner))
        return self.pick(
            [
                models.HasIdCondition(has_id=self.random.sample(ids, min(len(ids), 8))),
                models.HasVectorCondition(has_vector=self.pick(VECTORS)),
                models.SliceCondition(slice=models.Slice(index=self.random.randrange(3), total=3)),
            ]
        )

    def nested_field(self) -> models.FieldCondition:
        if self.chance(0.5):
            return models.FieldCondition(key="name", match=models.MatchValue(value=self.pick(["ann", "bob", "eve"])))
        return models.FieldCondition(key="age", range=models.Range(gte=self.random.randrange(20, 30)))

    def match(self) -> models.FieldCondition:
        kind = self.random.randrange(8)
        if kind < 2:
            return models.FieldCondition(key=self.pick(KEYWORD_KEYS), match=models.MatchValue(value=self.pick(GENRES)))
        if kind == 2:
            value = self.pick([self.random.randrange(1980, 2000), self.random.randrange(6), True, False])
            return models.FieldCondition(key=self.pick([*NUMBER_KEYS, "good"]), match=models.MatchValue(value=value))
        if kind == 3:
            values = self.random.sample(GENRES, 2)
            return models.FieldCondition(key=self.pick(KEYWORD_KEYS), match=models.MatchAny(any=values))
        if kind == 4:
            values = [self.random.randrange(1980, 2000) for _ in range(4)] + [1, 3]
            return models.FieldCondition(key=self.pick(NUMBER_KEYS), match=models.MatchAny(any=values))
        if kind == 5:
            values = {"except": self.random.sample(GENRES, 2)}
            return models.FieldCondition(key=self.pick(KEYWORD_KEYS), match=models.MatchExcept(**values))
        text = " ".join(self.pick(WORDS) for _ in range(self.random.randrange(1, 3)))
        if kind == 6:
            match = self.pick([models.MatchTextAny(text_any=text), models.MatchPhrase(phrase=text)])
            return models.FieldCondition(key="title", match=match)
        return models.FieldCondition(
            key=self.pick(["genre", "tags", "title"]),
            match=models.MatchPrefix(prefix=self.pick(["dr", "c", "re", "D", "fast c"])),
        )

    def range(self) -> models.Range:
        low = self.pick([self.random.randrange(1980, 2000), self.random.randrange(10), round(self.random.uniform(0, 9), 1)])
        if self.chance(0.5):
            return models.Range(**{self.pick(["gt", "gte", "lt", "lte"]): low})
        return models.Range(gte=low, lt=low + self.random.randrange(1, 12))

    def geo(self) -> models.FieldCondition:
        kind = self.random.randrange(3)
        centre = models.GeoPoint(**self.place())
        if kind == 0:
            radius = float(self.random.randrange(100_000, 9_000_000))
            return models.FieldCondition(key="place", geo_radius=models.GeoRadius(center=centre, radius=radius))
        south, west = round(self.random.uniform(-80, 20), 2), round(self.random.uniform(-170, 60), 2)
        north, east = south + 60, west + 110
        if kind == 1:
            box = models.GeoBoundingBox(
                top_left=models.GeoPoint(lat=north, lon=west), bottom_right=models.GeoPoint(lat=south, lon=east)
            )
            return models.FieldCondition(key="place", geo_bounding_box=box)
        ring = lambda s, w, n, e: models.GeoLineString(  # noqa: E731
            points=[models.GeoPoint(lat=lat, lon=lon) for lat, lon in ((s, w), (s, e), (n, e), (n, w), (s, w))]
        )
        interiors = [ring(south + 20, west + 30, south + 40, west + 70)] if self.chance(0.5) else []
        polygon = models.GeoPolygon(exterior=ring(south, west, north, east), interiors=interiors)
        return models.FieldCondition(key="place", geo_polygon=polygon)

    # queries

    def example(self, name: str, ids: list[Any]) -> Any:
        return self.pick(ids) if ids and self.chance(0.4) else self.vector(name)

    def pairs(self, name: str, ids: list[Any]) -> list[models.ContextPair]:
        return [
            models.ContextPair(positive=self.example(name, ids), negative=self.example(name, ids))
            for _ in range(self.random.randrange(1, 4))
        ]

    def scored(self, name: str, ids: list[Any], kinds: list[str]) -> tuple[str, Any]:
        """A query by vectors; its scores are different for different points, but for those of `context`."""
        kind = self.pick(kinds)
        if kind == "nearest":
            return kind, models.NearestQuery(nearest=self.example(name, ids))
        if kind == "mmr":
            mmr = models.Mmr(diversity=round(self.random.random(), 2), candidates_limit=self.random.randrange(15, 40))
            return kind, models.NearestQuery(nearest=self.example(name, ids), mmr=mmr)
        if kind.startswith("recommend"):
            strategy = models.RecommendStrategy(kind.removeprefix("recommend "))
            least = 1 if strategy == models.RecommendStrategy.AVERAGE_VECTOR else 0
            positive = [self.example(name, ids) for _ in range(self.random.randrange(least, 4))]
            negative = [self.example(name, ids) for _ in range(self.random.randrange(3) if positive else 1)]
            # Equally like a positive and a negative example, a point has either sign, by rounding.
            negative = [each for each in negative if each not in positive] or ([] if positive else [self.vector(name)])
            return kind, models.RecommendQuery(
                recommend=models.RecommendInput(positive=positive, negative=negative, strategy=strategy)
            )
        if kind == "discover":
            return kind, models.DiscoverQuery(
                discover=models.DiscoverInput(target=self.example(name, ids), context=self.pairs(name, ids))
            )
        return "context", models.ContextQuery(context=self.pairs(name, ids))

    def formula(self, prefetches: int, ids: list[Any]) -> models.FormulaQuery:
        defaults = {
            "year": 1990.0,
            "rating": 1.5,
            "at": "2021-05-01T00:00:00Z",
            "place": {"lat": 10.0, "lon": 20.0},
            f"$score[{prefetches - 1}]": 0.25,
        }
        return models.FormulaQuery(formula=self.expression(prefetches, ids, 3), defaults=defaults)

    def expression(self, prefetches: int, ids: list[Any], depth: int) -> Any:
        inner = lambda: self.expression(prefetches, ids, depth - 1)  # noqa: E731
        kind = self.random.randrange(16) if depth > 0 else self.random.randrange(4)
        if kind == 0:
            return round(self.random.uniform(-3, 3), 2)
        if kind == 1:
            return f"$score[{self.random.randrange(prefetches)}]" if self.chance(0.8) else "$score"
        if kind == 2:
            return self.pick(["weight", "serial"])
        if kind == 3:
            return self.condition(ids, 0)
        if kind == 4:
            return models.SumExpression(sum=[inner(), inner()])
        if kind == 5:
            return models.MultExpression(mult=[inner(), inner()])
        if kind == 6:
            return self.pick([models.MaxExpression(max=[inner(), inner()]), models.MinExpression(min=[inner(), inner()])])
        if kind == 7:
            return self.pick([models.NegExpression(neg=inner()), models.AbsExpression(abs=inner())])
        if kind == 8:
            return models.DivExpression(
                div=models.DivParams(left=inner(), right="weight", by_zero_default=self.random.choice([None, 1.0]))
            )
        if kind == 9:
            return models.SqrtExpression(sqrt=models.AbsExpression(abs=inner()))
        if kind == 10:
            return models.LnExpression(ln="weight") if self.chance(0.5) else models.Log10Expression(log10="weight")
        if kind == 11:
            return models.PowExpression(pow=models.PowParams(base="weight", exponent=round(self.random.uniform(-2, 2), 1)))
        decay = self.pick([("lin_decay", models.LinDecayExpression), ("exp_decay", models.ExpDecayExpression), ("gauss_decay", models.GaussDecayExpression)])
        midpoint = round(self.random.uniform(0.1, 0.9), 2)
        if kind == 12:
            params = models.DecayParamsExpression(x="weight", target=4.0, scale=2.0, midpoint=midpoint)
        elif kind == 13:
            params = models.DecayParamsExpression(
                x=models.GeoDistance(geo_distance=models.GeoDistanceParams(origin=models.GeoPoint(lat=1, lon=2), to="place0")),
                scale=5_000_000.0,
                midpoint=midpoint,
            )
        elif kind == 14:
            params = models.DecayParamsExpression(
                x=models.DatetimeKeyExpression(datetime_key="at0"),
                target=models.DatetimeExpression(datetime="2021-06-01T00:00:00Z"),
                scale=40_000_000.0,
                midpoint=midpoint,
            )
        else:
            params = models.DecayParamsExpression(x=inner(), scale=3.0, midpoint=midpoint)
        return decay[1](**{decay[0]: params})

    def stage(self, ids: list[Any], depth: int, at_root: bool) -> tuple[str, models.Prefetch]:
        """A whole query as a Prefetch, with the name of its kind; below the root only kinds whose order is certain."""
        limit = self.random.randrange(1, 25)
        name = self.pick(VECTORS)
        common: dict[str, Any] = {"limit": limit, "using": name}
        if self.chance(0.5):
            common["filter"] = self.filter(ids, 1)
        with_vector = [each for each in ids if each in self.having[name]]
        if depth > 0 and self.chance(0.5):
            inner = [self.stage(ids, depth - 1, False)[1] for _ in range(self.random.randrange(1, 4))]
            # Of two points each, lists of a DBSF give both the same score: that is for the root, where ties are seen.
            kinds = ["rescore", "rrf", "formula"] if at_root else ["rescore", "rrf weighted"]
            # The in-memory mode puts the farthest first where scores are distances (qdrant-client pull request 1455).
            if at_root and all(VECTORS[each.using][1] != models.Distance.EUCLID for each in inner if each.using):
                kinds.append("dbsf")
            kind = self.pick(kinds)
            common["prefetch"] = inner
            if kind == "rescore":
                which, query = self.scored(name, with_vector, ["nearest", "recommend best_score", "discover"])
                return f"rescore by {which}", models.Prefetch(query=query, **common)
            # A field of vectors means nothing to a fusion or a formula.
            del common["using"]
            if kind == "rrf":
                return kind, models.Prefetch(query=models.FusionQuery(fusion=models.Fusion.RRF), **common)
            if kind == "rrf weighted":
                weights = [round(self.random.uniform(0.1, 3), 3) for _ in inner]
                rrf = models.Rrf(k=self.random.randrange(1, 60), weights=weights)
                return kind, models.Prefetch(query=models.RrfQuery(rrf=rrf), **common)
            if kind == "dbsf":
                return kind, models.Prefetch(query=models.FusionQuery(fusion=models.Fusion.DBSF), **common)
            return "formula", models.Prefetch(query=self.formula(len(inner), ids), **common)
        kinds = ["nearest", "recommend average_vector", "recommend best_score", "recommend sum_scores", "discover"]
        kind, query = self.scored(name, with_vector, [*kinds, "context", "mmr"] if at_root else kinds)
        if kind == "nearest" and name != "c" and self.chance(0.2):
            common["score_threshold"] = round(self.random.uniform(-0.5, 0.7), 2) + 0.00003
        return kind, models.Prefetch(query=query, **common)

    having: dict[str, set[Any]] = {}
