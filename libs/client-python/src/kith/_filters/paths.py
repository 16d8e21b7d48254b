"""Paths into payloads: `a.b`, `a[].b`, `a[0]`, `"a key".b`; libs/model/path.ts has the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"', re.DOTALL)
_ARRAY: Final = re.compile(r"\[([0-9]*)\]")
_LENGTH_MAX: Final = 512
_STEPS_MAX: Final = 32
_INDEX_MAX: Final = 0xFFFF_FFFF


def is_key_character(character: str) -> bool:
    """Letters with their marks, digits, _ and -."""
    return character.isalnum() or character in "_-" or unicodedata.category(character) in ("Mn", "Mc")


def end_of_key(text: str, at: int) -> int | None:
    """Where the key that begins here ends; None where none does."""
    end = at
    while end < len(text) and is_key_character(text[end]):
        end += 1
    if end > at:
        return end
    quoted = _QUOTED.match(text, at)
    return None if quoted is None else quoted.end()


def end_of_path(text: str, at: int) -> int:
    """Where what may be a path ends."""
    while True:
        end = end_of_key(text, at)
        if end is None:
            return at
        at = end
        while (step := _ARRAY.match(text, at)) is not None:
            at = step.end()
        if at >= len(text) or text[at] != ".":
            return at
        at += 1


def path_problem(text: str) -> tuple[str, int] | None:
    """What is wrong with a path, and at which character; None for one that is right."""
    if len(text) > _LENGTH_MAX:
        return f"a path has at most {_LENGTH_MAX} characters, this one {len(text)}", 0
    at = steps = 0
    while True:
        end = end_of_key(text, at)
        if end is None:
            return "expected a key: letters, digits, _ and -, or anything in double quotes", at
        at = end
        steps += 1
        while (step := _ARRAY.match(text, at)) is not None:
            if step[1] and int(step[1]) > _INDEX_MAX:
                return f"an index is at most {_INDEX_MAX}", at + 1
            at = step.end()
            steps += 1
        if steps > _STEPS_MAX:
            return f"a path has at most {_STEPS_MAX} steps", at
        if at == len(text):
            return None
        if text[at] != ".":
            return 'expected ".", "[]", "[0]" or the end', at
        at += 1
