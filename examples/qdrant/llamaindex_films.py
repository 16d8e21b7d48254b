"""LlamaIndex on Kith: its Qdrant vector store as it is published, at another address.

    kith dev --qdrant
    pip install -r examples/qdrant/requirements.txt
    python examples/qdrant/llamaindex_films.py
"""

from __future__ import annotations

import uuid
from typing import Any

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from texts import FILMS, dense, server, sparse

NAME = "llamaindex-films"


class Dense(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return dense(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return dense(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return dense(query)


def sparse_of(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    vectors = [sparse(text) for text in texts]
    return [indices for indices, _ in vectors], [values for _, values in vectors]


def node_of(film: dict[str, Any]) -> TextNode:
    """A node of a document that has the title as its id."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=film["title"])}
    metadata = {key: film[key] for key in ("title", "year", "genre")}
    node_id = str(uuid.uuid5(uuid.NAMESPACE_URL, film["title"]))
    keys = list(metadata)
    return TextNode(
        id_=node_id, text=film["plot"], metadata=metadata, relationships=source, excluded_embed_metadata_keys=keys
    )


def titles(nodes: list[NodeWithScore]) -> str:
    return ", ".join(node.metadata["title"] for node in nodes)


def main() -> None:
    client = QdrantClient(**server())
    client.delete_collection(NAME)
    store = QdrantVectorStore(
        NAME, client=client, enable_hybrid=True, sparse_doc_fn=sparse_of, sparse_query_fn=sparse_of
    )
    nodes = [node_of(film) for film in FILMS]
    index = VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=Dense()
    )
    print("written:", client.count(NAME).count)
    print("nearest:", titles(index.as_retriever(similarity_top_k=2).retrieve("hunting bank robbers")))

    filters = MetadataFilters(
        filters=[
            MetadataFilter(key="genre", value="science fiction"),
            MetadataFilter(key="year", value=1980, operator=FilterOperator.LT),
        ]
    )
    print("filtered:", titles(index.as_retriever(similarity_top_k=5, filters=filters).retrieve("a planet")))

    hybrid = index.as_retriever(
        vector_store_query_mode="hybrid", similarity_top_k=3, sparse_top_k=3, hybrid_top_k=2, alpha=0.5
    )
    print("hybrid:", titles(hybrid.retrieve("forbidden zone")))
    words = index.as_retriever(vector_store_query_mode="sparse", similarity_top_k=1, sparse_top_k=1)
    print("by words:", titles(words.retrieve("ocean")))
    diverse = index.as_retriever(vector_store_query_mode="mmr", similarity_top_k=3, vector_store_kwargs={"mmr_threshold": 0.2})
    print("diverse:", titles(diverse.retrieve("a planet")))

    found = store.get_nodes(node_ids=[nodes[0].node_id])
    print("by id:", ", ".join(node.metadata["title"] for node in found))
    store.delete_nodes([nodes[0].node_id])
    index.delete_ref_doc("Heat")
    print("left:", client.count(NAME).count)
    store.clear()
    print("cleared:", not client.collection_exists(NAME))


if __name__ == "__main__":
    main()
