"""What belongs to the server as a whole: aliases, the cluster, backups, keys and roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kith._aio.transport import AsyncTransport, pause
from kith._checks import invalid, names_of, only_keys, partition_of, whole_number
from kith._decode.access import key_from_wire, limits_to_wire, made_key, role_from_wire
from kith._decode.cluster import (
    backup_from_wire,
    cluster_from_wire,
    operation_from_wire,
    rebalance_from_wire,
    settings_from_wire,
    settings_to_wire,
    slow_queries_from_wire,
    standby_from_wire,
)
from kith._decode.collections import alias_action_to_wire, collection_from_wire
from kith._filters import filter_of
from kith._times import timestamp_of
from kith.errors import ERROR_CODES, error_of
from kith.types import (
    AccessLimits,
    AliasInfo,
    BackupGroup,
    BackupInfo,
    ClusterInfo,
    ClusterSettings,
    CollectionInfo,
    CreatedBackup,
    DeletedBackup,
    KeyInfo,
    MadeKey,
    OperationInfo,
    PartitionValue,
    RebalancePlan,
    RestoredBackup,
    RoleInfo,
    RoleRuleInput,
    SlowQueries,
    StandbyInfo,
    VerifiedBackup,
)
from kith.v1 import backup_pb2, calls, cluster_pb2, collections_pb2, keys_pb2

_DAY_MS = 24 * 3_600_000


class AsyncCollections:
    """The collections of the server."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, deadline_ms: float | None = None) -> list[CollectionInfo]:
        request = collections_pb2.ListCollectionsRequest()
        response = await self._transport.retried(calls.COLLECTIONS_LIST, request, deadline_ms)
        return [collection_from_wire(each) for each in response.collections]


class AsyncAliases:
    """Second names of collections, good wherever a collection is named, but to delete or rename it."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, collection: str = "", deadline_ms: float | None = None) -> list[AliasInfo]:
        """All, or those of one collection, in order."""
        request = collections_pb2.ListAliasesRequest(collection=collection)
        response = await self._transport.retried(calls.COLLECTIONS_LIST_ALIASES, request, deadline_ms)
        return [AliasInfo(each.alias, each.collection) for each in response.aliases]

    async def create(self, alias: str, collection: str, *, deadline_ms: float | None = None) -> None:
        """ALREADY_EXISTS where the alias means another collection, COLLECTION_EXISTS where a collection has the name."""
        await self.update([{"create": {"alias": alias, "collection": collection}}], deadline_ms=deadline_ms)

    async def switch(self, alias: str, collection: str, *, deadline_ms: float | None = None) -> None:
        """From now on the alias means this collection. NOT_FOUND where there is no such alias."""
        await self.update([{"switch": {"alias": alias, "collection": collection}}], deadline_ms=deadline_ms)

    async def delete(self, alias: str, *, deadline_ms: float | None = None) -> None:
        """NOT_FOUND where there is no such alias."""
        await self.update([{"delete": {"alias": alias}}], deadline_ms=deadline_ms)

    async def update(
        self, actions: Sequence[Mapping[str, Mapping[str, str]]], *, deadline_ms: float | None = None
    ) -> None:
        """All of these in one step, in order, or none: {"create" | "switch": {"alias", "collection"}}, {"rename": {"alias", "new_alias"}}, {"delete": {"alias"}}."""
        wires = [alias_action_to_wire(action, f"actions[{i}]") for i, action in enumerate(actions)]
        # Not repeated by itself: after a lost answer, a second try would be refused for what the first one did.
        await self._transport.once(
            calls.COLLECTIONS_UPDATE_ALIASES, collections_pb2.UpdateAliasesRequest(actions=wires), deadline_ms
        )


class AsyncCluster:
    """What runs where, and how far each replica is."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def describe(self, *, deadline_ms: float | None = None) -> ClusterInfo:
        request = cluster_pb2.DescribeClusterRequest()
        return cluster_from_wire(await self._transport.retried(calls.CLUSTER_DESCRIBE, request, deadline_ms))

    async def slow_queries(self, *, limit: int = 0, deadline_ms: float | None = None) -> SlowQueries:
        """Queries that took long in the router that answers, newest first."""
        request = cluster_pb2.SlowQueriesRequest(limit=whole_number(limit, "limit"))
        return slow_queries_from_wire(await self._transport.retried(calls.CLUSTER_SLOW_QUERIES, request, deadline_ms))

    async def operations(self, *, deadline_ms: float | None = None) -> list[OperationInfo]:
        """Those that have not ended, and the latest of those that have; newest first."""
        request = cluster_pb2.ListOperationsRequest()
        response = await self._transport.retried(calls.CLUSTER_LIST_OPERATIONS, request, deadline_ms)
        return [operation_from_wire(each) for each in response.operations]

    async def operation(self, id: str, *, deadline_ms: float | None = None) -> OperationInfo:
        """NOT_FOUND for an unknown id, and for an operation that ended long ago."""
        request = cluster_pb2.GetOperationRequest(id=id)
        return operation_from_wire(
            (await self._transport.retried(calls.CLUSTER_GET_OPERATION, request, deadline_ms)).operation
        )

    async def cancel_operation(self, id: str, *, deadline_ms: float | None = None) -> OperationInfo:
        """Asks for the operation to be undone, and does not wait for it."""
        request = cluster_pb2.CancelOperationRequest(id=id)
        return operation_from_wire(
            (await self._transport.retried(calls.CLUSTER_CANCEL_OPERATION, request, deadline_ms)).operation
        )

    async def move_replica(
        self, collection: str, shard: int, *, from_node: str = "", to_node: str = "", deadline_ms: float | None = None
    ) -> OperationInfo:
        """Begins to move a replica; without `from_node` one is added, without `to_node` one is removed."""
        request = cluster_pb2.MoveReplicaRequest(
            collection=collection, shard=whole_number(shard, "shard"), to=to_node, **{"from": from_node}
        )
        # Not tried again by itself: the second one would be refused because of the first.
        return operation_from_wire(
            (await self._transport.once(calls.CLUSTER_MOVE_REPLICA, request, deadline_ms)).operation
        )

    async def split_shard(
        self, collection: str, shard: int, *, into: int = 0, deadline_ms: float | None = None
    ) -> OperationInfo:
        """Begins to split a shard into new ones by its hash slots, and does not wait for it."""
        request = cluster_pb2.SplitShardRequest(
            collection=collection, shard=whole_number(shard, "shard"), into=whole_number(into, "into")
        )
        return operation_from_wire(
            (await self._transport.once(calls.CLUSTER_SPLIT_SHARD, request, deadline_ms)).operation
        )

    async def merge_shards(
        self, collection: str, shards: Sequence[int], *, deadline_ms: float | None = None
    ) -> OperationInfo:
        """Begins to merge shards whose hash slots are next to each other into a new one, and does not wait for it."""
        request = cluster_pb2.MergeShardsRequest(
            collection=collection, shards=[whole_number(shard, "shards") for shard in shards]
        )
        return operation_from_wire(
            (await self._transport.once(calls.CLUSTER_MERGE_SHARDS, request, deadline_ms)).operation
        )

    async def isolate_partition(
        self, collection: str, partition: PartitionValue, *, deadline_ms: float | None = None
    ) -> OperationInfo:
        """Begins to give one value of a collection's partition key a shard of its own, and does not wait for it."""
        request = cluster_pb2.IsolatePartitionRequest(collection=collection, partition=partition_of(partition))
        return operation_from_wire(
            (await self._transport.once(calls.CLUSTER_ISOLATE_PARTITION, request, deadline_ms)).operation
        )

    async def drain(self, node: str, *, deadline_ms: float | None = None) -> None:
        """Asks for all replicas of a node to be moved to others. NOT_FOUND for an unknown node."""
        await self._transport.retried(calls.CLUSTER_DRAIN_NODE, cluster_pb2.DrainNodeRequest(node=node), deadline_ms)

    async def undrain(self, node: str, *, deadline_ms: float | None = None) -> None:
        """The node takes replicas again."""
        await self._transport.retried(
            calls.CLUSTER_UNDRAIN_NODE, cluster_pb2.UndrainNodeRequest(node=node), deadline_ms
        )

    async def rebalance(self, *, apply: bool = False, deadline_ms: float | None = None) -> RebalancePlan:
        """Moves that make the nodes equally loaded. `apply`: they are begun, and not waited for."""
        request = cluster_pb2.RebalanceRequest(apply=apply)
        return rebalance_from_wire(await self._transport.once(calls.CLUSTER_REBALANCE, request, deadline_ms))

    async def abort_rebalance(self, *, deadline_ms: float | None = None) -> list[str]:
        """Undoes the moves of a rebalancing that have not ended, and gives their ids."""
        request = cluster_pb2.AbortRebalanceRequest()
        return list((await self._transport.retried(calls.CLUSTER_ABORT_REBALANCE, request, deadline_ms)).operations)

    async def settings(self, *, deadline_ms: float | None = None) -> ClusterSettings:
        request = cluster_pb2.GetSettingsRequest()
        return settings_from_wire(
            (await self._transport.retried(calls.CLUSTER_GET_SETTINGS, request, deadline_ms)).settings
        )

    async def update_settings(
        self, settings: Mapping[str, int], *, deadline_ms: float | None = None
    ) -> ClusterSettings:
        """Changes some settings while the cluster runs, and gives all of them. LIMIT_OUT_OF_RANGE where a value is out of its bounds."""
        request = cluster_pb2.UpdateSettingsRequest(settings=settings_to_wire(settings))
        return settings_from_wire(
            (await self._transport.retried(calls.CLUSTER_UPDATE_SETTINGS, request, deadline_ms)).settings
        )

    async def standby(self, *, deadline_ms: float | None = None) -> StandbyInfo | None:
        """Whether this cluster follows another one, and how far it is; None where it never did."""
        request = cluster_pb2.GetStandbyRequest()
        response = await self._transport.retried(calls.CLUSTER_GET_STANDBY, request, deadline_ms)
        return standby_from_wire(response.standby) if response.HasField("standby") else None

    async def promote_standby(self, *, force: bool = False, deadline_ms: float | None = None) -> StandbyInfo | None:
        """Has a cluster that follows another one do so no more, and take writes; does not wait for it: its `phase` becomes "promoted"."""
        request = cluster_pb2.PromoteStandbyRequest(force=force)
        response = await self._transport.retried(calls.CLUSTER_PROMOTE_STANDBY, request, deadline_ms)
        return standby_from_wire(response.standby) if response.HasField("standby") else None


class AsyncBackups:
    """Backups of collections, in a folder or an object store that the servers reach. `location`: "file:folder" or "s3:folder"."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        collection: str,
        *,
        location: str = "",
        full: bool = False,
        max_bytes_per_second: int = 0,
        group: BackupGroup | None = None,
        deadline_ms: float | None = None,
    ) -> CreatedBackup:
        """Begins a backup; `wait` for its operation. Repeated after a broken connection it may begin another one. `group`: it is one of several
        that belong together."""
        rate = whole_number(max_bytes_per_second, "max_bytes_per_second", high=2**53)
        request = backup_pb2.CreateBackupRequest(
            collection=collection, location=location, full=full, max_bytes_per_second=rate
        )
        if group is not None:
            if not isinstance(group, BackupGroup):
                raise invalid("group", "is no BackupGroup")
            request.group.name = group.name
            request.group.size = whole_number(group.size, "group.size")
        response = await self._transport.once(calls.BACKUPS_CREATE, request, deadline_ms)
        return CreatedBackup(response.id, response.operation)

    async def list(
        self, *, location: str = "", collection: str = "", group: str = "", deadline_ms: float | None = None
    ) -> list[BackupInfo]:
        """Newest first; of one collection, or of all; of the group with this name, or whichever."""
        request = backup_pb2.ListBackupsRequest(location=location, collection=collection, group=group)
        response = await self._transport.retried(calls.BACKUPS_LIST, request, deadline_ms)
        return [backup_from_wire(each) for each in response.backups]

    async def verify(self, id: str, *, location: str = "", deadline_ms: float | None = None) -> VerifiedBackup:
        """Reads everything that the backup is made of. CORRUPT_DATA where something is damaged or missing. Takes its time: give a deadline."""
        request = backup_pb2.VerifyBackupRequest(id=id, location=location)
        response = await self._transport.retried(calls.BACKUPS_VERIFY, request, deadline_ms)
        return VerifiedBackup(response.point_count, response.file_count, response.size_bytes)

    async def restore(
        self,
        id: str,
        *,
        location: str = "",
        collection: str = "",
        shards: int = 0,
        replicas: int = 0,
        until: datetime | Mapping[int, int] | None = None,
        deadline_ms: float | None = None,
    ) -> RestoredBackup:
        """Begins to make a collection of a backup; `wait` for its operation. `until`: a later state, as of a time, or of sequences by shard."""
        request = backup_pb2.RestoreBackupRequest(
            id=id,
            location=location,
            collection=collection,
            shard_count=whole_number(shards, "shards"),
            replication_factor=whole_number(replicas, "replicas"),
        )
        if isinstance(until, datetime):
            request.time.CopyFrom(timestamp_of(until, "until"))
        elif until is not None:
            request.sequences.shards.update(until)
        response = await self._transport.once(calls.BACKUPS_RESTORE, request, deadline_ms)
        return RestoredBackup(response.collection, response.collection_id, response.operation)

    async def delete(self, id: str, *, location: str = "", deadline_ms: float | None = None) -> DeletedBackup:
        """What later backups have in common with it stays. NOT_FOUND."""
        request = backup_pb2.DeleteBackupRequest(id=id, location=location)
        return DeletedBackup((await self._transport.once(calls.BACKUPS_DELETE, request, deadline_ms)).deleted_bytes)

    async def wait(
        self, operation: str, *, every_ms: float = 500, on_progress: Callable[[OperationInfo], None] | None = None
    ) -> OperationInfo:
        """Returns when the operation is done; raises what made it fail, or CANCELLED where it was undone."""
        while True:
            request = cluster_pb2.GetOperationRequest(id=operation)
            info = operation_from_wire((await self._transport.retried(calls.CLUSTER_GET_OPERATION, request)).operation)
            if on_progress is not None:
                on_progress(info)
            if info.state == "done":
                return info
            if info.state == "cancelled":
                raise error_of("CANCELLED", f"the operation {operation} was cancelled")
            if info.state == "failed":
                raise error_of(info.error_code if info.error_code in ERROR_CODES else "INTERNAL", info.error)
            await pause(every_ms / 1000)


class AsyncKeys:
    """API keys: how callers say who they are."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        *,
        role: str,
        collections: Sequence[str] = (),
        expires_at: datetime | None = None,
        limits: AccessLimits | None = None,
        deadline_ms: float | None = None,
    ) -> MadeKey:
        """NOT_FOUND where there is no such role. `collections`: names, or beginnings of names with "*" behind; none: all."""
        request = keys_pb2.CreateKeyRequest(
            name=name, role=role, collections=names_of(collections, "collections"), limits=limits_to_wire(limits)
        )
        if expires_at is not None:
            request.expires_at.CopyFrom(timestamp_of(expires_at, "expires_at"))
        response = await self._transport.once(calls.KEYS_CREATE, request, deadline_ms)
        return made_key(response)

    async def list(self, *, deadline_ms: float | None = None) -> list[KeyInfo]:
        """Newest first."""
        response = await self._transport.retried(calls.KEYS_LIST, keys_pb2.ListKeysRequest(), deadline_ms)
        return [key_from_wire(each) for each in response.keys]

    async def rotate(self, id: str, *, overlap_ms: int = _DAY_MS, deadline_ms: float | None = None) -> MadeKey:
        """Gives the key another secret; the one of before stays good for `overlap_ms`. NOT_FOUND."""
        request = keys_pb2.RotateKeyRequest(id=id, overlap_ms=whole_number(overlap_ms, "overlap_ms", high=2**53))
        response = await self._transport.once(calls.KEYS_ROTATE, request, deadline_ms)
        return made_key(response)

    async def revoke(self, id: str, *, deadline_ms: float | None = None) -> None:
        """From now on nobody is let in by the key: on every router within two seconds. NOT_FOUND."""
        await self._transport.once(calls.KEYS_REVOKE, keys_pb2.RevokeKeyRequest(id=id), deadline_ms)


class AsyncRoles:
    """Roles: what keys allow."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def put(
        self,
        name: str,
        rules: Sequence[RoleRuleInput],
        *,
        limits: AccessLimits | None = None,
        deadline_ms: float | None = None,
    ) -> RoleInfo:
        """Makes the role, or changes it: keys that have it are bound by it at once."""
        wires = []
        for i, rule in enumerate(rules):
            fields: Mapping[str, Any] = only_keys(rule, ("verbs", "collections", "filter"), f"rules[{i}]")
            verbs = names_of(fields.get("verbs", ()), f"rules[{i}].verbs")
            collections = names_of(fields.get("collections", ()), f"rules[{i}].collections")
            wires.append(
                keys_pb2.RoleRule(verbs=verbs, collections=collections, filter=filter_of(fields.get("filter")))
            )
        request = keys_pb2.PutRoleRequest(role=keys_pb2.Role(name=name, rules=wires, limits=limits_to_wire(limits)))
        return role_from_wire((await self._transport.retried(calls.ROLES_PUT, request, deadline_ms)).role)

    async def list(self, *, deadline_ms: float | None = None) -> list[RoleInfo]:
        """The built-in ones first."""
        response = await self._transport.retried(calls.ROLES_LIST, keys_pb2.ListRolesRequest(), deadline_ms)
        return [role_from_wire(each) for each in response.roles]

    async def delete(self, name: str, *, deadline_ms: float | None = None) -> None:
        """NOT_FOUND; FAILED_PRECONDITION while keys have the role."""
        await self._transport.once(calls.ROLES_DELETE, keys_pb2.DeleteRoleRequest(name=name), deadline_ms)
