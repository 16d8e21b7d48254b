"""Whether two lists of results are the same, ties aside."""

from typing import Any

TOLERANCE = 1e-4


def close(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))


def differences(ours: list[tuple[Any, float]], theirs: list[tuple[Any, float]], offset: int = 0) -> str | None:
    """Of lists of (key, score) in order: None where they agree. Among equal scores the order is free, and at the ends which."""
    if len(ours) != len(theirs):
        return f"{len(ours)} results, expected {len(theirs)}"
    for place, ((_, score), (_, expected)) in enumerate(zip(ours, theirs)):
        if not close(score, expected):
            return f"score {score} at place {place}, expected {expected}"
    if not theirs:
        return None
    expected_by_key: dict[Any, list[float]] = {}
    for key, score in theirs:
        expected_by_key.setdefault(key, []).append(score)
    cuts = [theirs[-1][1]] if offset == 0 else [theirs[0][1], theirs[-1][1]]
    for place, (key, score) in enumerate(ours):
        known = expected_by_key.get(key)
        if known is None and not any(close(score, cut) for cut in cuts):
            return f"{key} at place {place} with {score}, expected {theirs[place][0]}"
        # One that stands at several scores may be cut off at one of them.
        if known is not None and not any(close(score, each) for each in [*known, *cuts]):
            return f"{key} with score {score}, expected {known}"
    if len(set(ours)) != len(ours):
        return "a result stands twice"
    return None
