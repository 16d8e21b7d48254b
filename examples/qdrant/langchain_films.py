"""LangChain on Kith: its Qdrant integration as it is published, at another address.

    kith dev --qdrant
    pip install -r examples/qdrant/requirements.txt
    python examples/qdrant/langchain_films.py
"""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector
from qdrant_client import models

from texts import FILMS, dense, server, sparse


class Dense(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [dense(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return dense(text)


class Sparse(SparseEmbeddings):
    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> SparseVector:
        indices, values = sparse(text)
        return SparseVector(indices=indices, values=values)


def titles(documents: list[Document]) -> str:
    return ", ".join(document.metadata["title"] for document in documents)


def main() -> None:
    documents = [
        Document(page_content=film["plot"], metadata={"title": film["title"], "year": film["year"], "genre": film["genre"]})
        for film in FILMS
    ]
    store = QdrantVectorStore.from_documents(
        documents,
        embedding=Dense(),
        sparse_embedding=Sparse(),
        retrieval_mode=RetrievalMode.HYBRID,
        collection_name="langchain-films",
        force_recreate=True,
        **server(),
    )
    print("hybrid:", titles(store.similarity_search("a station on an ocean planet", k=1)))
    crime = models.Filter(must=[models.FieldCondition(key="metadata.genre", match=models.MatchValue(value="crime"))])
    print("filtered:", titles(store.similarity_search("a crew", k=3, filter=crime)))

    store.retrieval_mode = RetrievalMode.DENSE
    found = store.similarity_search_with_score("hunting bank robbers", k=1)
    print("nearest:", titles([document for document, _ in found]), f"{found[0][1]:.2f}")
    print("diverse:", titles(store.max_marginal_relevance_search("a planet", k=3, fetch_k=6, lambda_mult=0.2)))
    late = models.Filter(must=[models.FieldCondition(key="metadata.year", range=models.Range(gte=1990))])
    retriever = store.as_retriever(search_kwargs={"k": 2, "filter": late})
    print("retrieved:", titles(retriever.invoke("a station")))

    store.retrieval_mode = RetrievalMode.SPARSE
    print("by words:", titles(store.similarity_search("forbidden zone", k=1)))

    [added] = store.add_documents([Document(page_content="A robot is left alone on earth.", metadata={"title": "WALL-E"})])
    print("by id:", titles(store.get_by_ids([added])))
    store.delete([added])
    print("deleted:", len(store.get_by_ids([added])) == 0)
    print("left:", store.client.count(store.collection_name).count)
    store.client.delete_collection(store.collection_name)


if __name__ == "__main__":
    main()
