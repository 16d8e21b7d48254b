/** Options that a method does not have are refused, by every method there is: what is misspelt would be passed over without a word. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Backups, type CollectionHandle, connect, type KithClient, type Keys, type Roles } from "./index.js";
import { TestServer } from "./testing/server.js";

let server: TestServer;
let client: KithClient;
let films: CollectionHandle;

beforeAll(async () => {
  server = await TestServer.start();
  client = await connect(server.target);
  films = client.collection("films");
  await films.create({ vectors: { dimension: 2 } });
});
afterAll(() => {
  client.close();
  server.stop();
});

/** Options with a key that nothing has, for what TypeScript would refuse. */
type Misspelt = never;
/** Each method, called with such options: a method without a row does not compile. */
type Rows<T> = {
  [K in keyof T as T[K] extends (...values: never[]) => unknown ? K : never]: (options: Misspelt) => unknown;
};

const vector = [1, 2];
const point = { id: 1, vector };
const beside = (known: object, options: Misspelt): Misspelt => ({ ...known, ...(options as object) }) as Misspelt;

const ofCollection: Rows<CollectionHandle> = {
  create: (o) => films.create(beside({ vectors: { dimension: 2 } }, o)),
  info: (o) => films.info(o),
  exists: (o) => films.exists(o),
  update: (o) => films.update(beside({ efSearch: 9 }, o)),
  drop: (o) => films.drop(o),
  truncate: (o) => films.truncate(o),
  rename: (o) => films.rename("other", o),
  stats: (o) => films.stats(o),
  waitIndexed: (o) => films.waitIndexed(o),
  createPayloadIndex: (o) => films.createPayloadIndex("a", "keyword", o),
  dropPayloadIndex: (o) => films.dropPayloadIndex("a", o),
  listPayloadIndexes: (o) => films.listPayloadIndexes(o),
  addVectorField: (o) => films.addVectorField("a", { dimension: 2 }, o),
  addSparseField: (o) => films.addSparseField("a", o),
  dropVectorField: (o) => films.dropVectorField("a", o),
  alterVectorField: (o) => films.alterVectorField("a", beside({ datatype: "i8" }, o)),
  alterPayloadIndex: (o) => films.alterPayloadIndex("a", beside({ bm25: {} }, o)),
  listGenerations: (o) => films.listGenerations(o),
  listTextGenerations: (o) => films.listTextGenerations(o),
  promoteGeneration: (o) => films.promoteGeneration("a", o),
  rollbackGeneration: (o) => films.rollbackGeneration("a", o),
  dropGeneration: (o) => films.dropGeneration("a", o),
  upsert: (o) => films.upsert(point, o),
  upsertColumns: (o) => films.upsertColumns({ ids: [1], vectors: Float32Array.from(vector) }, o),
  upsertMany: (o) => films.upsertMany([point], o),
  query: (o) => films.query(beside({ vector }, o)),
  queryBatch: (o) => films.queryBatch([{ vector }], o),
  queryGroups: (o) => films.queryGroups(beside({ vector, groupBy: "a" }, o)),
  watch: (o) => films.watch(o).next(),
  facet: (o) => films.facet("a", o),
  matrix: (o) => films.matrix(o),
  get: (o) => films.get(1, o),
  delete: (o) => films.delete(1, o),
  setPayload: (o) => films.setPayload(1, {}, o),
  overwritePayload: (o) => films.overwritePayload(1, {}, o),
  deletePayload: (o) => films.deletePayload(1, "a", o),
  clearPayload: (o) => films.clearPayload(1, o),
  updateVectors: (o) => films.updateVectors(point, o),
  deleteVectors: (o) => films.deleteVectors(1, "a", o),
  setExpiry: (o) => films.setExpiry(1, null, o),
  writeBatch: (o) => films.writeBatch([{ op: "delete", ids: [1] } as never], o),
  count: (o) => films.count(o),
  scroll: (o) => films.scroll(o).next(),
};
const ofCollections: Rows<KithClient["collections"]> = { list: (o) => client.collections.list(o) };
const ofAliases: Rows<KithClient["aliases"]> = {
  list: (o) => client.aliases.list(o),
  create: (o) => client.aliases.create("a", "films", o),
  switch: (o) => client.aliases.switch("a", "films", o),
  delete: (o) => client.aliases.delete("a", o),
  update: (o) => client.aliases.update([], o),
};
const move = { collection: "films", shard: 0 };
const ofCluster: Rows<KithClient["cluster"]> = {
  describe: (o) => client.cluster.describe(o),
  slowQueries: (o) => client.cluster.slowQueries(o),
  operations: (o) => client.cluster.operations(o),
  operation: (o) => client.cluster.operation("a", o),
  cancelOperation: (o) => client.cluster.cancelOperation("a", o),
  moveReplica: (o) => client.cluster.moveReplica(move, o),
  splitShard: (o) => client.cluster.splitShard(move, o),
  isolatePartition: (o) => client.cluster.isolatePartition({ collection: "films", partition: "a" }, o),
  mergeShards: (o) => client.cluster.mergeShards({ collection: "films", shards: [0, 1] }, o),
  drain: (o) => client.cluster.drain("a", o),
  undrain: (o) => client.cluster.undrain("a", o),
  rebalance: (o) => client.cluster.rebalance(o),
  abortRebalance: (o) => client.cluster.abortRebalance(o),
  standby: (o) => client.cluster.standby(o),
  promoteStandby: (o) => client.cluster.promoteStandby(o),
  settings: (o) => client.cluster.settings(o),
  updateSettings: (o) => client.cluster.updateSettings({}, o),
};
const ofBackups: Rows<Backups> = {
  create: (o) => client.backups.create("films", o),
  list: (o) => client.backups.list(o),
  verify: (o) => client.backups.verify("a", o),
  restore: (o) => client.backups.restore("a", o),
  delete: (o) => client.backups.delete("a", o),
  wait: (o) => client.backups.wait("a", o),
};
const ofKeys: Rows<Keys> = {
  create: (o) => client.keys.create("a", beside({ role: "reader" }, o)),
  list: (o) => client.keys.list(o),
  rotate: (o) => client.keys.rotate("a", o),
  revoke: (o) => client.keys.revoke("a", o),
};
const ofRoles: Rows<Roles> = {
  put: (o) => client.roles.put({ name: "a", rules: [] }, o),
  list: (o) => client.roles.list(o),
  delete: (o) => client.roles.delete("a", o),
};

describe.each([
  ["a collection", ofCollection],
  ["client.collections", ofCollections],
  ["client.aliases", ofAliases],
  ["client.cluster", ofCluster],
  ["client.backups", ofBackups],
  ["client.keys", ofKeys],
  ["client.roles", ofRoles],
])("methods of %s", (_, rows) => {
  test.each(Object.entries(rows))("%s", async (_name, call) => {
    const before = server.seen.length;
    const refused = { code: "INVALID_ARGUMENT", message: expect.stringContaining("deadlineMS") as string };
    await expect((async () => call({ deadlineMS: 1 } as Misspelt))()).rejects.toMatchObject(refused);
    expect(server.seen.length).toBe(before);
  });
});

test("so are those of a standing query", async () => {
  const near = { vector, treshold: 0.5 } as never;
  await expect(films.watch({ near }).next()).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("options.near.treshold") as string,
  });
});
