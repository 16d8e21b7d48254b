"""Keys, roles and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from typing_extensions import TypedDict

from kith.types.points import FilterInput, JsonObject


class AccessLimits(TypedDict, total=False):
    """What one caller may have from each router; what is missing is not limited."""

    requests_per_second: int
    points_per_second: int
    bytes_per_second: int
    concurrent_queries: int
    stored_points: int
    stored_bytes: int


@dataclass(frozen=True)
class KeySecret:
    created_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True)
class KeyInfo:
    """An API key, without its secret."""

    id: str
    name: str
    role: str
    collections: list[str]
    created_at: datetime | None
    expires_at: datetime | None
    #: Secrets that are good, oldest first: several while a key is rotated.
    secrets: list[KeySecret]
    limits: AccessLimits


@dataclass(frozen=True)
class MadeKey:
    """A key that was just made; the secret is what calls send, and nobody can tell it again."""

    key: KeyInfo
    secret: str = field(repr=False)


class RoleRuleInput(TypedDict, total=False):
    verbs: Sequence[str]
    #: Names of collections, or beginnings of names with "*" behind.
    collections: Sequence[str]
    #: Only points that pass are there: all others are as if they did not exist.
    filter: FilterInput


@dataclass(frozen=True)
class RoleRule:
    verbs: list[str]
    collections: list[str]
    #: In the JSON form.
    filter: JsonObject | None


@dataclass(frozen=True)
class RoleInfo:
    name: str
    #: Each allows by itself.
    rules: list[RoleRule]
    is_built_in: bool
    limits: AccessLimits
