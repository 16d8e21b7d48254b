"""Create, write, query, read your own writes, repeat with one effect: the beginning.

kith dev                               # in another terminal
python examples/python/quickstart.py
"""

from __future__ import annotations

import os
import sys

import numpy as np

import kith

FILMS = [
    {"id": 1, "vector": [0.9, 0.1, 0], "payload": {"title": "Heat", "year": 1995}},
    {"id": 2, "vector": [0.8, 0.3, 0.1], "payload": {"title": "Ronin", "year": 1998}},
    {"id": 3, "vector": np.array([0, 0.2, 0.9]), "payload": {"title": "Solaris", "year": 1972}},
]


def main(target: str) -> None:
    with kith.connect(target) as client:
        films = client.collection("films-sdk-python")
        if films.exists():
            films.drop()
        created = films.create(vectors={"dimension": 3, "metric": "cosine"}, shards=2)
        print(f"created: {created.shards} shards, {created.vectors[0].metric}")
        print(f"upserted: {films.upsert(FILMS).upserted}")
        for point in films.query(vector=[1, 0, 0], limit=2).points:
            print(f"nearest: {(point.payload or {})['title']} {point.score:.3f}")
        late = films.query(vector=[1, 0, 0], filter="year > 1996")
        print(f"late: {[(point.payload or {})['title'] for point in late.points]}")

        # Another process, given the token, reads at least what was written here.
        with kith.connect(target) as other:
            print(f"another client: {other.collection(films.name).count(consistency=films.token)}")

        alien = {"id": 4, "vector": [0.1, 0.9, 0.3], "payload": {"title": "Alien", "year": 1979}}
        first = films.upsert(alien, mode="insert", idempotency_key="film-4")
        again = films.upsert(alien, mode="insert", idempotency_key="film-4")
        other_key = films.upsert(alien, mode="insert")
        print(f"insert: {first.upserted}, repeated: {again.upserted}, with another key: {other_key.errors[0].code}")
        try:
            films.query(vector=[1, 0])
        except kith.InvalidRequestError as error:
            print(f"refused: {error.code}")
        films.drop()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET))
