"""What examples/qdrant shows works, over REST and over gRPC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "qdrant"
BY_REST: dict[str, str] = {}
BY_GRPC = {"KITH_QDRANT_GRPC_PORT": os.environ["KITH_TEST_GRPC_PORT"]}
both = pytest.mark.parametrize("protocol", [BY_REST, BY_GRPC], ids=["rest", "grpc"])


def output_of(command: list[str], protocol: dict[str, str]) -> list[str]:
    environment = {**os.environ, **protocol}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout.splitlines()


def python(name: str, protocol: dict[str, str]) -> list[str]:
    return output_of([sys.executable, str(EXAMPLES / name)], protocol)


@both
def test_langchain(protocol: dict[str, str]) -> None:
    assert python("langchain_films.py", protocol) == [
        "hybrid: Solaris",
        "filtered: Heat, Ronin",
        "nearest: Heat 0.49",
        "diverse: Alien, Solaris, Ronin",
        "retrieved: Moon, Heat",
        "by words: Stalker",
        "by id: WALL-E",
        "deleted: True",
        "left: 6",
    ]


@both
def test_llamaindex(protocol: dict[str, str]) -> None:
    assert python("llamaindex_films.py", protocol) == [
        "written: 6",
        "nearest: Heat, Ronin",
        "filtered: Alien, Solaris, Stalker",
        "hybrid: Stalker, Moon",
        "by words: Solaris",
        "diverse: Alien, Solaris, Heat",
        "by id: Solaris",
        "left: 4",
        "cleared: True",
    ]


@both
def test_haystack(protocol: dict[str, str]) -> None:
    assert python("haystack_films.py", protocol) == [
        "written: 6",
        "again: 1",
        "there: 6",
        "nearest: Heat, Ronin",
        "filtered: Alien, Solaris, Stalker",
        "by words: Stalker",
        "hybrid: Solaris, Moon",
        "by filter: Alien, Solaris, Stalker",
        "left: 5",
        "left: 4",
        "cleared: True",
    ]


def test_langchain_for_javascript() -> None:
    program = Path(os.environ["KITH_TEST_JAVASCRIPT"]) / "langchain-films.mjs"
    assert output_of(["node", str(program)], BY_REST) == [
        "written: 5",
        "nearest: Heat 0.58",
        "filtered: Ronin",
        "diverse: Solaris, Alien, Ronin",
        "retrieved: Moon",
        "left: 4",
        "left: 2",
    ]
