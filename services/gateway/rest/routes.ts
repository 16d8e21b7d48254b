export type Verb = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** One call of the API as a method and a path. */
export interface Route {
  readonly verb: Verb;
  /** "/v1/collections/:collection": parts that begin with a colon are bound to fields of the request. */
  readonly path: string;
  /** "kith.v1.Points/Query" */
  readonly call: string;
  /** Fields of the request by part of the path; nested ones with dots. A part that is not named has its own name. */
  readonly bind?: Readonly<Record<string, string>>;
  /** Status of an answer; 200 where it is left out. */
  readonly status?: number;
}

const collection = "/v1/collections/:collection";
const points = `${collection}/points`;
const byName = { collection: "name" };

/** Every call that takes one request and gives one answer. A test fails where one has no line here. */
export const routes: readonly Route[] = [
  { verb: "POST", path: "/v1/collections", call: "kith.v1.Collections/Create", status: 201 },
  { verb: "GET", path: "/v1/collections", call: "kith.v1.Collections/List" },
  { verb: "GET", path: collection, call: "kith.v1.Collections/Get", bind: byName },
  { verb: "PATCH", path: collection, call: "kith.v1.Collections/Update", bind: byName },
  { verb: "DELETE", path: collection, call: "kith.v1.Collections/Delete", bind: byName },
  { verb: "GET", path: `${collection}/exists`, call: "kith.v1.Collections/Exists", bind: byName },
  { verb: "GET", path: `${collection}/stats`, call: "kith.v1.Collections/Stats", bind: byName },
  { verb: "POST", path: `${collection}/wait-indexed`, call: "kith.v1.Collections/WaitIndexed", bind: byName },
  { verb: "POST", path: `${collection}/rename`, call: "kith.v1.Collections/Rename", bind: byName },
  { verb: "GET", path: `${collection}/indexes`, call: "kith.v1.Collections/ListPayloadIndexes" },
  { verb: "POST", path: `${collection}/indexes`, call: "kith.v1.Collections/CreatePayloadIndex" },
  { verb: "POST", path: `${collection}/indexes/alter`, call: "kith.v1.Collections/AlterPayloadIndex" },
  {
    verb: "DELETE",
    path: `${collection}/indexes/:path`,
    call: "kith.v1.Collections/DropPayloadIndex",
  },
  { verb: "POST", path: `${collection}/vectors`, call: "kith.v1.Collections/AddVectorField" },
  { verb: "DELETE", path: `${collection}/vectors/:name`, call: "kith.v1.Collections/DropVectorField" },
  { verb: "GET", path: `${collection}/generations`, call: "kith.v1.Collections/ListGenerations" },
  { verb: "POST", path: `${collection}/generations`, call: "kith.v1.Collections/AlterVectorField" },
  { verb: "POST", path: `${collection}/generations/promote`, call: "kith.v1.Collections/PromoteGeneration" },
  { verb: "POST", path: `${collection}/generations/rollback`, call: "kith.v1.Collections/RollbackGeneration" },
  { verb: "POST", path: `${collection}/generations/drop`, call: "kith.v1.Collections/DropGeneration" },
  { verb: "GET", path: "/v1/aliases", call: "kith.v1.Collections/ListAliases" },
  { verb: "POST", path: "/v1/aliases", call: "kith.v1.Collections/UpdateAliases" },

  { verb: "POST", path: points, call: "kith.v1.Points/Upsert" },
  { verb: "POST", path: `${points}/delete`, call: "kith.v1.Points/Delete" },
  { verb: "POST", path: `${points}/payload/set`, call: "kith.v1.Points/SetPayload" },
  { verb: "POST", path: `${points}/payload/overwrite`, call: "kith.v1.Points/OverwritePayload" },
  { verb: "POST", path: `${points}/payload/delete`, call: "kith.v1.Points/DeletePayload" },
  { verb: "POST", path: `${points}/payload/clear`, call: "kith.v1.Points/ClearPayload" },
  { verb: "POST", path: `${points}/vectors/update`, call: "kith.v1.Points/UpdateVectors" },
  { verb: "POST", path: `${points}/vectors/delete`, call: "kith.v1.Points/DeleteVectors" },
  { verb: "POST", path: `${points}/expiry`, call: "kith.v1.Points/SetExpiry" },
  { verb: "POST", path: `${points}/batch`, call: "kith.v1.Points/WriteBatch" },
  { verb: "POST", path: `${points}/truncate`, call: "kith.v1.Points/Truncate" },
  { verb: "POST", path: `${points}/get`, call: "kith.v1.Points/Get" },
  { verb: "POST", path: `${points}/scroll`, call: "kith.v1.Points/Scroll" },
  { verb: "POST", path: `${points}/count`, call: "kith.v1.Points/Count" },
  { verb: "POST", path: `${points}/facet`, call: "kith.v1.Points/Facet" },
  { verb: "POST", path: `${collection}/query`, call: "kith.v1.Points/Query" },
  {
    verb: "POST",
    path: `${collection}/query/batch`,
    call: "kith.v1.Points/QueryBatch",
    bind: { collection: "queries.collection" },
  },
  {
    verb: "POST",
    path: `${collection}/query/groups`,
    call: "kith.v1.Points/QueryGroups",
    bind: { collection: "query.collection" },
  },
  { verb: "POST", path: `${collection}/query/matrix`, call: "kith.v1.Points/SearchMatrix" },

  { verb: "GET", path: "/v1/cluster", call: "kith.v1.Cluster/Describe" },
  { verb: "GET", path: "/v1/cluster/settings", call: "kith.v1.Cluster/GetSettings" },
  { verb: "PATCH", path: "/v1/cluster/settings", call: "kith.v1.Cluster/UpdateSettings" },
  { verb: "POST", path: "/v1/cluster/moves", call: "kith.v1.Cluster/MoveReplica" },
  { verb: "POST", path: `${collection}/shards/:shard/split`, call: "kith.v1.Cluster/SplitShard" },
  { verb: "POST", path: `${collection}/shards/merge`, call: "kith.v1.Cluster/MergeShards" },
  { verb: "POST", path: `${collection}/partitions/:partition/isolate`, call: "kith.v1.Cluster/IsolatePartition" },
  { verb: "POST", path: "/v1/cluster/rebalance", call: "kith.v1.Cluster/Rebalance" },
  { verb: "POST", path: "/v1/cluster/rebalance/abort", call: "kith.v1.Cluster/AbortRebalance" },
  { verb: "GET", path: "/v1/cluster/standby", call: "kith.v1.Cluster/GetStandby" },
  { verb: "POST", path: "/v1/cluster/standby/promote", call: "kith.v1.Cluster/PromoteStandby" },
  { verb: "GET", path: "/v1/cluster/slow-queries", call: "kith.v1.Cluster/SlowQueries" },
  { verb: "POST", path: "/v1/nodes/:node/drain", call: "kith.v1.Cluster/DrainNode" },
  { verb: "POST", path: "/v1/nodes/:node/undrain", call: "kith.v1.Cluster/UndrainNode" },
  { verb: "GET", path: "/v1/operations", call: "kith.v1.Cluster/ListOperations" },
  { verb: "GET", path: "/v1/operations/:id", call: "kith.v1.Cluster/GetOperation" },
  { verb: "POST", path: "/v1/operations/:id/cancel", call: "kith.v1.Cluster/CancelOperation" },

  { verb: "POST", path: "/v1/backups", call: "kith.v1.Backups/Create" },
  { verb: "GET", path: "/v1/backups", call: "kith.v1.Backups/List" },
  { verb: "POST", path: "/v1/backups/:id/verify", call: "kith.v1.Backups/Verify" },
  { verb: "POST", path: "/v1/backups/:id/restore", call: "kith.v1.Backups/Restore" },
  { verb: "DELETE", path: "/v1/backups/:id", call: "kith.v1.Backups/Delete" },

  { verb: "POST", path: "/v1/keys", call: "kith.v1.Keys/Create", status: 201 },
  { verb: "GET", path: "/v1/keys", call: "kith.v1.Keys/List" },
  { verb: "POST", path: "/v1/keys/:id/rotate", call: "kith.v1.Keys/Rotate" },
  { verb: "DELETE", path: "/v1/keys/:id", call: "kith.v1.Keys/Revoke" },
  { verb: "GET", path: "/v1/roles", call: "kith.v1.Roles/List" },
  { verb: "PUT", path: "/v1/roles/:name", call: "kith.v1.Roles/Put", bind: { name: "role.name" } },
  { verb: "DELETE", path: "/v1/roles/:name", call: "kith.v1.Roles/Delete" },
];

/** Calls without a route, and why. */
export const notOffered: Readonly<Record<string, string>> = {
  "kith.v1.Points/UpsertColumns": "POST .../points/import takes the same columns packed, and lines of JSON",
  "kith.v1.Points/UpsertStream": "POST .../points/import is the stream of writes of HTTP",
  "kith.v1.Changes/Watch": "POST .../watch is made by hand: a stream of lines",
  "kith.v1.Points/QueryStream": "HTTP/2 carries many queries at once over one connection, each as a request of its own",
};

/** Routes that are no single call, but made of several, or of one for a single point. */
export const composed = {
  point: `${points}/:id`,
  import: `${points}/import`,
  watch: `${collection}/watch`,
} as const;
