import { QdrantClient as GrpcClient } from "@qdrant/js-client-grpc";
import { QdrantClient as RestClient } from "@qdrant/js-client-rest";
import { collectionParams, grpcPoints, grpcQueries, restPoints, restQueries } from "./qdrant-requests.js";
import { grpcProxy, httpProxy, type RecordedRequest } from "./recording-proxies.js";

/** What Qdrant's clients sent, in the order in which they did. */
export interface QdrantTraffic {
  rest: RecordedRequest[];
  grpc: { path: string; bytes: Buffer }[];
}

export const restCollection = "fuzz-rest";
export const grpcCollection = "fuzz-grpc";

/** Has both of Qdrant's clients for JavaScript make each call that programs make often, and takes down what they send. */
export async function recordQdrant(node: { qdrantAddress: string; qdrantGrpcAddress: string }): Promise<QdrantTraffic> {
  const traffic: QdrantTraffic = { rest: [], grpc: [] };
  const rest = await httpProxy(node.qdrantAddress, (request) => void traffic.rest.push(request));
  const grpc = await grpcProxy(node.qdrantGrpcAddress, (request) => void traffic.grpc.push(request));
  try {
    await Promise.all([restTraffic(rest.address), grpcTraffic(grpc.address)]);
  } finally {
    rest.close();
    grpc.close();
  }
  return traffic;
}

async function restTraffic(address: string): Promise<void> {
  const client = new RestClient({ url: `http://${address}`, checkCompatibility: false });
  const name = restCollection;
  const wait = { wait: true } as const;
  await client.createCollection(name, collectionParams);
  await client.createPayloadIndex(name, { field_name: "tags", field_schema: "keyword", ...wait });
  const text = { type: "text", tokenizer: "word", lowercase: true } as const;
  await client.createPayloadIndex(name, { field_name: "title", field_schema: text, ...wait });
  await client.upsert(name, { points: restPoints, ...wait });
  const ids = [1, 2];
  const vectors = { text: [[1, 2, 3]], image: [[2, 1]] };
  await client.upsert(name, { batch: { ids: [8], vectors, payloads: [{ year: 3 }] }, ...wait });
  await client.setPayload(name, { payload: { deep: { a: 1 } }, points: ids, ...wait });
  await client.setPayload(name, { payload: { b: 2 }, key: "deep", filter: { must: [{ has_id: ids }] }, ...wait });
  await client.overwritePayload(name, { payload: { year: 1965 }, points: [3], ...wait });
  await client.deletePayload(name, { keys: ["deep.a", "rating"], points: ids, ...wait });
  await client.clearPayload(name, { points: [5], ...wait });
  await client.updateVectors(name, { points: [{ id: 3, vector: { text: [3, 2, 1] } }], ...wait });
  await client.deleteVectors(name, { vector: ["image"], points: [4], ...wait });
  await client.delete(name, { points: [7], ...wait });
  await client.delete(name, { filter: { must: [{ key: "year", match: { value: 1 } }] }, ...wait });
  const operations = [
    { upsert: { points: restPoints.slice(0, 1) } },
    { set_payload: { payload: { more: true }, points: [1] } },
    { delete_vectors: { points: [4], vector: ["image"] } },
    { delete: { points: [6] } },
  ];
  await client.batchUpdate(name, { operations, ...wait });
  for (const request of restQueries) await client.query(name, request);
  await client.queryBatch(name, { searches: restQueries.slice(0, 4) });
  const groups = { query: [1, 0, 0], using: "text", group_by: "tags", limit: 2, group_size: 1 };
  await client.queryGroups(name, groups);
  await client.retrieve(name, { ids: [2, 99], with_vector: ["text"], with_payload: { exclude: ["tags"] } });
  await client.scroll(name, { limit: 3, filter: { should: [{ key: "title", match: { text: "dune" } }] } });
  await client.scroll(name, { order_by: { key: "year", direction: "desc", start_from: 1970 }, with_payload: ["year"] });
  await client.count(name, { filter: { must_not: [{ key: "year", range: { gt: 1962 } }] }, exact: false });
  await client.facet(name, { key: "tags", limit: 3, exact: true });
  await client.searchMatrixPairs(name, { sample: 4, limit: 3, using: "text" });
  await client.searchMatrixOffsets(name, { sample: 4, limit: 3, using: "image" });
  await client.updateCollection(name, { optimizers_config: { indexing_threshold: 9 } });
  await client.updateCollectionAliases({
    actions: [{ create_alias: { collection_name: name, alias_name: `${name}-alias` } }],
  });
  await client.getCollection(name);
  await client.getCollections();
  await client.getAliases();
}

async function grpcTraffic(address: string): Promise<void> {
  const client = new GrpcClient({ url: `http://${address}`, checkCompatibility: false, compression: false });
  const api = client.api("points");
  const collectionName = grpcCollection;
  const at = { collectionName, wait: true };
  await client.api("collections").create({ collectionName, ...grpcPoints.collection });
  await api.createFieldIndex({ ...at, ...grpcPoints.index });
  await api.upsert({ ...at, points: grpcPoints.points });
  const pointsSelector = grpcPoints.chosen(1, 2);
  await api.setPayload({ ...at, pointsSelector, payload: grpcPoints.payload, key: "deep" });
  await api.overwritePayload({ ...at, pointsSelector: grpcPoints.chosen(3), payload: grpcPoints.payload });
  await api.deletePayload({ ...at, pointsSelector, keys: ["deep.a", "rating"] });
  await api.clearPayload({ ...at, points: grpcPoints.chosen(5) });
  await api.updateVectors({ ...at, points: grpcPoints.points.slice(0, 1).map(({ id, vectors }) => ({ id, vectors })) });
  await api.deleteVectors({ ...at, pointsSelector: grpcPoints.chosen(4), vectors: { names: ["image"] } });
  await api.delete({ ...at, points: grpcPoints.chosen(7) });
  await api.delete({ ...at, points: grpcPoints.passing });
  await api.updateBatch({ ...at, operations: grpcPoints.operations });
  for (const request of grpcQueries) await api.query({ collectionName, ...request });
  const queryPoints = grpcQueries.slice(0, 4).map((request) => ({ collectionName, ...request }));
  await api.queryBatch({ collectionName, queryPoints });
  const using = "text";
  const { nearest } = grpcPoints;
  await api.queryGroups({ collectionName, query: nearest, using, groupBy: "tags", limit: 2n, groupSize: 1n });
  const { enable } = grpcPoints;
  const ids = grpcPoints.points.map(({ id }) => id).slice(0, 2);
  await api.get({ collectionName, ids, withPayload: enable, withVectors: enable });
  await api.scroll({ collectionName, limit: 3, filter: grpcPoints.filter });
  await api.scroll({ collectionName, orderBy: { key: "year", startFrom: { value: { case: "integer", value: 3n } } } });
  await api.count({ collectionName, filter: grpcPoints.filter });
  await api.facet({ collectionName, key: "tags", exact: true });
  await api.searchMatrixPairs({ collectionName, sample: 4n, limit: 3n, using });
  await api.searchMatrixOffsets({ collectionName, sample: 4n, limit: 3n, using });
  const vector = [1, 0, 0];
  await api.search({ collectionName, vector, vectorName: using, limit: 2n });
  const search = { collectionName, vector, vectorName: using, limit: 1n };
  await api.searchBatch({ collectionName, searchPoints: [search] });
  await api.searchGroups({ collectionName, vector, vectorName: using, groupBy: "tags", limit: 2, groupSize: 1 });
  await api.recommend({ collectionName, positive: ids, using, limit: 2n });
  await api.discover({ collectionName, ...grpcPoints.discovery, using, limit: 2n });
  await client.api("collections").get({ collectionName });
  await client.api("collections").list({});
}
