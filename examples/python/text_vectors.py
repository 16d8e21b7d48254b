"""Vectors of texts without a model and without a download: words and parts of words, hashed.

Enough to show how a program hangs together, and to find texts by their words. For meaning, put an embedding model in its place:
anything that gives an array of floats for a text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512
# Words that say little about a text.
COMMON = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "them",
        "there",
        "these",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "with",
        "you",
    ]
)


def vector_of(text: str) -> NDArray[np.float32]:
    """A unit vector of DIMENSION floats; the same text gives the same vector everywhere."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    for feature, weight in _features(text):
        digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
        place = int.from_bytes(digest[:4], "little") % DIMENSION
        vector[place] += weight if digest[4] & 1 else -weight
    length = np.linalg.norm(vector)
    if length == 0:
        # A vector of zeros has no direction, and cosine none for it.
        vector[0] = length = 1
    return vector / np.float32(length)


def matrix_of(texts: Iterable[str]) -> NDArray[np.float32]:
    return np.stack([vector_of(text) for text in texts])


def _features(text: str) -> Iterable[tuple[str, float]]:
    for word in re.findall(r"\w+", text.lower()):
        if word in COMMON:
            continue
        yield word, 1.0
        # Inflected words have their beginnings in common.
        if len(word) > 4:
            yield f"^{word[:4]}", 0.5
