"""Haystack on Kith: its Qdrant document store as it is published, at another address.

    kith dev --qdrant
    pip install -r examples/qdrant/requirements.txt
    python examples/qdrant/haystack_films.py
"""

from __future__ import annotations

from haystack import Document, Pipeline, component
from haystack.dataclasses import SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.retrievers.qdrant import (
    QdrantEmbeddingRetriever,
    QdrantHybridRetriever,
    QdrantSparseEmbeddingRetriever,
)
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from texts import DIMENSION, FILMS, dense, server, sparse


def sparse_of(text: str) -> SparseEmbedding:
    indices, values = sparse(text)
    return SparseEmbedding(indices=indices, values=values)


@component
class Embedder:
    """Both vectors of a question."""

    @component.output_types(query_embedding=list[float], query_sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, object]:
        return {"query_embedding": dense(text), "query_sparse_embedding": sparse_of(text)}


def document_of(film: dict[str, object]) -> Document:
    plot = str(film["plot"])
    meta = {key: film[key] for key in ("title", "year", "genre")}
    return Document(
        id=str(film["title"]), content=plot, meta=meta, embedding=dense(plot), sparse_embedding=sparse_of(plot)
    )


def titles(documents: list[Document]) -> str:
    return ", ".join(document.meta["title"] for document in documents)


def main() -> None:
    store = QdrantDocumentStore(
        index="haystack-films",
        embedding_dim=DIMENSION,
        similarity="cosine",
        use_sparse_embeddings=True,
        recreate_index=True,
        wait_result_from_api=True,
        progress_bar=False,
        payload_fields_to_index=[{"field_name": "meta.genre", "field_schema": "keyword"}],
        **server(),
    )
    print("written:", store.write_documents([document_of(film) for film in FILMS]))
    print("again:", store.write_documents([document_of(FILMS[0])], policy=DuplicatePolicy.OVERWRITE))
    print("there:", store.count_documents())

    nearest = QdrantEmbeddingRetriever(store, top_k=2)
    print("nearest:", titles(nearest.run(query_embedding=dense("hunting bank robbers"))["documents"]))
    science = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.genre", "operator": "==", "value": "science fiction"},
            {"field": "meta.year", "operator": "<", "value": 1980},
        ],
    }
    print("filtered:", titles(nearest.run(query_embedding=dense("a planet"), filters=science, top_k=5)["documents"]))
    words = QdrantSparseEmbeddingRetriever(store, top_k=1)
    print("by words:", titles(words.run(query_sparse_embedding=sparse_of("forbidden zone"))["documents"]))

    pipeline = Pipeline()
    pipeline.add_component("embedder", Embedder())
    pipeline.add_component("retriever", QdrantHybridRetriever(store, top_k=2))
    pipeline.connect("embedder.query_embedding", "retriever.query_embedding")
    pipeline.connect("embedder.query_sparse_embedding", "retriever.query_sparse_embedding")
    answer = pipeline.run({"embedder": {"text": "a station on an ocean planet"}})
    print("hybrid:", titles(answer["retriever"]["documents"]))

    print("by filter:", titles(sorted(store.filter_documents(science), key=lambda each: str(each.meta["title"]))))
    store.delete_documents(["Heat"])
    print("left:", store.count_documents())
    store.delete_by_filter({"field": "meta.genre", "operator": "==", "value": "crime"})
    print("left:", store.count_documents())
    store.delete_all_documents()
    print("cleared:", store.count_documents() == 0)


if __name__ == "__main__":
    main()
