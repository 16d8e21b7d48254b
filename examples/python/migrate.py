"""Moves another store's export (JSON lines) into a collection, and tells which lines could not be taken.

    python examples/python/migrate.py export.jsonl films

Each line is one point, as most stores write them: "id", "_id" or "key"; "vector", "values" or "embedding", or "vectors" by name; "payload" or
"metadata", or all other keys. The schema is made from the first line. A run that was ended goes on where it stopped: its place is kept beside
the export.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import kith
from kith.types import SettledBatch

IDS = ("id", "_id", "key")
VECTORS = ("vector", "values", "embedding")
PAYLOADS = ("payload", "metadata")


def point_of(line: str) -> dict[str, Any]:
    fields = json.loads(line)
    point: dict[str, Any] = {}
    for target, names in (("id", IDS), ("vector", VECTORS), ("vectors", ("vectors",)), ("payload", PAYLOADS)):
        name = next((each for each in names if each in fields), None)
        if name is not None:
            point[target] = fields.pop(name)
    # Some stores put a dict of named vectors under "vector".
    if isinstance(point.get("vector"), dict):
        point["vectors"] = point.pop("vector")
    point.setdefault("payload", fields)
    return point


def schema_of(point: dict[str, Any]) -> Any:
    if "vectors" in point:
        return {name: {"dimension": len(vector)} for name, vector in point["vectors"].items()}
    return {"dimension": len(point["vector"])}


def points(path: Path, first: int) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        for line in islice(lines, first, None):
            yield point_of(line)


def main(target: str, path: Path, name: str) -> None:
    state = path.with_suffix(".position")
    begin = int(state.read_text()) if state.exists() else 0

    def keep(batch: SettledBatch) -> None:
        state.write_text(str(begin + batch.resume_index))

    with kith.connect(target) as client:
        collection = client.collection(name)
        collection.create(vectors=schema_of(next(points(path, 0))), if_not_exists=True)
        result = collection.upsert_many(
            points(path, begin),
            on_batch=keep,
            on_progress=lambda at: print(f"{at.upserted} written, {at.failed} refused", file=sys.stderr),
        )
        for error in result.errors:
            print(f"line {begin + error.index + 1}: {error.code}: {error.message}")
        print(f"written: {result.upserted}, refused: {result.failed}, now there: {collection.count()}")
    state.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET), Path(sys.argv[1]), sys.argv[2])
