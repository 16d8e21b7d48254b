"""What examples/python shows works: each against the server in KITH_TARGET."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import kith

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"
sys.path.insert(0, str(EXAMPLES))


def output_of(name: str, *arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def client() -> Iterator[kith.KithClient]:
    with kith.connect(os.environ["KITH_TARGET"]) as connected:
        yield connected


def test_quickstart() -> None:
    assert output_of("quickstart.py") == [
        "created: 2 shards, cosine",
        "upserted: 3",
        "nearest: Heat 0.994",
        "nearest: Ronin 0.930",
        "late: ['Ronin']",
        "another client: 3",
        "insert: 1, repeated: 1, with another key: POINT_EXISTS",
        "refused: DIMENSION_MISMATCH",
    ]


def test_rag() -> None:
    lines = output_of("rag.py", "How does a read see my own writes?")
    assert lines[0] == "passages: 15"
    assert lines[3].startswith("[1] Reading your own writes: ")
    assert lines[-1] == "Question: How does a read see my own writes?"


def test_rag_over_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "cats.md").write_text("Cats sleep most of the day. They hunt at dawn.")
    (tmp_path / "tides.txt").write_text("Tides follow the moon. A spring tide is high.")
    lines = output_of("rag.py", "When do cats hunt?", KITH_TEXTS=str(tmp_path))
    assert lines[0] == "passages: 2"
    assert lines[3].startswith("[1] cats: ")


def test_evaluate() -> None:
    lines = output_of("evaluate.py")
    assert lines[0] == "15 texts, 12 queries"
    rows = {row.split()[0]: [float(each) for each in row.split()[1:]] for row in lines[2:]}
    assert rows["nearest"] == rows["exact"]
    # Measured: recall 1.0, MRR 0.90 to 0.96.
    assert rows["nearest"][0] > 0.9
    assert all(row[1] > 0.7 and row[2] > 0.7 for row in rows.values())


def test_evaluate_with_judgements_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text('{"id": 1, "text": "red apples"}\n{"id": 2, "text": "blue whales"}\n')
    (tmp_path / "judgements").write_text('{"query": "whales", "relevant": {"2": 3}}\n')
    lines = output_of("evaluate.py", KITH_TEXTS=str(tmp_path / "texts"), KITH_RELEVANCE=str(tmp_path / "judgements"))
    assert lines[2].split() == ["nearest", "1.000", "1.000", "1.000"]


def test_migrate(tmp_path: Path, client: kith.KithClient) -> None:
    export = tmp_path / "export.jsonl"
    export.write_text((EXAMPLES / "data" / "export.jsonl").read_text())
    name = f"migrated-{uuid.uuid4().hex[:8]}"
    lines = output_of("migrate.py", str(export), name)
    assert lines[0].startswith("line 4: DIMENSION_MISMATCH")
    assert lines[-1] == "written: 5, refused: 1, now there: 5"
    films = client.collection(name)
    assert [(each.id, (each.payload or {})["title"]) for each in films.scroll()] == [
        (1, "Heat"),
        (2, "Ronin"),
        (5, "Alien"),
        ("5c56c793-69f3-4fbf-87e6-c4bf54c28c26", "Solaris"),
        ("film-6", "Stalker"),
    ]
    # A run that was ended after two lines goes on behind them.
    films.truncate()
    export.with_suffix(".position").write_text("2")
    assert output_of("migrate.py", str(export), name)[-1] == "written: 3, refused: 1, now there: 3"
    assert not export.with_suffix(".position").exists()
    films.drop()


def test_fastapi(client: kith.KithClient) -> None:
    from fastapi.testclient import TestClient
    from fastapi_app import NAME, app

    with TestClient(app) as web:
        notes = [
            {"id": 1, "text": "buy green apples", "tags": ["home"]},
            {"id": 2, "text": "write the report about whales", "tags": ["work"]},
        ]
        assert web.put("/notes", json=notes).json() == {"written": 2}
        assert web.get("/notes/1").json() == {"id": 1, "text": "buy green apples", "tags": ["home"]}
        assert web.get("/notes/9").status_code == 404
        assert [each["id"] for each in web.get("/search", params={"text": "apples"}).json()] == [1, 2]
        found = web.get("/search", params={"text": "apples", "filter": "tags = work"}).json()
        assert [each["id"] for each in found] == [2]
        refused = web.get("/search", params={"text": "x", "filter": "tags ="})
        assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_FILTER")
    client.collection(NAME).drop()


def test_flask(client: kith.KithClient) -> None:
    from flask_app import NAME, app

    web = app.test_client()
    products = [
        {"sku": "a1", "name": "garden chair of wood", "category": "garden", "price": 49.9},
        {"sku": "a2", "name": "office chair", "category": "office", "price": 199},
        {"sku": "", "name": "nothing", "category": "office", "price": 1},
    ]
    answer = web.post("/products", json=products).get_json()
    assert answer["written"] == 2
    assert len(answer["refused"]) == 1
    found = web.get("/products?q=chair").get_json()
    assert found["categories"] == {"garden": 1, "office": 1}
    cheap = web.get("/products?q=chair&max_price=50").get_json()
    assert [each["sku"] for each in cheap["products"]] == ["a1"]
    client.collection(NAME).drop()


def test_the_notebook_executes() -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert outputs[1][0]["data"]["text/plain"] == "4000"
    assert "(100, 16)" in outputs[4][0]["data"]["text/plain"]
