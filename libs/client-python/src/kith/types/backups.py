"""Backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class BackupShardInfo:
    shard: int
    first_slot: int
    last_slot: int
    sequence: int
    point_count: int
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class BackupGroup:
    """Backups of several collections that were begun together: each is of a moment of its own."""

    #: 1 to 128 letters, digits, "_", "-" and ".".
    name: str
    #: How many backups it has, at least 1: it is whole where as many are there.
    size: int


@dataclass(frozen=True)
class BackupInfo:
    """A backup that is whole."""

    id: str
    collection: str
    collection_id: str
    started_at: datetime | None
    ended_at: datetime | None
    #: The backup whose data it uses as well; "" for none.
    base: str
    point_count: int
    #: All that it needs, and what was written for it.
    size_bytes: int
    written_bytes: int
    shards: list[BackupShardInfo]
    #: None where it is of none.
    group: BackupGroup | None = None


@dataclass(frozen=True)
class CreatedBackup:
    id: str
    operation: str


@dataclass(frozen=True)
class VerifiedBackup:
    point_count: int
    file_count: int
    size_bytes: int


@dataclass(frozen=True)
class RestoredBackup:
    collection: str
    collection_id: str
    operation: str


@dataclass(frozen=True)
class DeletedBackup:
    deleted_bytes: int
