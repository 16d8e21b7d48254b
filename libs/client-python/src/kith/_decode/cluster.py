"""Backups and the cluster between the wire and Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kith._checks import only_keys, whole_number
from kith._decode.wire import optional_in, plain, time_in
from kith.types import (
    BackupGroup,
    BackupInfo,
    BackupShardInfo,
    ClusterInfo,
    ClusterSettings,
    FollowedLogInfo,
    MoveInfo,
    NodeInfo,
    NodeLoad,
    OperationInfo,
    OperationProgress,
    PlannedMove,
    RebalancePlan,
    ReplicaInfo,
    ReshardingInfo,
    ShardInfo,
    SlotRange,
    SlowQueries,
    SlowQueryInfo,
    StandbyInfo,
)
from kith.v1 import backup_pb2, cluster_pb2


def backup_from_wire(wire: backup_pb2.Backup) -> BackupInfo:
    shard_names = ("shard", "first_slot", "last_slot", "sequence", "point_count", "size_bytes", "digest")
    result: BackupInfo = plain(
        BackupInfo,
        wire,
        ("id", "collection", "collection_id", "base", "point_count", "size_bytes", "written_bytes"),
        started_at=time_in(wire, "started_at"),
        ended_at=time_in(wire, "ended_at"),
        shards=[plain(BackupShardInfo, each, shard_names) for each in wire.shards],
        group=BackupGroup(wire.group.name, wire.group.size) if wire.HasField("group") else None,
    )
    return result


def operation_from_wire(wire: cluster_pb2.Operation) -> OperationInfo:
    progress = OperationProgress(wire.progress.points, wire.progress.total_points, wire.progress.bytes)
    move, split = wire.move, wire.resharding
    result: OperationInfo = plain(
        OperationInfo,
        wire,
        ("id", "kind", "state", "step", "collection", "collection_id", "attempts", "error_code", "error"),
        shard=optional_in(wire, "shard"),
        created_at=time_in(wire, "created_at"),
        updated_at=time_in(wire, "updated_at"),
        progress=progress if wire.HasField("progress") else None,
        move=MoveInfo(
            getattr(move, "from"), move.to, move.reason, move.copied_bytes, move.total_bytes, optional_in(move, "lag")
        )
        if wire.HasField("move")
        else None,
        resharding=ReshardingInfo(
            list(getattr(split, "from")),
            list(split.to),
            split.reason,
            split.copied_bytes,
            split.total_bytes,
            optional_in(split, "lag"),
            split.unindexed_vector_count,
        )
        if wire.HasField("resharding")
        else None,
    )
    return result


def cluster_from_wire(wire: cluster_pb2.DescribeClusterResponse) -> ClusterInfo:
    node_names = (
        "id",
        "address",
        "zone",
        "state",
        "memory_bytes",
        "disk_free_bytes",
        "uptime_ms",
        "version",
        "replica_count",
    )
    replica_names = (
        "node",
        "placement",
        "state",
        "applied_sequence",
        "point_count",
        "memory_bytes",
        "disk_bytes",
        "digest",
        "fault",
        "copied_bytes",
        "copy_bytes",
        "reads_per_second",
        "master_key",
        "encrypting",
    )
    shards = [
        plain(
            ShardInfo,
            each,
            ("collection", "shard", "state", "epoch"),
            slots=SlotRange(each.slots.first, each.slots.last),
            log_sequence=optional_in(each, "log_sequence"),
            log_first_sequence=optional_in(each, "log_first_sequence"),
            log_bytes=optional_in(each, "log_bytes"),
            replicas=[
                plain(
                    ReplicaInfo,
                    replica,
                    replica_names,
                    placed_at=time_in(replica, "placed_at"),
                    lag=optional_in(replica, "lag"),
                )
                for replica in each.replicas
            ],
        )
        for each in wire.shards
    ]
    result: ClusterInfo = plain(
        ClusterInfo,
        wire,
        ("cluster", "version", "log_kind", "log_available", "coordinator"),
        nodes=[plain(NodeInfo, each, node_names, roles=list(each.roles)) for each in wire.nodes],
        shards=shards,
    )
    return result


def slow_queries_from_wire(wire: cluster_pb2.SlowQueriesResponse) -> SlowQueries:
    names = ("node", "kind", "collection", "took_us", "shape", "error_code")
    queries = [plain(SlowQueryInfo, each, names, ended_at=time_in(each, "ended_at")) for each in wire.queries]
    return SlowQueries(queries, wire.skipped, wire.threshold_ms)


def rebalance_from_wire(wire: cluster_pb2.RebalanceResponse) -> RebalancePlan:
    moves = [
        PlannedMove(each.collection, each.shard, getattr(each, "from"), each.to, each.size_bytes) for each in wire.moves
    ]
    loads = [NodeLoad(each.node, each.size_bytes, each.planned_bytes, each.reads_per_second) for each in wire.nodes]
    return RebalancePlan(moves, wire.size_bytes, wire.expected_ms, loads, list(wire.operations))


def standby_from_wire(wire: cluster_pb2.Standby) -> StandbyInfo:
    log_names = ("collection", "shard", "state", "sequence", "primary_sequence", "lag", "reason")
    logs = [
        plain(FollowedLogInfo, each, log_names, lag_ms=each.lag_ms if each.HasField("lag_ms") else None)
        for each in wire.logs
    ]
    result: StandbyInfo = plain(
        StandbyInfo,
        wire,
        ("primary", "phase", "reachable", "reason", "lag"),
        since=time_in(wire, "since"),
        orphans=list(wire.orphans),
        told_at=time_in(wire, "told_at"),
        lag_ms=wire.lag_ms if wire.HasField("lag_ms") else None,
        logs=logs,
    )
    return result


_SETTINGS: Final = tuple(each.name for each in cluster_pb2.ClusterSettings.DESCRIPTOR.fields)


def settings_from_wire(wire: cluster_pb2.ClusterSettings) -> ClusterSettings:
    known = ClusterSettings.__dataclass_fields__
    return ClusterSettings(**{name: getattr(wire, name) for name in _SETTINGS if name in known})


def settings_to_wire(settings: Mapping[str, int]) -> cluster_pb2.ClusterSettings:
    fields = only_keys(settings, _SETTINGS, "settings")
    return cluster_pb2.ClusterSettings(
        **{name: whole_number(value, f"settings.{name}", high=2**53) for name, value in fields.items()}
    )
