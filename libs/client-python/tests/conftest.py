"""One server for all tests: the address in KITH_TARGET, else a `kith dev` of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import kith

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    given = os.environ.get("KITH_TARGET")
    if given:
        yield given
        return
    program = ROOT / "dist" / "services" / "cli" / "main.js"
    if not program.exists():
        pytest.fail('dist/ is missing: run "npm run build:ts" first')
    data = tempfile.mkdtemp(prefix="kith-python-")
    command = ["node", str(program), "dev", "--data", data, "--port", "0", "--http-port", "0", "--output", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["target"]
        finally:
            process.terminate()
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[kith.KithClient]:
    with kith.connect(target, connect_timeout_ms=20_000) as connected:
        yield connected


@pytest.fixture
def collection(client: kith.KithClient, request: pytest.FixtureRequest) -> Iterator[kith.CollectionHandle]:
    """An empty collection of two dimensions, l2."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:100].strip("-")
    handle = client.collection(name)
    handle.create(vectors={"dimension": 2, "metric": "l2"})
    yield handle
    if handle.exists():
        handle.drop()


@pytest.fixture
def filled(collection: kith.CollectionHandle) -> kith.CollectionHandle:
    """Twenty points on a line, with a number and a parity."""
    collection.upsert(
        [{"id": i, "vector": [i, 0], "payload": {"n": i, "parity": ["even", "odd"][i % 2]}} for i in range(1, 21)]
    )
    return collection


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def async_client(target: str) -> AsyncIterator[kith.AsyncKithClient]:
    async with await kith.connect_async(target) as connected:
        yield connected
