"""The films that the examples find, and vectors of texts without a model and without a download.

Parts of words are hashed into places of a vector: enough to find texts by their words. For meaning, put an embedding model in its
place; all frameworks have classes for these.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from typing import Any

DIMENSION = 256
SPARSE_DIMENSION = 1 << 20

FILMS: list[dict[str, Any]] = [
    {"title": "Solaris", "year": 1972, "genre": "science fiction", "plot": "A psychologist is sent to a station above an ocean planet."},
    {"title": "Alien", "year": 1979, "genre": "science fiction", "plot": "The crew of a space tug answers a signal from a planet."},
    {"title": "Heat", "year": 1995, "genre": "crime", "plot": "A detective hunts a crew of bank robbers through the city."},
    {"title": "Ronin", "year": 1998, "genre": "crime", "plot": "Former spies hunt a case through cities in fast cars."},
    {"title": "Stalker", "year": 1979, "genre": "science fiction", "plot": "A guide leads two men through a forbidden zone."},
    {"title": "Moon", "year": 2009, "genre": "science fiction", "plot": "A lone worker on a moon station meets himself."},
]


def server() -> dict[str, Any]:
    """What clients connect to: KITH_QDRANT_URL, and with KITH_QDRANT_GRPC_PORT by gRPC at that port."""
    url = os.environ.get("KITH_QDRANT_URL", "http://127.0.0.1:6333")
    port = os.environ.get("KITH_QDRANT_GRPC_PORT")
    return {"url": url} if port is None else {"url": url, "grpc_port": int(port), "prefer_grpc": True}


def dense(text: str) -> list[float]:
    """A unit vector of DIMENSION floats; the same text gives the same vector everywhere."""
    vector = [0.0] * DIMENSION
    for word in words_of(text):
        for part in {word, *(word[i : i + 3] for i in range(len(word) - 2))}:
            digest = zlib.crc32(part.encode())
            vector[digest % DIMENSION] += 1.0 if digest & 0x80000000 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length > 0 else [1.0, *vector[1:]]


def sparse(text: str) -> tuple[list[int], list[float]]:
    """Indices of the words, and how often each is there."""
    counts: dict[int, float] = {}
    for word in words_of(text):
        index = zlib.crc32(word.encode()) % SPARSE_DIMENSION
        counts[index] = counts.get(index, 0.0) + 1.0
    return list(counts), list(counts.values())


def words_of(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 2 and word not in {"the", "and", "from", "two"}]
