"""VectorDBBench's client for Qdrant, through the steps of its cases: load, optimize, search, search under filters."""

from __future__ import annotations

import os

import numpy as np
from vectordb_bench.backend.clients.api import MetricType
from vectordb_bench.backend.clients.qdrant_local.config import QdrantLocalConfig, QdrantLocalIndexConfig
from vectordb_bench.backend.clients.qdrant_local.qdrant_local import QdrantLocal

POINTS, DIMENSION, QUERIES, TOP = 2_000, 32, 100, 10
LEAST_RECALL = 0.99


def main() -> None:
    random = np.random.default_rng(7)
    vectors = random.standard_normal((POINTS, DIMENSION)).astype(np.float32)
    queries = random.standard_normal((QUERIES, DIMENSION)).astype(np.float32)
    distances = 1 - queries @ vectors.T / np.linalg.norm(vectors, axis=1) / np.linalg.norm(queries, axis=1)[:, None]
    config = QdrantLocalConfig(url=os.environ["KITH_QDRANT_URL"])
    case = QdrantLocalIndexConfig(metric_type=MetricType.COSINE, m=16, ef_construct=128, hnsw_ef=128)
    # Twice: the second run drops what the first has left.
    for _ in range(2):
        database = QdrantLocal(DIMENSION, config.to_dict(), case, drop_old=True)
        with database.init():
            count, error = database.insert_embeddings(vectors.tolist(), list(range(POINTS)))
            assert error is None, error
            assert count >= POINTS
            database.optimize()
            for least in (None, POINTS * 9 // 10):
                filters = None if least is None else {"id": least}
                found = [database.search_embedding(query.tolist(), TOP, filters) for query in queries]
                allowed = distances if least is None else np.where(np.arange(POINTS) > least, distances, np.inf)
                expected = np.argsort(allowed, axis=1)[:, :TOP]
                recall = np.mean([len(set(ids) & set(right.tolist())) / TOP for ids, right in zip(found, expected)])
                print(f"recall {recall:.3f} {'' if least is None else f'of points above {least}'}")
                assert recall >= LEAST_RECALL, recall


if __name__ == "__main__":
    main()
