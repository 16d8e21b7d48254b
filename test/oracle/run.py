"""Runs the comparison and reports it."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comparison import Comparison, Outcome
from generate import Generator
from native import Native
from qdrant_client import models
from qdrant_client.local import local_collection, payload_filters
from qdrant_door import QdrantDoor
from server import Server
from subject import Refused, Subject

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


WEIGHTS: list[tuple[Callable[[Comparison], Outcome], int]] = [
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
# What only Qdrant's API is asked.
QDRANT_WEIGHTS: list[tuple[Callable[[Comparison], Outcome], int]] = [*WEIGHTS, (Comparison.write, 5)]


def subject_of(door: str, root: Path, server: Server) -> Subject:
    if door == "kith":
        return Native(root, server.target)
    return QdrantDoor(server.qdrant, server.qdrant_grpc, prefer_grpc=door == "qdrant-grpc")


def main(root: Path) -> int:
    parser = argparse.ArgumentParser(description="compare Kith with the in-memory mode of qdrant-client")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", action="store_true", help="5 shards of 2 replicas in processes of their own")
    parser.add_argument(
        "--door",
        choices=["kith", "qdrant-rest", "qdrant-grpc"],
        default="kith",
        help="who is asked: Kith's own API, or that for Qdrant's clients",
    )
    parser.add_argument("--each", type=int, default=500, help="queries of one collection")
    parser.add_argument("--points", type=int, default=60, help="points of one collection")
    options = parser.parse_args()
    corrections = correct_the_oracle()
    server = Server(root, options.cluster)
    counts: Counter[str] = Counter()
    wrong: list[tuple[str, str, Any]] = []
    refused: Counter[str] = Counter()
    started = time.monotonic()
    weights = WEIGHTS if options.door == "kith" else QDRANT_WEIGHTS
    asks, shares = [ask for ask, _ in weights], [weight for _, weight in weights]
    try:
        subject = subject_of(options.door, root, server)
        done = 0
        for number in range(10**9):
            if done >= options.queries:
                break
            generator = Generator(options.seed * 1_000_003 + number)
            shards, replicas = (5, 2) if options.cluster else (generator.pick([1, 3]), 1)
            comparison = Comparison(subject, generator, f"oracle-{number}", options.points, shards, replicas)
            for _ in range(min(options.each, options.queries - done)):
                ask = generator.random.choices(asks, shares)[0]
                done += 1
                try:
                    kind, difference = ask(comparison)
                except ValueError as error:
                    # The in-memory mode refuses it, and is asked first: formulas with values that are not finite.
                    refused[str(error)[:300]] += 1
                    continue
                except Refused as error:
                    kind, difference = ask.__name__, f"refused: {error}"
                counts[kind] += 1
                if difference is not None:
                    wrong.append((kind, difference, subject.request))
            comparison.drop()
        subject.close()
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
        print(f"\n{kind}: {difference}\n  {json.dumps(request, default=str)[:REQUEST_SHOWN]}")
