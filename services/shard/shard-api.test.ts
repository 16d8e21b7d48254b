import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createIndex, loadIndex } from "../../libs/ann/index.js";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { CallContext } from "../../libs/call/index.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { collectionsView } from "../../libs/cluster/index.js";
import { LinkClient, serveLink } from "../../libs/link/index.js";
import { FakeLog } from "../../libs/log/testing.js";
import { analyzerDefaults, type Collection, idFromNum } from "../../libs/model/index.js";
import { createRpcServer } from "../../libs/rpc/server/index.js";
import { describeShardApi, type ShardApiHarness } from "../../libs/shard-api/testing.js";
import { createLogger, noTrace } from "../../libs/telemetry/index.js";
import { encodeRecord, floatsToBytes, payloadIndexTo, pb } from "../../libs/wire/index.js";
import { ShardHost } from "./index.js";

const call: CallContext = { trace: noTrace };
const replica = { collectionId: "c1", shard: 0 };

const record: Collection = {
  id: replica.collectionId,
  name: "things",
  fields: [{ name: "", dimension: 2, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
  sparseFields: [{ name: "words" }],
  replicationFactor: 1,
  epoch: 1,
  createdAtMs: 0,
  labels: {},
  state: "ready",
  nextShard: 1,
  payloadIndexes: [],
  schemaVersion: 1,
  shards: [
    {
      shard: replica.shard,
      firstSlot: 0,
      lastSlot: 16_383,
      epoch: 1,
      state: "active",
      replicas: [{ node: "here", state: "active", sinceMs: 0 }],
    },
  ],
};

/** The record of one upsert, of the point `num`. */
function upsert(num: number, operationId: Uint8Array): Uint8Array {
  const value = {
    mode: pb.UpsertMode.UNSPECIFIED,
    ids: [idFromNum(num)],
    vectors: [{ name: "", matrix: floatsToBytes(Float32Array.of(num, 1)), rows: [] }],
    payloads: [Buffer.from(JSON.stringify({ n: num }))],
  };
  const operation = { operationId, traceparent: "", mutation: { $case: "upsert" as const, value } };
  return encodeRecord({ epoch: 1, appendedAtMs: num, operations: [operation] });
}

/** The record that adds the index by BM25 of the suite. */
function addIndex(operationId: Uint8Array): Uint8Array {
  const index = payloadIndexTo({
    ...{ path: "words", kind: "bm25", isTenant: false, isPrincipal: false },
    bm25: { fields: [{ path: "words", weight: 1, b: 0.75 }], k1: 1.2, analyzer: analyzerDefaults },
  });
  const change = { $case: "addPayloadIndex" as const, value: pb.PayloadIndex.encode(index).finish() };
  const mutation = { $case: "changeSchema" as const, value: { version: 2, change } };
  return encodeRecord({ epoch: 1, appendedAtMs: 0, operations: [{ operationId, traceparent: "", mutation }] });
}

/** A host with one active replica. */
async function hosting(): Promise<{ host: ShardHost; harness: ShardApiHarness }> {
  const data = await mkdtemp(join(tmpdir(), "kith-shard-api-"));
  const log = await FakeLog.open();
  const catalog = await FakeCatalog.open();
  const collections = collectionsView(catalog);
  await collections.start();
  await log.create(replica);
  await collections.create(record.name, record);
  const host = new ShardHost({
    nodeId: "here",
    data,
    collections,
    log,
    ...systemRuntime,
    indexes: { create: createIndex, load: loadIndex },
    logger: createLogger({ level: "error", nodeId: "here", write: () => undefined }),
  });
  await host.start();
  await eventually(async () => (await host.status(replica, 0, call)).state === "active");
  const { sequence } = await log.append(replica, addIndex(systemRuntime.random.bytes(16)), { messageId: "index" });
  const terms = { index: "words", terms: [], expansions: [], minSequence: sequence };
  await eventually(() =>
    host.read("terms", replica, terms, call).then(
      () => true,
      () => false,
    ),
  );
  const harness: ShardApiHarness = {
    api: host,
    replica,
    sequence,
    call,
    write: async (num) => {
      const operationId = systemRuntime.random.bytes(16);
      const { sequence } = await log.append(replica, upsert(num, operationId), {
        messageId: operationId.toString("hex"),
      });
      return { sequence, operationId };
    },
    unavailable: async () => ({ ...replica, shard: 1 }),
    dispose: async () => {
      await host.close();
      await collections.close();
      await catalog.close();
      await log.close();
      await rm(data, { recursive: true, force: true });
    },
  };
  return { host, harness };
}

describeShardApi("host", async () => (await hosting()).harness);

describeShardApi("host over the link", async () => {
  const { host, harness } = await hosting();
  const server = createRpcServer({ ...systemRuntime, node: "here" });
  serveLink(server, host, "here");
  const port = await server.listen("127.0.0.1", 0);
  const link = new LinkClient({ ...systemRuntime, address: `127.0.0.1:${port}` });
  await eventually(() => link.state === "connected");
  return {
    ...harness,
    api: link,
    dispose: async () => {
      link.close();
      await server.drain(0);
      await harness.dispose();
    },
  };
});
