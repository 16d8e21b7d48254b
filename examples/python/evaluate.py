"""How good a search is, by queries with known answers: recall, MRR and nDCG, for several ways to search.

    python examples/python/evaluate.py

The texts are data/articles.jsonl and the judgements data/relevance.jsonl, or what KITH_TEXTS and KITH_RELEVANCE name: JSON lines with
"id", "title" and "text", and JSON lines with "query" and "relevant" (a list of ids, or ids with grades).
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from text_vectors import DIMENSION, vector_of

import kith
from kith import query as q

DATA = Path(__file__).resolve().parent / "data"
NAME = "evaluate-python"
DEPTH = 10

Search = Callable[[kith.CollectionHandle, str], list[str]]


def read(variable: str, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in Path(os.environ.get(variable, DATA / name)).read_text().splitlines()
        if line.strip()
    ]


def keys_of(result: Any) -> list[str]:
    return [point.payload["key"] for point in result.points]


def nearest(collection: kith.CollectionHandle, text: str) -> list[str]:
    return keys_of(collection.query(vector=vector_of(text), using="text", limit=DEPTH))


def exact(collection: kith.CollectionHandle, text: str) -> list[str]:
    return keys_of(collection.query(vector=vector_of(text), using="text", limit=DEPTH, exact=True))


def fused(collection: kith.CollectionHandle, text: str) -> list[str]:
    """Title and text apart, and fused by ranks."""
    vector = vector_of(text)
    prefetch = [q.prefetch(q.nearest(vector), using=using, limit=30) for using in ("text", "title")]
    return keys_of(collection.query(query=q.fusion("rrf"), prefetch=prefetch, limit=DEPTH))


def measures(found: list[str], grades: Mapping[str, float]) -> tuple[float, float, float]:
    """Recall, reciprocal rank and nDCG at DEPTH."""
    hits = [grades.get(key, 0.0) for key in found]
    ideal = sorted(grades.values(), reverse=True)[:DEPTH]
    gain = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(hits))
    best = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(ideal))
    first = next((1 / (rank + 1) for rank, grade in enumerate(hits) if grade > 0), 0.0)
    return sum(grade > 0 for grade in hits) / len(grades), first, gain / best if best > 0 else 0.0


def main(target: str) -> None:
    texts, judgements = read("KITH_TEXTS", "articles.jsonl"), read("KITH_RELEVANCE", "relevance.jsonl")
    with kith.connect(target) as client:
        collection = client.collection(NAME)
        if collection.exists():
            collection.drop()
        spec: Any = {"dimension": DIMENSION}
        collection.create(vectors={"text": spec, "title": spec})
        collection.upsert_many(
            {
                "id": i,
                "vectors": {
                    "text": vector_of(f"{each.get('title', '')} {each['text']}"),
                    "title": vector_of(each.get("title", "")),
                },
                "payload": {"key": str(each["id"])},
            }
            for i, each in enumerate(texts)
        )
        collection.wait_indexed()
        print(f"{len(texts)} texts, {len(judgements)} queries")
        print(f"{'':8} recall@{DEPTH}   MRR  nDCG")
        for search in (nearest, exact, fused):
            rows = []
            for each in judgements:
                relevant = each["relevant"]
                grades = relevant if isinstance(relevant, dict) else dict.fromkeys(relevant, 1.0)
                rows.append(
                    measures(search(collection, each["query"]), {str(key): grade for key, grade in grades.items()})
                )
            recall, mrr, ndcg = (sum(column) / len(rows) for column in zip(*rows, strict=True))
            print(f"{search.__name__:8} {recall:9.3f} {mrr:5.3f} {ndcg:5.3f}")
        collection.drop()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET))
