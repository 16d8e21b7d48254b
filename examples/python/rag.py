"""Retrieval for answers (RAG) over text: cut into passages, found by two searches that are fused, put into a prompt.

    python examples/python/rag.py "how do I see my own writes?"

The texts are data/articles.jsonl, or what KITH_TEXTS names: a file of JSON lines with "title" and "text", or a folder of .txt and .md
files. No model is needed: text_vectors.py makes the vectors, and the prompt is printed instead of sent. Put your models in their places.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from text_vectors import DIMENSION, vector_of

import kith
from kith import query as q

HERE = Path(__file__).resolve().parent
NAME = "rag-python"
PASSAGE_WORDS = 60


def documents(path: Path) -> Iterator[tuple[str, str]]:
    """Title and text of each."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in (".txt", ".md"):
                yield file.stem, file.read_text(errors="replace")
        return
    with path.open() as lines:
        for line in lines:
            document = json.loads(line)
            yield document.get("title", ""), document["text"]


def passages(path: Path) -> Iterator[dict[str, Any]]:
    """Runs of whole sentences of about PASSAGE_WORDS words."""
    for title, text in documents(path):
        words: list[str] = []
        for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
            words += sentence.split()
            if len(words) >= PASSAGE_WORDS:
                yield {"title": title, "text": " ".join(words)}
                words = []
        if words:
            yield {"title": title, "text": " ".join(words)}


def points(path: Path) -> Iterator[dict[str, Any]]:
    for i, passage in enumerate(passages(path)):
        yield {"id": i, "vector": vector_of(f"{passage['title']} {passage['text']}"), "payload": passage}


def retrieve(collection: kith.CollectionHandle, question: str, limit: int = 3) -> list[dict[str, Any]]:
    """Nearest passages, and those that have the question's words: what both find comes first."""
    vector = vector_of(question)
    found = collection.query(
        query=q.fusion("rrf"),
        prefetch=[
            q.prefetch(q.nearest(vector), limit=20),
            q.prefetch(q.nearest(vector), limit=20, filter=kith.where.any_word("text", question)),
        ],
        limit=limit,
    )
    return [point.payload or {} for point in found.points]


def prompt_of(question: str, found: list[dict[str, Any]]) -> str:
    sources = "\n".join(f"[{i}] {each['title']}: {each['text']}" for i, each in enumerate(found, 1))
    return f"Answer from these sources alone, and name them.\n\n{sources}\n\nQuestion: {question}"


def main(target: str, question: str) -> None:
    path = Path(os.environ.get("KITH_TEXTS", HERE / "data" / "articles.jsonl"))
    with kith.connect(target) as client:
        collection = client.collection(NAME)
        if collection.exists():
            collection.drop()
        collection.create(vectors={"dimension": DIMENSION})
        collection.create_payload_index("text", "text")
        result = collection.upsert_many(
            points(path), on_progress=lambda at: print(f"{at.upserted} passages", file=sys.stderr)
        )
        print(f"passages: {result.upserted}")
        print(prompt_of(question, retrieve(collection, question)))
        collection.drop()


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "How does a read see my own writes?"
    main(os.environ.get("KITH_TARGET", kith.DEFAULT_TARGET), asked)
