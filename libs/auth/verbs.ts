/** What roles allow. Those of the second line are about the whole cluster, and need a rule for all collections. */
export const verbs = [
  ...(["describe", "read", "write", "create", "alter", "drop", "backup"] as const),
  ...(["monitor", "operate", "keys"] as const),
] as const;
export type Verb = (typeof verbs)[number];

/** Verbs that a rule with a filter may allow: of all others, what is done is not about single points. */
export const rowVerbs: readonly Verb[] = ["describe", "read", "write"];

export interface RpcRule {
  readonly verb: Verb;
  /** What the verb must be allowed on: the collection that the request's name means, or all of them and what they have in common. */
  readonly on: "collection" | "cluster";
  /** Not for callers that may see or write some of the points alone: it tells of all of them, or changes them together. */
  readonly isOfAllPoints?: true;
}

const of = (verb: Verb): RpcRule => ({ verb, on: "collection" });
const ofAllPoints = (verb: Verb): RpcRule => ({ verb, on: "collection", isOfAllPoints: true });
const ofCluster = (verb: Verb): RpcRule => ({ verb, on: "cluster" });

const changing: ReadonlySet<Verb> = new Set(["write", "create", "alter", "drop"]);
const changingCalls: ReadonlySet<string> = new Set([
  "/kith.v1.Backups/Restore",
  "/kith.v1.Cluster/SplitShard",
  "/kith.v1.Cluster/IsolatePartition",
  "/kith.v1.Cluster/MergeShards",
]);

/** Whether a call changes what collections hold, or are: what only their own cluster may, and none that follows it. */
export function changesCollections(path: string): boolean {
  const verb = rpcRules[path]?.verb;
  return changingCalls.has(path) || (verb !== undefined && changing.has(verb));
}

/** What each call of the public services needs, by its path in gRPC. A service with a method that is missing here is not served. */
export const rpcRules: Readonly<Record<string, RpcRule>> = {
  "/kith.v1.Collections/Create": of("create"),
  "/kith.v1.Collections/Get": of("describe"),
  "/kith.v1.Collections/List": of("describe"),
  "/kith.v1.Collections/Update": of("alter"),
  "/kith.v1.Collections/Delete": of("drop"),
  "/kith.v1.Collections/Exists": of("describe"),
  "/kith.v1.Collections/Stats": ofAllPoints("read"),
  "/kith.v1.Collections/WaitIndexed": ofAllPoints("read"),
  "/kith.v1.Collections/CreatePayloadIndex": of("alter"),
  "/kith.v1.Collections/DropPayloadIndex": of("alter"),
  "/kith.v1.Collections/ListPayloadIndexes": ofAllPoints("read"),
  "/kith.v1.Collections/AddVectorField": of("alter"),
  "/kith.v1.Collections/DropVectorField": of("alter"),
  "/kith.v1.Collections/AlterVectorField": of("alter"),
  "/kith.v1.Collections/ListGenerations": ofAllPoints("read"),
  "/kith.v1.Collections/PromoteGeneration": of("alter"),
  "/kith.v1.Collections/RollbackGeneration": of("alter"),
  "/kith.v1.Collections/DropGeneration": of("alter"),
  "/kith.v1.Collections/AlterPayloadIndex": of("alter"),
  "/kith.v1.Collections/Rename": of("alter"),
  "/kith.v1.Collections/UpdateAliases": of("alter"),
  "/kith.v1.Collections/ListAliases": of("describe"),
  "/kith.v1.Points/Upsert": of("write"),
  "/kith.v1.Points/UpsertColumns": of("write"),
  "/kith.v1.Points/UpsertStream": of("write"),
  "/kith.v1.Points/Delete": of("write"),
  "/kith.v1.Points/SetPayload": of("write"),
  "/kith.v1.Points/OverwritePayload": of("write"),
  "/kith.v1.Points/DeletePayload": of("write"),
  "/kith.v1.Points/ClearPayload": of("write"),
  "/kith.v1.Points/UpdateVectors": of("write"),
  "/kith.v1.Points/DeleteVectors": of("write"),
  "/kith.v1.Points/SetExpiry": of("write"),
  "/kith.v1.Points/WriteBatch": of("write"),
  "/kith.v1.Points/Truncate": ofAllPoints("write"),
  "/kith.v1.Points/Get": of("read"),
  "/kith.v1.Points/Scroll": of("read"),
  "/kith.v1.Points/Count": of("read"),
  "/kith.v1.Points/Facet": of("read"),
  "/kith.v1.Points/Query": of("read"),
  "/kith.v1.Points/QueryBatch": of("read"),
  "/kith.v1.Points/QueryStream": of("read"),
  "/kith.v1.Points/QueryGroups": of("read"),
  "/kith.v1.Points/SearchMatrix": of("read"),
  "/kith.v1.Changes/Watch": of("read"),
  "/kith.v1.Backups/Create": of("backup"),
  "/kith.v1.Backups/List": ofCluster("backup"),
  "/kith.v1.Backups/Verify": ofCluster("backup"),
  "/kith.v1.Backups/Restore": ofCluster("backup"),
  "/kith.v1.Backups/Delete": ofCluster("backup"),
  "/kith.v1.Cluster/Describe": ofCluster("monitor"),
  "/kith.v1.Cluster/ListOperations": ofCluster("monitor"),
  "/kith.v1.Cluster/GetOperation": ofCluster("monitor"),
  "/kith.v1.Cluster/CancelOperation": ofCluster("operate"),
  "/kith.v1.Cluster/MoveReplica": ofCluster("operate"),
  "/kith.v1.Cluster/SplitShard": ofCluster("operate"),
  "/kith.v1.Cluster/IsolatePartition": ofCluster("operate"),
  "/kith.v1.Cluster/MergeShards": ofCluster("operate"),
  "/kith.v1.Cluster/DrainNode": ofCluster("operate"),
  "/kith.v1.Cluster/UndrainNode": ofCluster("operate"),
  "/kith.v1.Cluster/Rebalance": ofCluster("operate"),
  "/kith.v1.Cluster/AbortRebalance": ofCluster("operate"),
  "/kith.v1.Cluster/GetSettings": ofCluster("monitor"),
  "/kith.v1.Cluster/UpdateSettings": ofCluster("operate"),
  "/kith.v1.Cluster/SlowQueries": ofCluster("monitor"),
  "/kith.v1.Cluster/GetStandby": ofCluster("monitor"),
  "/kith.v1.Cluster/PromoteStandby": ofCluster("operate"),
  "/kith.v1.Keys/Create": ofCluster("keys"),
  "/kith.v1.Keys/List": ofCluster("keys"),
  "/kith.v1.Keys/Rotate": ofCluster("keys"),
  "/kith.v1.Keys/Revoke": ofCluster("keys"),
  "/kith.v1.Roles/Put": ofCluster("keys"),
  "/kith.v1.Roles/List": ofCluster("keys"),
  "/kith.v1.Roles/Delete": ofCluster("keys"),
};
