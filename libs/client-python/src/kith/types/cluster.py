"""Nodes, shards, operations and settings of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kith.types.queries import SlotRange


@dataclass(frozen=True)
class OperationProgress:
    points: int
    #: 0 where it is not known.
    total_points: int
    bytes: int


@dataclass(frozen=True)
class MoveInfo:
    from_node: str
    to_node: str
    reason: str
    copied_bytes: int
    total_bytes: int
    lag: int | None


@dataclass(frozen=True)
class ReshardingInfo:
    from_shards: list[int]
    to_shards: list[int]
    reason: str
    copied_bytes: int
    total_bytes: int
    lag: int | None
    unindexed_vector_count: int


@dataclass(frozen=True)
class OperationInfo:
    """Something that the cluster does in steps, each of which outlives a crash of who does it."""

    id: str
    kind: str
    #: running, cancelling, done, failed or cancelled.
    state: str
    step: str
    collection: str
    collection_id: str
    shard: int | None
    created_at: datetime | None
    updated_at: datetime | None
    attempts: int
    error_code: str
    error: str
    progress: OperationProgress | None
    move: MoveInfo | None
    resharding: ReshardingInfo | None


@dataclass(frozen=True)
class NodeInfo:
    id: str
    address: str
    zone: str
    roles: list[str]
    state: str
    memory_bytes: int
    disk_free_bytes: int
    uptime_ms: int
    version: str
    replica_count: int


@dataclass(frozen=True)
class ReplicaInfo:
    node: str
    placement: str
    placed_at: datetime | None
    state: str
    applied_sequence: int
    #: Records behind the log; None where the log cannot be reached.
    lag: int | None
    point_count: int
    memory_bytes: int
    disk_bytes: int
    digest: str
    fault: str
    copied_bytes: int
    copy_bytes: int
    reads_per_second: float
    master_key: str
    encrypting: bool


@dataclass(frozen=True)
class ShardInfo:
    collection: str
    shard: int
    state: str
    epoch: int
    slots: SlotRange
    log_sequence: int | None
    log_first_sequence: int | None
    log_bytes: int | None
    replicas: list[ReplicaInfo]


@dataclass(frozen=True)
class ClusterInfo:
    cluster: str
    version: str
    log_kind: str
    log_available: bool
    coordinator: str
    nodes: list[NodeInfo]
    shards: list[ShardInfo]


@dataclass(frozen=True)
class SlowQueryInfo:
    ended_at: datetime | None
    node: str
    kind: str
    collection: str
    took_us: int
    shape: str
    error_code: str


@dataclass(frozen=True)
class SlowQueries:
    #: Newest first.
    queries: list[SlowQueryInfo]
    skipped: int
    threshold_ms: int


@dataclass(frozen=True)
class PlannedMove:
    collection: str
    shard: int
    from_node: str
    to_node: str
    size_bytes: int


@dataclass(frozen=True)
class NodeLoad:
    node: str
    size_bytes: int
    planned_bytes: int
    reads_per_second: float


@dataclass(frozen=True)
class RebalancePlan:
    moves: list[PlannedMove]
    size_bytes: int
    expected_ms: int
    nodes: list[NodeLoad]
    operations: list[str]


@dataclass(frozen=True)
class FollowedLogInfo:
    """How far the log of one shard is; docs/standby.md tells the states."""

    collection: str
    shard: int
    state: str
    sequence: int
    primary_sequence: int
    lag: int
    lag_ms: int | None
    reason: str


@dataclass(frozen=True)
class StandbyInfo:
    """A cluster that follows, or has followed, another one."""

    primary: str
    phase: str
    """following (it takes no changes of its own), promoting, promoted (it is a cluster of its own for good)."""
    since: datetime | None
    reachable: bool
    reason: str
    orphans: list[str]
    told_at: datetime | None
    lag: int
    lag_ms: int | None
    """All that the primary had so long ago is here; None where that is not known of each log."""
    logs: list[FollowedLogInfo]


@dataclass(frozen=True)
class ClusterSettings:
    """What holds for the whole cluster; docs/cluster.md tells each."""

    repair_after_ms: int = 0
    moves_at_once: int = 0
    copy_bytes_per_second: int = 0
    auto_rebalance: int = 0
    rebalance_paused: int = 0
    rebalance_threshold_percent: int = 0
    rebalance_min_bytes: int = 0
    log_retention_ms: int = 0
    log_retention_bytes: int = 0
    log_retention_records: int = 0
    log_hold_ms: int = 0
    replica_flush_ms: int = 0
    split_shard_bytes: int = 0
    merge_shard_bytes: int = 0
