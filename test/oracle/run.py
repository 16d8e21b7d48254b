"""Runs the comparison and reports it."""

import argparse
import base64
import json
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

import grpc
from compare import close, differences
from generate import VECTORS, Generator
from kith import Kith, filter_to_wire, id_from_wire, id_to_wire, micros_of, order_to_wire, stage_to_wire
from qdrant_client import QdrantClient, models
from qdrant_client.local import local_collection, payload_filters
from server import Server

PAGE = 10_000
DIFFERENCES_SHOWN = 20
REQUEST_SHOWN = 3_000


def correct_the_oracle() -> list[str]:
    """Where the in-memory mode is known to differ from the server, and the server is right; with what was changed."""
    original = payload_filters.check_match

    def check_match(condition: models.Match, value: Any) -> bool:
        if isinstance(condition, models.MatchExcept) and value is None:
            return False
        return original(condition, value)

    payload_filters.check_match = check_match

    def merge_filters(outer: models.Filter | None, inner: models.Filter | None) -> models.Filter | None:
        return models.Filter(must=[outer, inner]) if outer and inner else outer or inner

    local_collection._merge_filters = merge_filters
    return [
        "except: null is no value, so it is not one of the others",
        "the filter of a query also holds inside its prefetches: both hold, where `should` of one would stand in for the other's",
    ]


class Comparison:
    """One collection on both sides, and what is asked of it."""

    def __init__(self, kith: Kith, generator: Generator, name: str, count: int, shards: int, replicas: int) -> None:
        self.kith, self.generator, self.name = kith, generator, name
        self.oracle = QdrantClient(":memory:")
        self.ids: list[Any] = []
        self.other = f"{name}-other"
        self.points: dict[Any, dict[str, Any]] = {}
        for collection, size in ((name, count), (self.other, 12)):
            self.oracle.create_collection(
                collection,
                vectors_config={
                    each: models.VectorParams(size=size_, distance=distance) for each, (size_, distance, _) in VECTORS.items()
                },
            )
            kith.call(
                "Collections.Create",
                {
                    "name": collection,
                    "vectors": [
                        {"name": each, "dimension": dimension, "metric": metric}
                        for each, (dimension, _, metric) in VECTORS.items()
                    ],
                    "shard_count": shards,
                    "replication_factor": replicas,
                },
            )
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
        wire = [
            {
                "id": id_to_wire(each),
                "vectors": {name: {"values": vector} for name, vector in value["vectors"].items()},
                "payload": encode(value["payload"]),
            }
            for each, value in points.items()
        ]
        self.kith.call("Points.Upsert", {"collection": collection, "points": wire, "options": {"ack": "ACK_ALL"}})
        if collection == self.name:
            self.ids, self.points = ids, points
            generator.having = {name: {each for each in ids if name in points[each]["vectors"]} for name in VECTORS}

    def drop(self) -> None:
        for collection in (self.name, self.other):
            self.kith.call("Collections.Delete", {"name": collection})
        self.oracle.close()

    # one method for each kind of question; each gives the kind, and what is different

    def maybe_filter(self, probability: float) -> models.Filter | None:
        return self.generator.filter(self.ids) if self.generator.chance(probability) else None

    def scroll(self) -> tuple[str, Any, str | None]:
        wanted = self.generator.filter(self.ids, 3)
        expected, _ = self.oracle.scroll(self.name, scroll_filter=wanted, limit=PAGE)
        request = {"collection": self.name, "filter": filter_to_wire(wanted), "limit": PAGE}
        answer = self.kith.call("Points.Scroll", request)
        ours, theirs = [id_from_wire(each.id) for each in answer.points], [each.id for each in expected]
        return "filter and scroll", request, None if ours == theirs else f"ids {ours}, expected {theirs}"

    def count(self) -> tuple[str, Any, str | None]:
        wanted = self.maybe_filter(0.9)
        expected = self.oracle.count(self.name, count_filter=wanted).count
        request = {"collection": self.name, "filter": filter_to_wire(wanted) or {}}
        count = self.kith.call("Points.Count", request).count
        return "count", request, None if count == expected else f"{count}, expected {expected}"

    def facet(self) -> tuple[str, Any, str | None]:
        key = self.generator.pick(["genre", "year", "good", "tags", "scores", "meta.source", "cast[].name", "missing"])
        wanted, limit = self.maybe_filter(0.6), self.generator.random.randrange(1, 12)
        expected = self.oracle.facet(self.name, key=key, facet_filter=wanted, limit=limit).hits
        request = {"collection": self.name, "key": key, "filter": filter_to_wire(wanted) or {}, "limit": limit}
        hits = self.kith.call("Points.Facet", request).hits
        ours = [(getattr(each, each.WhichOneof("value")), each.count) for each in hits]
        return "facet", request, differences(ours, [(each.value, each.count) for each in expected])

    def query(self) -> tuple[str, Any, str | None]:
        generator = self.generator
        kind, stage = generator.stage(self.ids, 2, True)
        offset = generator.random.randrange(5) if generator.chance(0.2) else 0
        if generator.chance(0.1) and kind.startswith(("nearest", "recommend")) and not stage.prefetch:
            kind = f"{kind}, lookup"
            others = [each.id for each in self.oracle.scroll(self.other, limit=100, with_vectors=True)[0] if stage.using in (each.vector or {})]
            if others:
                _, stage.query = generator.scored(stage.using, others, [kind.removesuffix(", lookup")])
                stage.lookup_from = models.LookupLocation(collection=self.other, vector=stage.using)
        request = {"collection": self.name, **stage_to_wire(stage), "offset": offset}
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
        hits = self.kith.call("Points.Query", request).points
        ours = [(id_from_wire(each.id), each.score) for each in hits]
        theirs = [(each.id, each.score) for each in expected]
        # The order of MMR is that of its choice; its scores are not sorted.
        wrong = self.mmr_differences(ours, theirs) if kind.startswith("mmr") else differences(ours, theirs, offset)
        return f"query: {kind}", request, wrong

    @staticmethod
    def mmr_differences(ours: list[tuple[Any, float]], theirs: list[tuple[Any, float]]) -> str | None:
        if [each for each, _ in ours] != [each for each, _ in theirs]:
            return f"{ours}, expected {theirs}"
        return None if all(close(a, b) for (_, a), (_, b) in zip(ours, theirs)) else f"{ours}, expected {theirs}"

    def order(self) -> tuple[str, Any, str | None]:
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
        request = {
            "collection": self.name,
            "query": {"order_by": order_to_wire(order)},
            "filter": filter_to_wire(wanted) or {},
            "limit": limit,
        }
        hits = self.kith.call("Points.Query", request).points
        ours = [(id_from_wire(each.id), each.order) for each in hits]
        return "query: order by", request, differences(ours, [(each.id, each.order_value) for each in expected])

    def scroll_in_order(self) -> tuple[str, Any, str | None]:
        """All pages by their cursors, against one answer of the in-memory mode."""
        generator = self.generator
        key = generator.pick(["year", "scores", "at", "meta.votes"])
        order = models.OrderBy(key=key, direction=generator.pick([models.Direction.ASC, models.Direction.DESC]))
        wanted, limit = self.maybe_filter(0.6), generator.random.randrange(7, 40)
        expected, _ = self.oracle.scroll(self.name, scroll_filter=wanted, order_by=order, limit=PAGE)
        request: dict[str, Any] = {
            "collection": self.name,
            "filter": filter_to_wire(wanted) or {},
            "limit": limit,
            "order_by": order_to_wire(order),
        }
        ours: list[tuple[Any, float]] = []
        while True:
            page = self.kith.call("Points.Scroll", request)
            ours += [(id_from_wire(each.id), place) for each, place in zip(page.points, page.orders, strict=True)]
            if not page.next_cursor:
                break
            request["cursor"] = base64.b64encode(page.next_cursor).decode()
        return "scroll in order", request, differences(ours, [(each.id, each.order_value) for each in expected])

    def groups(self) -> tuple[str, Any, str | None]:
        generator = self.generator
        kind, stage = generator.stage(self.ids, 1, True)
        if kind.startswith(("mmr", "context")):
            return self.groups()
        # All that the prefetches can give: how many more these give for groups is each side's own choice.
        for inner in stage.prefetch or []:
            inner.limit = PAGE if inner.limit is None else 1_000
        key = generator.pick(["genre", "year", "tags", "scores", "meta.source", "cast[].name", "mixed", "serial"])
        limit, size = generator.random.randrange(1, 8), generator.random.randrange(1, 5)
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
            with_lookup=self.other if key == "serial" else None,
        ).groups
        query = {"collection": self.name, **stage_to_wire(stage), "limit": 0}
        request: dict[str, Any] = {"query": query, "group_by": key, "limit": limit, "group_size": size}
        if key == "serial":
            request["with_lookup"] = {"collection": self.other}
        groups = self.kith.call("Points.QueryGroups", request).groups
        ours = {
            getattr(each, each.WhichOneof("value")): [(id_from_wire(hit.id), hit.score) for hit in each.points]
            for each in groups
        }
        theirs = {each.id: [(hit.id, hit.score) for hit in each.hits] for each in expected}
        wrong = differences(
            [(value, hits[0][1]) for value, hits in ours.items()], [(value, hits[0][1]) for value, hits in theirs.items()]
        )
        for value in ours.keys() & theirs.keys():
            wrong = wrong or differences(ours[value], theirs[value])
        return f"groups: {kind}", request, wrong

    def matrix(self) -> tuple[str, Any, str | None]:
        """All points are drawn, so that both sides draw the same."""
        generator = self.generator
        wanted, using, limit = self.maybe_filter(0.7), generator.pick(VECTORS), generator.random.randrange(1, 6)
        expected = self.oracle.search_matrix_pairs(
            self.name, query_filter=wanted, sample=1_000, limit=limit, using=using
        ).pairs
        request = {
            "collection": self.name,
            "using": using,
            "filter": filter_to_wire(wanted) or {},
            "sample": 1_000,
            "limit": limit,
        }
        answer = self.kith.call("Points.SearchMatrix", request)
        ids = [id_from_wire(each) for each in answer.ids]
        rows: dict[Any, list[tuple[Any, float]]] = {}
        for row, column, score in zip(answer.rows, answer.columns, answer.scores, strict=True):
            rows.setdefault(ids[row], []).append((ids[column], score))
        theirs: dict[Any, list[tuple[Any, float]]] = {}
        for pair in expected:
            theirs.setdefault(pair.a, []).append((pair.b, pair.score))
        if rows.keys() != theirs.keys():
            return "matrix", request, f"rows of {list(rows)}, expected {list(theirs)}"
        for each, row in rows.items():
            wrong = differences(row, theirs[each])
            if wrong is not None:
                return "matrix", request, f"of {each}: {wrong}"
        return "matrix", request, None

    def select(self) -> tuple[str, Any, str | None]:
        generator = self.generator
        paths = ["genre", "meta.votes", "cast[].name", "tags", "cast", "place.lat", "missing", "meta", "scores[]", "serial"]
        chosen = generator.random.sample(paths, generator.random.randrange(1, 5))
        include = generator.chance(0.5)
        selector = models.PayloadSelectorInclude(include=chosen) if include else models.PayloadSelectorExclude(exclude=chosen)
        ids = generator.random.sample(self.ids, 5)
        expected = {each.id: each.payload for each in self.oracle.retrieve(self.name, ids=ids, with_payload=selector)}
        request = {
            "collection": self.name,
            "ids": [id_to_wire(each) for each in ids],
            "select": {"payload": True, "include" if include else "exclude": chosen},
        }
        points = self.kith.call("Points.Get", request).points
        ours = {id_from_wire(each.id): json.loads(each.payload) for each in points}
        return "payload by paths", request, None if ours == expected else f"{ours}, expected {expected}"

    def sample(self) -> tuple[str, Any, str | None]:
        wanted, limit = self.maybe_filter(0.7), self.generator.random.randrange(1, 40)
        passing = self.passing(wanted)
        request = {"collection": self.name, "query": {"sample": {}}, "filter": filter_to_wire(wanted) or {}, "limit": limit}
        ours = [id_from_wire(each.id) for each in self.kith.call("Points.Query", request).points]
        right = len(ours) == min(limit, len(passing)) == len(set(ours)) and set(ours) <= passing
        return "query: sample", request, None if right else f"{ours} of {len(passing)} that pass"

    def passing(self, wanted: models.Filter | None) -> set[Any]:
        return {each.id for each in self.oracle.scroll(self.name, scroll_filter=wanted, limit=PAGE)[0]}


def encode(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


WEIGHTS: list[tuple[Callable[[Comparison], tuple[str, Any, str | None]], int]] = [
    (Comparison.scroll, 4),
    (Comparison.count, 1),
    (Comparison.facet, 2),
    (Comparison.order, 2),
    (Comparison.sample, 1),
    (Comparison.scroll_in_order, 1),
    (Comparison.select, 1),
    (Comparison.groups, 4),
    (Comparison.matrix, 1),
    (Comparison.query, 10),
]


def main(root: Path) -> int:
    parser = argparse.ArgumentParser(description="compare Kith with the in-memory mode of qdrant-client")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", action="store_true", help="5 shards of 2 replicas in processes of their own")
    parser.add_argument("--each", type=int, default=500, help="queries of one collection")
    parser.add_argument("--points", type=int, default=60, help="points of one collection")
    options = parser.parse_args()
    corrections = correct_the_oracle()
    server = Server(root, options.cluster)
    counts: Counter[str] = Counter()
    wrong: list[tuple[str, str, Any]] = []
    refused: Counter[str] = Counter()
    started = time.monotonic()
    try:
        kith = Kith(root, server.target)
        done = 0
        for number in range(10**9):
            if done >= options.queries:
                break
            generator = Generator(options.seed * 1_000_003 + number)
            shards, replicas = (5, 2) if options.cluster else (generator.pick([1, 3]), 1)
            comparison = Comparison(kith, generator, f"oracle-{number}", options.points, shards, replicas)
            for _ in range(min(options.each, options.queries - done)):
                ask = generator.random.choices([each for each, _ in WEIGHTS], [weight for _, weight in WEIGHTS])[0]
                done += 1
                try:
                    kind, request, difference = ask(comparison)
                except ValueError as error:
                    # The in-memory mode refuses it, and is asked first: formulas with values that are not finite.
                    refused[str(error)[:300]] += 1
                    continue
                except grpc.RpcError as error:
                    counts[ask.__name__] += 1
                    wrong.append((ask.__name__, f"refused: {error.details()}", {}))
                    continue
                counts[kind] += 1
                if difference is not None:
                    wrong.append((kind, difference, request))
            comparison.drop()
        kith.close()
    finally:
        server.close()
    report(counts, wrong, refused, corrections, time.monotonic() - started)
    return 1 if wrong else 0


def report(
    counts: Counter[str], wrong: list[tuple[str, str, Any]], refused: Counter[str], corrections: list[str], seconds: float
) -> None:
    failed = Counter(kind for kind, _, _ in wrong)
    print(f"{'kind':40}{'queries':>10}{'different':>12}")
    for kind, count in sorted(counts.items()):
        print(f"{kind:40}{count:>10}{failed[kind]:>12}")
    print(f"{'all':40}{counts.total():>10}{len(wrong):>12}   in {seconds:.0f} s")
    for text, count in refused.most_common(10):
        print(f"refused by the in-memory mode {count} times: {text}")
    for text in corrections:
        print(f"corrected in the in-memory mode: {text}")
    for kind, difference, request in wrong[:DIFFERENCES_SHOWN]:
        print(f"\n{kind}: {difference}\n  {json.dumps(request)[:REQUEST_SHOWN]}")
