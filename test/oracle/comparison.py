"""One collection on both sides, and what is asked of it: one method for each kind of question."""

from typing import Any

from compare import close, differences
from generate import VECTORS, Generator
from qdrant_client import QdrantClient, models
from qdrant_door import QdrantDoor
from subject import Ordered, Subject
from writes import Writes

PAGE = 10_000
WRITTEN_POINTS = 30

Outcome = tuple[str, str | None]
"""The kind of a question, and what is different."""


class Comparison:
    def __init__(
        self, subject: Subject, generator: Generator, name: str, count: int, shards: int, replicas: int
    ) -> None:
        self.subject, self.generator, self.name = subject, generator, name
        self.oracle = QdrantClient(":memory:")
        self.ids: list[Any] = []
        self.other, self.written = f"{name}-other", f"{name}-written"
        self.writes: Writes | None = None
        self.collections = {name: count, self.other: 12}
        if isinstance(subject, QdrantDoor):
            self.collections[self.written] = WRITTEN_POINTS
        for collection, size in self.collections.items():
            fields = {each: models.VectorParams(size=size_, distance=distance) for each, (size_, distance, _) in VECTORS.items()}
            self.oracle.create_collection(collection, vectors_config=fields)
            subject.create(collection, shards, replicas)
            self.fill(collection, size)

    def fill(self, collection: str, count: int) -> None:
        generator = self.generator
        ids = generator.ids(count)
        points = {}
        for each in ids:
            payload = generator.payload()
            # One value at each, so that formulas can use them.
            payload["at0"] = generator.moment().strftime("%Y-%m-%dT%H:%M:%SZ")
            payload["place0"] = generator.place()
            points[each] = {"vectors": generator.vectors(), "payload": payload}
        self.oracle.upsert(
            collection,
            [models.PointStruct(id=each, vector=value["vectors"], payload=value["payload"]) for each, value in points.items()],
        )
        self.subject.fill(collection, points)
        if collection == self.name:
            self.ids = ids
            generator.having = {name: {each for each in ids if name in points[each]["vectors"]} for name in VECTORS}
        elif collection == self.written:
            # Some that there are not, beside those that there are.
            self.writes = Writes(generator, [*ids, *(each for each in range(4 * count, 5 * count))])
            self.writes.there = ids

    def drop(self) -> None:
        for collection in self.collections:
            self.subject.delete(collection)
        self.oracle.close()

    def maybe_filter(self, probability: float) -> models.Filter | None:
        return self.generator.filter(self.ids) if self.generator.chance(probability) else None

    def scroll(self) -> Outcome:
        wanted = self.generator.filter(self.ids, 3)
        page = self.generator.random.randrange(7, 40) if self.generator.chance(0.2) else PAGE
        expected, _ = self.oracle.scroll(self.name, scroll_filter=wanted, limit=PAGE)
        ours, theirs = self.subject.scroll(self.name, wanted, page), [each.id for each in expected]
        return "filter and scroll", None if ours == theirs else f"ids {ours}, expected {theirs}"

    def count(self) -> Outcome:
        wanted = self.maybe_filter(0.9)
        expected = self.oracle.count(self.name, count_filter=wanted).count
        count = self.subject.count(self.name, wanted)
        return "count", None if count == expected else f"{count}, expected {expected}"

    def facet(self) -> Outcome:
        key = self.generator.pick(["genre", "year", "good", "tags", "scores", "meta.source", "cast[].name", "missing"])
        wanted, limit = self.maybe_filter(0.6), self.generator.random.randrange(1, 12)
        expected = self.oracle.facet(self.name, key=key, facet_filter=wanted, limit=limit).hits
        ours = self.subject.facet(self.name, key, wanted, limit)
        return "facet", differences(ours, [(each.value, each.count) for each in expected])

    def query(self) -> Outcome:
        generator = self.generator
        kind, stage = generator.stage(self.ids, 2, True)
        offset = generator.random.randrange(5) if generator.chance(0.2) else 0
        if generator.chance(0.1) and kind.startswith(("nearest", "recommend")) and not stage.prefetch:
            kind = f"{kind}, lookup"
            others = [each.id for each in self.oracle.scroll(self.other, limit=100, with_vectors=True)[0] if stage.using in (each.vector or {})]
            if others:
                _, stage.query = generator.scored(stage.using, others, [kind.removesuffix(", lookup")])
                stage.lookup_from = models.LookupLocation(collection=self.other, vector=stage.using)
        expected = self.oracle.query_points(
            self.name,
            query=stage.query,
            prefetch=stage.prefetch,
            query_filter=stage.filter,
            using=stage.using,
            limit=stage.limit,
            offset=offset,
            score_threshold=stage.score_threshold,
            lookup_from=stage.lookup_from,
            with_payload=False,
        ).points
        ours = self.subject.query(self.name, stage, offset)
        theirs = [(each.id, each.score) for each in expected]
        # The order of MMR is that of its choice; its scores are not sorted.
        wrong = self.mmr_differences(ours, theirs) if kind.startswith("mmr") else differences(ours, theirs, offset)
        return f"query: {kind}", wrong

    @staticmethod
    def mmr_differences(ours: Ordered, theirs: Ordered) -> str | None:
        if [each for each, _ in ours] != [each for each, _ in theirs]:
            return f"{ours}, expected {theirs}"
        return None if all(close(a, b) for (_, a), (_, b) in zip(ours, theirs)) else f"{ours}, expected {theirs}"

    def order(self) -> Outcome:
        generator = self.generator
        key = generator.pick(["year", "rating", "serial", "scores", "at", "meta.votes", "cast[].age"])
        start: Any = None
        if generator.chance(0.4):
            start = generator.moment() if key == "at" else generator.random.randrange(1, 1990)
        order = models.OrderBy(
            key=key, direction=generator.pick([None, models.Direction.ASC, models.Direction.DESC]), start_from=start
        )
        wanted, limit = self.maybe_filter(0.6), generator.random.randrange(1, 30)
        expected = self.oracle.query_points(
            self.name, query=models.OrderByQuery(order_by=order), query_filter=wanted, limit=limit
        ).points
        ours = self.subject.order(self.name, order, wanted, limit)
        return "query: order by", differences(ours, [(each.id, each.order_value) for each in expected])

    def scroll_in_order(self) -> Outcome:
        """All pages, against one answer of the in-memory mode."""
        generator = self.generator
        key = generator.pick(["year", "scores", "at", "meta.votes"])
        order = models.OrderBy(key=key, direction=generator.pick([models.Direction.ASC, models.Direction.DESC]))
        wanted, page = self.maybe_filter(0.6), generator.random.randrange(7, 40)
        expected, _ = self.oracle.scroll(self.name, scroll_filter=wanted, order_by=order, limit=PAGE)
        ours = self.subject.scroll_in_order(self.name, order, wanted, page)
        return "scroll in order", differences(ours, [(each.id, each.order_value) for each in expected])

    def groups(self) -> Outcome:
        generator = self.generator
        kind, stage = generator.stage(self.ids, 1, True)
        if kind.startswith(("mmr", "context")):
            return self.groups()
        # All that the prefetches can give: how many more these give for groups is each side's own choice.
        for inner in stage.prefetch or []:
            inner.limit = PAGE if inner.limit is None else 1_000
        key = generator.pick(["genre", "year", "tags", "scores", "meta.source", "cast[].name", "mixed", "serial"])
        limit, size = generator.random.randrange(1, 8), generator.random.randrange(1, 5)
        lookup = self.other if key == "serial" else None
        expected = self.oracle.query_points_groups(
            self.name,
            group_by=key,
            query=stage.query,
            prefetch=stage.prefetch,
            query_filter=stage.filter,
            using=stage.using,
            limit=limit,
            group_size=size,
            score_threshold=stage.score_threshold,
            with_lookup=lookup,
        ).groups
        ours = self.subject.groups(self.name, stage, key, limit, size, lookup)
        theirs = {each.id: [(hit.id, hit.score) for hit in each.hits] for each in expected}
        wrong = differences(
            [(value, hits[0][1]) for value, hits in ours.items()], [(value, hits[0][1]) for value, hits in theirs.items()]
        )
        for value in ours.keys() & theirs.keys():
            wrong = wrong or differences(ours[value], theirs[value])
        return f"groups: {kind}", wrong

    def matrix(self) -> Outcome:
        """All points are drawn, so that both sides draw the same."""
        generator = self.generator
        wanted, using, limit = self.maybe_filter(0.7), generator.pick(VECTORS), generator.random.randrange(1, 6)
        expected = self.oracle.search_matrix_pairs(
            self.name, query_filter=wanted, sample=1_000, limit=limit, using=using
        ).pairs
        rows = self.subject.matrix(self.name, wanted, using, limit)
        theirs: dict[Any, Ordered] = {}
        for pair in expected:
            theirs.setdefault(pair.a, []).append((pair.b, pair.score))
        if rows.keys() != theirs.keys():
            return "matrix", f"rows of {list(rows)}, expected {list(theirs)}"
        for each, row in rows.items():
            wrong = differences(row, theirs[each])
            if wrong is not None:
                return "matrix", f"of {each}: {wrong}"
        return "matrix", None

    def select(self) -> Outcome:
        generator = self.generator
        paths = ["genre", "meta.votes", "cast[].name", "tags", "cast", "place.lat", "missing", "meta", "scores[]", "serial"]
        chosen = generator.random.sample(paths, generator.random.randrange(1, 5))
        include = generator.chance(0.5)
        selector = models.PayloadSelectorInclude(include=chosen) if include else models.PayloadSelectorExclude(exclude=chosen)
        ids = generator.random.sample(self.ids, 5)
        expected = {each.id: each.payload for each in self.oracle.retrieve(self.name, ids=ids, with_payload=selector)}
        ours = self.subject.select(self.name, ids, selector)
        return "payload by paths", None if ours == expected else f"{ours}, expected {expected}"

    def sample(self) -> Outcome:
        wanted, limit = self.maybe_filter(0.7), self.generator.random.randrange(1, 40)
        passing = {each.id for each in self.oracle.scroll(self.name, scroll_filter=wanted, limit=PAGE)[0]}
        ours = self.subject.sample(self.name, wanted, limit)
        right = len(ours) == min(limit, len(passing)) == len(set(ours)) and set(ours) <= passing
        return "query: sample", None if right else f"{ours} of {len(passing)} that pass"

    def write(self) -> Outcome:
        """One write, and all that both sides then have. By Qdrant's API alone, whose methods both sides have."""
        assert isinstance(self.subject, QdrantDoor) and self.writes is not None
        call, arguments = self.writes.next()
        getattr(self.oracle, call)(self.written, **arguments)
        self.subject.write(self.written, call, arguments)
        request = self.subject.request
        theirs = {
            each.id: each
            for each in self.oracle.scroll(self.written, limit=PAGE, with_payload=True, with_vectors=True)[0]
        }
        self.writes.there = list(theirs)
        ours = self.subject.content(self.written)
        self.subject.request = request
        wrong = content_differences(ours, theirs)
        if wrong is not None:
            # Else every further write would tell of the same.
            self.make_equal(theirs)
        return f"write: {call}", wrong

    def make_equal(self, theirs: dict[Any, models.Record]) -> None:
        assert isinstance(self.subject, QdrantDoor)
        self.subject.delete(self.written)
        self.subject.create(self.written, 1, 1)
        points = {each.id: {"vectors": each.vector or {}, "payload": each.payload or {}} for each in theirs.values()}
        self.subject.fill(self.written, points)


def content_differences(ours: dict[Any, models.Record], theirs: dict[Any, models.Record]) -> str | None:
    if ours.keys() != theirs.keys():
        return f"points {list(ours)}, expected {list(theirs)}"
    for each, expected in theirs.items():
        found = ours[each]
        if (found.payload or {}) != (expected.payload or {}):
            return f"payload of {each} {found.payload}, expected {expected.payload}"
        vectors, wanted = found.vector or {}, expected.vector or {}
        if vectors.keys() != wanted.keys():
            return f"vectors of {each} {list(vectors)}, expected {list(wanted)}"
        for name, vector in wanted.items():
            if not all(close(a, b) for a, b in zip(vectors[name], vector, strict=True)):
                return f"vector {name} of {each} {vectors[name]}, expected {vector}"
    return None
