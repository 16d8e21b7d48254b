"""Makes the synchronous client of the asynchronous one: src/kith/_sync from src/kith/_aio, but for the transports, which are two.

    python make_sync.py

One source for both keeps them the same. The result is kept in git; a test says when it is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src" / "kith"
FILES = (
    "admin.py",
    "client.py",
    "collection.py",
    "collection_calls.py",
    "collection_schema.py",
    "collection_writes.py",
    "streams.py",
)

REPLACEMENTS: tuple[tuple[str, str], ...] = (
    (r"\basync (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter)__", r"__\1__"),
    (r"Iterable\[PointInput \| Point\] \| AsyncIterable\[PointInput \| Point\]", "Iterable[PointInput | Point]"),
    (r"AsyncIterable, AsyncIterator, ", "Iterator, "),
    (r"\bAsyncIterator, Callable, Mapping", "Callable, Iterator, Mapping"),
    (r"\bAsyncIterable, Callable, Iterable, ", "Callable, Iterable, "),
    (r"\bimport Awaitable, Callable", "import Callable"),
    (r"\bIterator, Callable, Iterable, ", "Callable, Iterable, Iterator, "),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bconnect_async\b", "connect"),
    (r"\b_aio\b", "_sync"),
)


def made_of(text: str) -> str:
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text


def results() -> dict[Path, str]:
    """The files as they should be."""
    note = "# Made by make_sync.py from {}: change that one.\n"
    return {
        SOURCE / "_sync" / name: note.format(f"_aio/{name}") + made_of((SOURCE / "_aio" / name).read_text())
        for name in FILES
    }


if __name__ == "__main__":
    for path, text in results().items():
        path.write_text(text)
