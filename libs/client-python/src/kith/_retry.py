"""When a call is tried again: the policy of the TypeScript SDK (libs/client/retry.ts)."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass, fields

from kith.errors import InvalidRequestError, KithError


@dataclass(frozen=True)
class RetryOptions:
    #: Tries of one call, the first included.
    attempts: int = 6
    #: First pause, in milliseconds; doubled for each further one, with jitter.
    initial_ms: float = 50
    #: Longest pause, in milliseconds.
    max_ms: float = 2_000
    #: Retries that each call adds to the budget, so that retries add at most a tenth to the load.
    ratio: float = 0.1
    #: Retries that can be saved up, and that a new client has.
    burst: float = 100

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                message = f"retry.{name} is {value!r}; it must be a number, not negative"
                raise InvalidRequestError("LIMIT_OUT_OF_RANGE", message)


def backoff_ms(attempt: int, initial_ms: float, max_ms: float) -> float:
    step = min(max_ms, initial_ms * 2.0 ** min(attempt, 30))
    return step * (0.5 + 0.5 * random.random())


class Retrier:
    """Retries come out of a bucket that calls fill: a server in trouble is not drowned by the retries of its clients."""

    def __init__(self, options: RetryOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._budget = options.burst

    def deposit(self) -> None:
        """Each call that may be repeated pays in."""
        with self._lock:
            self._budget = min(self._options.burst, self._budget + self._options.ratio)

    def pause_ms(self, error: KithError, tried: int, left_ms: float) -> float | None:
        """How long to wait before the next try after `tried` ones, taken out of the budget; None: give up."""
        if not error.retryable or tried >= self._options.attempts:
            return None
        pause = max(error.retry_after_ms or 0, backoff_ms(tried - 1, self._options.initial_ms, self._options.max_ms))
        if pause >= left_ms:
            return None
        with self._lock:
            if self._budget < 1:
                return None
            self._budget -= 1
        return pause
