"""Kith from Python over gRPC: create, upsert, query, read your writes, retry with one effect.

    kith dev                                                     # in another terminal
    python3 -m venv .venv && .venv/bin/pip install -r examples/python/requirements.txt
    .venv/bin/python examples/python/films.py

The address is the first argument, else KITH_TARGET, else 127.0.0.1:7700. The stubs are generated from proto/ when the program starts;
a program of your own would generate them once, with the same arguments.
"""

import json
import os
import sys
import tempfile
import uuid
from importlib import import_module, resources
from pathlib import Path

import grpc
from grpc_tools import protoc

NAME = "films-python"


def generate_stubs(folder: str) -> None:
    """Generates the modules kith.v1.* into the folder, and lets Python find them there."""
    protos = Path(__file__).resolve().parents[2] / "proto"
    arguments = ["protoc", f"-I{protos}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    arguments += [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    files = [str(path) for path in sorted((protos / "kith" / "v1").glob("*.proto"))]
    if protoc.main(arguments + files) != 0:
        raise RuntimeError(f"the stubs cannot be generated from {protos}")
    sys.path.insert(0, folder)


def main(target: str) -> None:
    common = import_module("kith.v1.common_pb2")
    schema = import_module("kith.v1.collections_pb2")
    data = import_module("kith.v1.points_pb2")
    channel = grpc.insecure_channel(target)
    collections = import_module("kith.v1.collections_pb2_grpc").CollectionsStub(channel)
    points = import_module("kith.v1.points_pb2_grpc").PointsStub(channel)

    def point(name, vector, **payload):
        return data.Point(
            id=common.PointId(name=name),
            # "" is the unnamed vector; named ones stand beside each other.
            vectors={"": common.Vector(values=vector)},
            payload=json.dumps(payload).encode(),
        )

    # 1. A collection has one schema; its vectors are hashed over its shards.
    if collections.Exists(schema.ExistsCollectionRequest(name=NAME), timeout=10).exists:
        collections.Delete(schema.DeleteCollectionRequest(name=NAME), timeout=10)
    field = schema.VectorField(dimension=3, metric=schema.METRIC_COSINE)
    request = schema.CreateCollectionRequest(name=NAME, vectors=[field], shard_count=2)
    created = collections.Create(request, timeout=30).collection
    print(f"created: {created.shard_count} shards, {schema.Metric.Name(created.vectors[0].metric)}")

    # 2. A write is answered when it is durable in the log and one replica of each shard shows it.
    films = [
        point("heat", [0.9, 0.1, 0], title="Heat", year=1995),
        point("ronin", [0.8, 0.3, 0.1], title="Ronin", year=1998),
        point("solaris", [0, 0.2, 0.9], title="Solaris", year=1972),
    ]
    written = points.Upsert(data.UpsertRequest(collection=NAME, points=films), timeout=10)
    print(f"upserted: {written.upserted}")

    # 3. The token of a write, given to a read, makes it see at least that write: on whatever router, from whatever client.
    query = data.QueryRequest(
        collection=NAME,
        vector=[1, 0, 0],
        limit=2,
        select=data.Select(payload=True),
        consistency=common.Consistency(at_least=written.token),
    )
    for found in points.Query(query, timeout=10).points:
        print(f"nearest: {json.loads(found.payload)['title']} {found.score:.3f}")

    # 4. A write whose answer was lost may be repeated: under its idempotency key it takes effect once, and has its first outcome.
    def insert(key):
        return points.Upsert(
            data.UpsertRequest(
                collection=NAME,
                points=[point("alien", [0.1, 0.9, 0.3], title="Alien", year=1979)],
                mode=data.UPSERT_MODE_INSERT_ONLY,
                options=data.WriteOptions(idempotency_key=key),
            ),
            timeout=10,
        )

    key = str(uuid.uuid4())
    first, repeated, anew = insert(key), insert(key), insert(str(uuid.uuid4()))
    print(f"insert: {first.upserted}, repeated: {repeated.upserted}, with another key: {anew.errors[0].code}")

    # 5. Errors are gRPC statuses; google.rpc.ErrorInfo in their details has Kith's own stable code.
    try:
        points.Query(data.QueryRequest(collection=NAME, vector=[1, 0]), timeout=10)
    except grpc.RpcError as error:
        print(f"refused: {error.code().name}")

    collections.Delete(schema.DeleteCollectionRequest(name=NAME), timeout=10)
    channel.close()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KITH_TARGET", "127.0.0.1:7700")
    with tempfile.TemporaryDirectory() as stubs:
        generate_stubs(stubs)
        main(address)
