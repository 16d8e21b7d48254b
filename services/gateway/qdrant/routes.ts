import type { Verb } from "../rest/routes.js";
import { changeAliases, collectionAliases, listAliases } from "./aliases.js";
import { type Operation, unimplemented } from "./api.js";
import {
  changeCluster,
  clearIssues,
  clusterStatus,
  collectionCluster,
  noIssues,
  optimizations,
  quotas,
  recoverPeer,
  telemetry,
} from "./cluster.js";
import {
  collectionExists,
  collectionInfo,
  createCollection,
  createVectorName,
  deleteCollection,
  deleteVectorName,
  listCollections,
  updateCollection,
} from "./collections.js";
import { createFullSnapshot, deleteFullSnapshot, listFullSnapshots } from "./full-snapshots.js";
import { createIndex, deleteIndex } from "./indexes.js";
import { count, facet, getPoint, getPoints, matrixOffsets, matrixPairs, scroll } from "./reads.js";
import {
  discover,
  discoverBatch,
  query,
  queryBatch,
  queryGroups,
  recommend,
  recommendBatch,
  recommendGroups,
  search,
  searchBatch,
  searchGroups,
} from "./search.js";
import { createShardKey, deleteShardKey, shardKeys } from "./shard-keys.js";
import { createSnapshot, deleteSnapshot, listSnapshots, recoverSnapshot } from "./snapshots.js";
import {
  clearPayload,
  deletePayload,
  deletePoints,
  deleteVectors,
  overwritePayload,
  setPayload,
  updateBatch,
  updateVectors,
  upsert,
} from "./writes.js";

export interface QdrantRoute {
  readonly verb: Verb;
  readonly path: string;
  readonly operation: Operation;
}

const collection = "/collections/:collection_name";
const points = `${collection}/points`;
const noFiles =
  "snapshots are backups that the server keeps in a folder or an object store of its own: they are made, listed, recovered and deleted by name, not sent";
const ofShards = "snapshots are of whole collections, at one point in time over all of their shards";

/** Every call of the REST API. */
export const routes: readonly QdrantRoute[] = [
  { verb: "GET", path: "/collections", operation: listCollections },
  { verb: "GET", path: collection, operation: collectionInfo },
  { verb: "PUT", path: collection, operation: createCollection },
  { verb: "PATCH", path: collection, operation: updateCollection },
  { verb: "DELETE", path: collection, operation: deleteCollection },
  { verb: "GET", path: `${collection}/exists`, operation: collectionExists },
  { verb: "PUT", path: `${collection}/index`, operation: createIndex },
  { verb: "DELETE", path: `${collection}/index/:field_name`, operation: deleteIndex },
  { verb: "PUT", path: `${collection}/vectors/:vector_name`, operation: createVectorName },
  { verb: "DELETE", path: `${collection}/vectors/:vector_name`, operation: deleteVectorName },
  { verb: "POST", path: "/collections/aliases", operation: changeAliases },
  { verb: "GET", path: "/aliases", operation: listAliases },
  { verb: "GET", path: `${collection}/aliases`, operation: collectionAliases },
  { verb: "GET", path: `${collection}/cluster`, operation: collectionCluster },
  { verb: "POST", path: `${collection}/cluster`, operation: changeCluster },
  { verb: "GET", path: `${collection}/optimizations`, operation: optimizations },
  { verb: "GET", path: `${collection}/shards`, operation: shardKeys },
  { verb: "PUT", path: `${collection}/shards`, operation: createShardKey },
  { verb: "POST", path: `${collection}/shards/delete`, operation: deleteShardKey },

  { verb: "GET", path: `${points}/:id`, operation: getPoint },
  { verb: "POST", path: points, operation: getPoints },
  { verb: "PUT", path: points, operation: upsert },
  { verb: "POST", path: `${points}/delete`, operation: deletePoints },
  { verb: "PUT", path: `${points}/vectors`, operation: updateVectors },
  { verb: "POST", path: `${points}/vectors/delete`, operation: deleteVectors },
  { verb: "POST", path: `${points}/payload`, operation: setPayload },
  { verb: "PUT", path: `${points}/payload`, operation: overwritePayload },
  { verb: "POST", path: `${points}/payload/delete`, operation: deletePayload },
  { verb: "POST", path: `${points}/payload/clear`, operation: clearPayload },
  { verb: "POST", path: `${points}/batch`, operation: updateBatch },
  { verb: "POST", path: `${points}/scroll`, operation: scroll },
  { verb: "POST", path: `${points}/count`, operation: count },
  { verb: "POST", path: `${collection}/facet`, operation: facet },
  { verb: "POST", path: `${points}/query`, operation: query },
  { verb: "POST", path: `${points}/query/batch`, operation: queryBatch },
  { verb: "POST", path: `${points}/query/groups`, operation: queryGroups },
  { verb: "POST", path: `${points}/search`, operation: search },
  { verb: "POST", path: `${points}/search/batch`, operation: searchBatch },
  { verb: "POST", path: `${points}/search/groups`, operation: searchGroups },
  { verb: "POST", path: `${points}/recommend`, operation: recommend },
  { verb: "POST", path: `${points}/recommend/batch`, operation: recommendBatch },
  { verb: "POST", path: `${points}/recommend/groups`, operation: recommendGroups },
  { verb: "POST", path: `${points}/discover`, operation: discover },
  { verb: "POST", path: `${points}/discover/batch`, operation: discoverBatch },
  { verb: "POST", path: `${points}/search/matrix/pairs`, operation: matrixPairs },
  { verb: "POST", path: `${points}/search/matrix/offsets`, operation: matrixOffsets },

  { verb: "GET", path: `${collection}/snapshots`, operation: listSnapshots },
  { verb: "POST", path: `${collection}/snapshots`, operation: createSnapshot },
  { verb: "PUT", path: `${collection}/snapshots/recover`, operation: recoverSnapshot },
  { verb: "DELETE", path: `${collection}/snapshots/:snapshot_name`, operation: deleteSnapshot },
  { verb: "GET", path: `${collection}/snapshots/:snapshot_name`, operation: unimplemented(noFiles) },
  { verb: "POST", path: `${collection}/snapshots/upload`, operation: unimplemented(noFiles) },
  { verb: "GET", path: "/snapshots", operation: listFullSnapshots },
  { verb: "POST", path: "/snapshots", operation: createFullSnapshot },
  { verb: "GET", path: "/snapshots/:snapshot_name", operation: unimplemented(noFiles) },
  { verb: "DELETE", path: "/snapshots/:snapshot_name", operation: deleteFullSnapshot },
  { verb: "GET", path: `${collection}/shards/:shard_id/snapshots`, operation: unimplemented(ofShards) },
  { verb: "POST", path: `${collection}/shards/:shard_id/snapshots`, operation: unimplemented(ofShards) },
  { verb: "PUT", path: `${collection}/shards/:shard_id/snapshots/recover`, operation: unimplemented(ofShards) },
  { verb: "POST", path: `${collection}/shards/:shard_id/snapshots/upload`, operation: unimplemented(ofShards) },
  { verb: "GET", path: `${collection}/shards/:shard_id/snapshot`, operation: unimplemented(ofShards) },
  { verb: "GET", path: `${collection}/shards/:shard_id/snapshots/:snapshot_name`, operation: unimplemented(ofShards) },
  {
    verb: "DELETE",
    path: `${collection}/shards/:shard_id/snapshots/:snapshot_name`,
    operation: unimplemented(ofShards),
  },

  { verb: "GET", path: "/cluster", operation: clusterStatus },
  {
    verb: "POST",
    path: "/cluster/recover",
    operation: recoverPeer,
  },
  {
    verb: "DELETE",
    path: "/cluster/peer/:peer_id",
    operation: unimplemented("nodes leave by being drained and stopped; this call does neither"),
  },
  { verb: "GET", path: "/cluster/telemetry", operation: telemetry },
  { verb: "GET", path: "/quotas", operation: quotas },
  { verb: "PUT", path: "/quotas", operation: unimplemented("this version has no quotas of a node's memory and disk") },
  { verb: "GET", path: "/telemetry", operation: telemetry },
  { verb: "GET", path: "/issues", operation: noIssues },
  { verb: "DELETE", path: "/issues", operation: clearIssues },
];
