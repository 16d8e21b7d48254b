"""What a connection is made with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kith._retry import RetryOptions
from kith._tls import TlsOptions


@dataclass(frozen=True)
class ConnectOptions:
    target: str
    deadline_ms: float = 30_000
    tls: bool | TlsOptions = False
    api_key: str | Callable[[], str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry: RetryOptions = field(default_factory=RetryOptions)
    parse_payload: Callable[[bytes], Any] = json.loads

    def metadata(self, traceparent: str = "") -> list[tuple[str, str]]:
        """What a call that begins now sends along."""
        pairs = [(name.lower(), value) for name, value in self.headers.items()]
        if self.api_key is not None:
            key = self.api_key if isinstance(self.api_key, str) else self.api_key()
            pairs.append(("authorization", f"Bearer {key}"))
        if traceparent:
            pairs.append(("traceparent", traceparent))
        return pairs
