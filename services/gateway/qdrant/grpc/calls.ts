import type { JsonObject } from "../../../../libs/model/index.js";
import { changeAliases, collectionAliases, listAliases } from "../aliases.js";
import { greetingOf, type Operation } from "../api.js";
import { changeCluster, collectionCluster } from "../cluster.js";
import {
  collectionExists,
  collectionInfo,
  createCollection,
  createVectorName,
  deleteCollection,
  deleteVectorName,
  listCollections,
  updateCollection,
} from "../collections.js";
import { createFullSnapshot, deleteFullSnapshot, listFullSnapshots } from "../full-snapshots.js";
import { createIndex, deleteIndex } from "../indexes.js";
import { count, facet, getPoints, matrixOffsets, matrixPairs, scroll } from "../reads.js";
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
} from "../search.js";
import { createShardKey, deleteShardKey, shardKeys } from "../shard-keys.js";
import { createSnapshot, deleteSnapshot, listSnapshots } from "../snapshots.js";
import type { Reply } from "../values.js";
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
} from "../writes.js";
import { isSourceObject, type SourceObject } from "./source.js";

/** One call: the operation of the REST API that answers it, and where its body and its answer differ from that. */
export interface QdrantCall {
  readonly operation: Operation;
  readonly body?: (request: JsonObject) => JsonObject;
  /** The fields of the answer, but for its time. */
  readonly answer: (reply: Reply) => SourceObject;
}

const result = (reply: Reply): SourceObject => ({ result: reply });
/** The answer is an object whose members are the fields. */
const fields = (reply: Reply): SourceObject => (isSourceObject(reply) ? reply : {});
/** Lists of results. */
const batches = (reply: Reply): SourceObject => ({
  result: (Array.isArray(reply) ? (reply as readonly Reply[]) : []).map((points) => ({ result: pointsOf(points) })),
});

function pointsOf(reply: Reply): Reply {
  return isSourceObject(reply) ? (reply["points"] ?? []) : reply;
}

/** The requests of a batch under the name that REST has for them. */
const searches =
  (name: string) =>
  ({ [name]: all, ...others }: JsonObject): JsonObject => ({ ...others, searches: all ?? [] });

const plain = (operation: Operation): QdrantCall => ({ operation, answer: result });

const points: Readonly<Record<string, QdrantCall>> = {
  Upsert: plain(upsert),
  Delete: plain(deletePoints),
  Get: plain(getPoints),
  UpdateVectors: plain(updateVectors),
  DeleteVectors: plain(deleteVectors),
  SetPayload: plain(setPayload),
  OverwritePayload: plain(overwritePayload),
  DeletePayload: plain(deletePayload),
  ClearPayload: plain(clearPayload),
  UpdateBatch: plain(updateBatch),
  CreateFieldIndex: plain(createIndex),
  DeleteFieldIndex: plain(deleteIndex),
  CreateVectorName: plain(createVectorName),
  DeleteVectorName: plain(deleteVectorName),
  Scroll: {
    operation: scroll,
    answer: (reply) => {
      const { points: found, next_page_offset } = fields(reply);
      return { result: found, next_page_offset };
    },
  },
  Count: plain(count),
  Facet: { operation: facet, answer: fields },
  SearchMatrixPairs: plain(matrixPairs),
  SearchMatrixOffsets: plain(matrixOffsets),
  Query: { operation: query, answer: (reply) => ({ result: pointsOf(reply) }) },
  QueryBatch: { operation: queryBatch, body: searches("query_points"), answer: batches },
  QueryGroups: plain(queryGroups),
  Search: plain(search),
  SearchBatch: { operation: searchBatch, body: searches("search_points"), answer: batches },
  SearchGroups: plain(searchGroups),
  Recommend: plain(recommend),
  RecommendBatch: { operation: recommendBatch, body: searches("recommend_points"), answer: batches },
  RecommendGroups: plain(recommendGroups),
  Discover: plain(discover),
  DiscoverBatch: { operation: discoverBatch, body: searches("discover_points"), answer: batches },
};

const collections: Readonly<Record<string, QdrantCall>> = {
  Get: plain(collectionInfo),
  List: { operation: listCollections, answer: fields },
  Create: plain(createCollection),
  Update: plain(updateCollection),
  Delete: plain(deleteCollection),
  UpdateAliases: plain(changeAliases),
  ListCollectionAliases: { operation: collectionAliases, answer: fields },
  ListAliases: { operation: listAliases, answer: fields },
  CollectionClusterInfo: { operation: collectionCluster, answer: fields },
  CollectionExists: plain(collectionExists),
  UpdateCollectionClusterSetup: plain(changeCluster),
  CreateShardKey: plain(createShardKey),
  DeleteShardKey: plain(deleteShardKey),
  ListShardKeys: { operation: shardKeys, answer: fields },
};

const snapshots: Readonly<Record<string, QdrantCall>> = {
  Create: { operation: createSnapshot, answer: (reply) => ({ snapshot_description: reply }) },
  List: { operation: listSnapshots, answer: (reply) => ({ snapshot_descriptions: reply }) },
  Delete: { operation: deleteSnapshot, answer: () => ({}) },
  CreateFull: { operation: createFullSnapshot, answer: (reply) => ({ snapshot_description: reply }) },
  ListFull: { operation: listFullSnapshots, answer: (reply) => ({ snapshot_descriptions: reply }) },
  DeleteFull: { operation: deleteFullSnapshot, answer: () => ({}) },
};

const qdrant: Readonly<Record<string, QdrantCall>> = {
  HealthCheck: { operation: ({ self }) => Promise.resolve(greetingOf(self)), answer: fields },
};

/** Every call of the services, by its name: "Points/Query". */
export const qdrantCalls: ReadonlyMap<string, QdrantCall> = new Map(
  Object.entries({ Points: points, Collections: collections, Snapshots: snapshots, Qdrant: qdrant }).flatMap(
    ([service, calls]) =>
      Object.entries(calls).map(([name, call]): [string, QdrantCall] => [`${service}/${name}`, call]),
  ),
);
