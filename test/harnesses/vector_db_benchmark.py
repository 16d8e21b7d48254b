"""Experiments of vector-db-benchmark, with its classes for Qdrant: its own small data, and points with payloads under filters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from benchmark import DATASETS_DIR
from benchmark.dataset import Dataset
from engine.base_client.client import RESULTS_DIR, BaseClient
from engine.clients.qdrant import QdrantConfigurator, QdrantSearcher, QdrantUploader

HOST = os.environ["KITH_QDRANT_URL"]
CONNECTION = {"timeout": 30, "grpc_port": int(os.environ["KITH_QDRANT_GRPC_PORT"])}
# Its results of approximate searches over all that there is: none may be missed here, where the data is small.
LEAST_PRECISION = 0.99

POINTS, DIMENSION, QUERIES, TOP = 2_000, 32, 100, 10


def make_filtered(name: str) -> dict[str, object]:
    """Points with a word and a number each, and queries with conditions on both, in the form of the harness's own data."""
    random = np.random.default_rng(7)
    folder = DATASETS_DIR / name
    folder.mkdir()
    vectors = random.standard_normal((POINTS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = random.integers(0, 5, POINTS)
    numbers = random.integers(0, 100, POINTS)
    np.save(folder / "vectors.npy", vectors)
    payloads = ({"word": f"w{word}", "number": int(number)} for word, number in zip(words, numbers))
    (folder / "payloads.jsonl").write_text("".join(json.dumps(each) + "\n" for each in payloads))
    lines = []
    for _ in range(QUERIES):
        query = random.standard_normal(DIMENSION)
        query /= np.linalg.norm(query)
        word, least = int(random.integers(0, 5)), int(random.integers(0, 80))
        scores = np.where((words == word) & (numbers >= least), vectors @ query, -np.inf)
        closest = np.argsort(-scores)[:TOP]
        closest = closest[np.isfinite(scores[closest])]
        conditions = {"and": [{"word": {"match": {"value": f"w{word}"}}}, {"number": {"range": {"gte": least}}}]}
        line = {
            "query": query.tolist(),
            "conditions": conditions,
            "closest_ids": closest.tolist(),
            "closest_scores": scores[closest].tolist(),
        }
        lines.append(json.dumps(line) + "\n")
    (folder / "tests.jsonl").write_text("".join(lines))
    schema = {"word": "keyword", "number": "int"}
    return {"name": name, "vector_size": DIMENSION, "distance": "cosine", "type": "tar", "path": name, "schema": schema}


def run(config: dict[str, object]) -> None:
    name = str(config["name"])
    client = BaseClient(
        name="kith",
        engine="qdrant",
        configurator=QdrantConfigurator(
            HOST,
            collection_params={"hnsw_config": {"m": 16, "ef_construct": 128}},
            connection_params={**CONNECTION},
        ),
        uploader=QdrantUploader(
            HOST, connection_params={**CONNECTION}, upload_params={"parallel": 1, "batch_size": 256}
        ),
        searchers=[
            QdrantSearcher(HOST, connection_params={**CONNECTION}, search_params={"parallel": 1, **params})
            for params in ({"config": {"hnsw_ef": 128}}, {"config": {"hnsw_ef": 256}, "with_payload": True})
        ],
    )
    dataset = Dataset(config)
    dataset.download()
    client.run_experiment(dataset, skip_if_exists=False)
    client.delete_client()
    results = sorted(RESULTS_DIR.glob(f"kith-{name}-search-*.json"))
    assert len(results) == 2, results
    for file in results:
        result = json.loads(Path(file).read_text())["results"]
        print(f"{name}: precision {result['mean_precisions']:.3f}, {result['rps']:.0f} queries/s by one client")
        assert result["mean_precisions"] >= LEAST_PRECISION, result


if __name__ == "__main__":
    known = json.loads((DATASETS_DIR / "datasets.json").read_text())
    run(next(each for each in known if each["name"] == "random-100"))
    run(make_filtered("kith-filtered"))
