import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, type DescMethod, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Client } from "@grpc/grpc-js";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually, freePort } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { LinkClient } from "../../libs/link/index.js";
import { idFromNum } from "../../libs/model/index.js";
import { readDescriptorSet } from "../../libs/rpc/server/index.js";
import { createLogger, noTrace } from "../../libs/telemetry/index.js";
import { ipb } from "../../libs/wire/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import type { Words } from "./generate.js";
import { type QdrantTraffic, recordQdrant } from "./qdrant-traffic.js";

/** A message as a client sent it to a call. */
export interface Recorded {
  path: string;
  bytes: Buffer;
}

/** A whole node with all its doors open to anybody, and what honest clients have sent to them. */
export interface Target {
  node: RunningNode;
  linkPort: number;
  /** Of unary calls. */
  calls: Recorded[];
  /** Of streams of requests. */
  streams: Recorded[];
  /** Of the calls between nodes, at the port of the link. */
  internal: Recorded[];
  /** Of Qdrant's own clients. */
  qdrant: QdrantTraffic;
  /** A connection of the link from its first byte on. */
  link: Buffer;
  /** Of every public call, and what texts in them may be. */
  methods: readonly DescMethod[];
  words: Words;
  /** The served OpenAPI document. */
  openApi: string;
  /** Errors that the node logged. */
  errors: string[];
  close(): Promise<void>;
}

export const collectionName = "docs";
/** What may be changed and deleted as a whole. */
export const spareName = "spare";

const words: Words = {
  collections: [...Array.from({ length: 12 }, () => collectionName), spareName, "second", "nosuch", ""],
  keys: ["n", "n", "text", "deep.list", "deep.list[].a", "tags", "title", "at", "none", ""],
  payloads: [
    '{"n":3,"text":"t3"}',
    '{"tags":["a","b"],"title":"a word again"}',
    '{"deep":{"list":[1,{"a":null}]}}',
    "{}",
    "[1]",
  ],
  others: [
    "a",
    "t4",
    "title",
    "n",
    "sparse",
    "tokens",
    "n > 3",
    'text = "t4"',
    "word again",
    "english",
    "1d",
    "*",
    "",
    "\u0000",
  ],
};

/** Every call of kith.v1, or of Qdrant's API. */
export function publicMethods(of: "kith.v1" | "qdrant" = "kith.v1"): DescMethod[] {
  const set = readDescriptorSet(of === "qdrant" ? "qdrant.binpb" : "descriptors.binpb");
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
  const files = [...registry.files].filter((file) => file.proto.package === of);
  return files.flatMap(({ services }) => services.flatMap(({ methods }) => methods));
}

export async function startTarget(natsUrl: string): Promise<Target> {
  const folder = mkdtempSync(join(tmpdir(), "kith-fuzz-"));
  const linkPort = await freePort();
  const errors: string[] = [];
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId: "target", roles: ["router", "shard", "coordinator"], data: folder, drainTimeoutMs: 1_000 },
      ...{
        listen: { port: 0 },
        link: { port: linkPort },
        http: { port: 0 },
        qdrant: { httpPort: 0, grpcPort: 0 },
        log: { kind: "jetstream", url: natsUrl },
      },
      backup: { folder: join(folder, "backups") },
    },
  });
  const write = (line: string): void => void (errors.length < 1_000 && errors.push(line.trim()));
  const node = await startNode(config, {
    version: "test",
    logger: () => createLogger({ level: "error", nodeId: "target", write }),
  });
  const { calls, streams, collectionId } = await recordCalls(node.address);
  const qdrant = await recordQdrant(node);
  const { link, incarnation } = await recordLink(linkPort, collectionId);
  const openApi = await (await fetch(`http://${node.httpAddress}/openapi.json`)).text();
  return {
    ...{ node, linkPort, calls, streams, qdrant, link, errors, openApi, words },
    methods: publicMethods(),
    internal: internalCalls(collectionId, incarnation),
    async close() {
      await node.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What the SDK sends for one of each call that many programs make. */
async function recordCalls(address: string): Promise<Pick<Target, "calls" | "streams"> & { collectionId: string }> {
  const calls: Recorded[] = [];
  const streams: Recorded[] = [];
  const stop = record(calls, streams);
  const client = await connect(address);
  try {
    const docs = client.collection(collectionName);
    const { id } = await docs.create({ vectors: { dimension: 3, metric: "cosine" }, sparse: { sparse: {} } });
    await docs.addVectorField("tokens", { dimension: 3, metric: "cosine", multivector: "maxSim" });
    await docs.createPayloadIndex("n", "integer", { wait: true });
    await client.collection(spareName).create({ vectors: { dimension: 3, metric: "cosine" } });
    await client.aliases.create("second", collectionName);
    await docs.createPayloadIndex("title", "bm25", { wait: true });
    const points = Array.from({ length: 40 }, (_, n) => ({
      id: n % 2 === 0 ? n : `name-${n}`,
      ...(n === 5
        ? {
            vector: [n, 1, 1],
            vectors: {
              tokens: [
                [1, 2, 3],
                [n, 1, 0],
              ],
            },
            sparse: { sparse: { indices: [n, 7], values: [1, 2] } },
          }
        : { vector: [n + 1, 2, 3] }),
      payload: { n, text: `t${n}`, title: `word ${n % 3} again`, deep: { list: [n, { a: null }] } },
    }));
    await docs.upsert(points);
    const filter = 'n >= 2 and (text = "t4" or not deep.list > 7)';
    await docs.query({ vector: [1, 2, 3], limit: 5, filter, withPayload: true });
    await docs.query({ vector: [3, 2, 1], limit: 2, explain: true });
    await docs.get([2, "name-1"]);
    for await (const point of docs.scroll({})) if (point !== undefined) break;
    await docs.count({ filter });
    await docs.facet("n", { limit: 4 });
    await docs.setPayload([2], { n: 3 });
    await docs.deletePayload([4], ["text"]);
    await docs.delete(["name-3"]);
    await docs.info();
    await docs.stats();
    await client.collections.list();
    return { calls, streams, collectionId: id };
  } finally {
    client.close();
    stop();
  }
}

/** Takes down what leaves by clients of gRPC in this process. */
function record(calls: Recorded[], streams: Recorded[]): () => void {
  const own = Client.prototype as unknown as Record<string, (...args: never[]) => unknown>;
  const { makeUnaryRequest, makeBidiStreamRequest } = own;
  if (makeUnaryRequest === undefined || makeBidiStreamRequest === undefined)
    throw new Error("not the client of grpc-js");
  own["makeUnaryRequest"] = function (this: Client, ...args: unknown[]): unknown {
    calls.push({ path: String(args[0]), bytes: Buffer.from(args[3] as Uint8Array) });
    return makeUnaryRequest.apply(this, args as never[]);
  };
  own["makeBidiStreamRequest"] = function (this: Client, ...args: unknown[]): unknown {
    const serialize = args[1] as (message: unknown) => Buffer;
    const tapped = (message: unknown): Buffer => {
      const bytes = serialize(message);
      streams.push({ path: String(args[0]), bytes: Buffer.from(bytes) });
      return bytes;
    };
    return makeBidiStreamRequest.apply(this, [args[0], tapped, ...args.slice(2)] as never[]);
  };
  return () => Object.assign(own, { makeUnaryRequest, makeBidiStreamRequest });
}

/** What a router sends over the link, taken down on its way. */
async function recordLink(port: number, collectionId: string): Promise<{ link: Buffer; incarnation: string }> {
  const chunks: Buffer[] = [];
  const proxy = createServer((inner) => {
    const outer = connectTcp(port, "127.0.0.1");
    for (const socket of [inner, outer]) socket.on("error", () => socket.destroy());
    inner.on("data", (chunk: Buffer) => chunks.push(chunk));
    inner.pipe(outer).pipe(inner);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const link = new LinkClient({ ...systemRuntime, address, node: "target", self: "router", connections: 1 });
  try {
    await eventually(() => link.state === "connected");
    const replica = { collectionId, shard: 0 };
    const call = { trace: noTrace };
    const vector = Float32Array.of(1, 2, 3);
    const select = { payload: true, vectors: "all" as const };
    const scope = { minSequence: 0, filter: undefined, ids: undefined, exclude: [] };
    const { incarnation = "" } = await link.status(replica, 0, call);
    const wanted = { field: "", k: 3, ef: 16, exact: false, select };
    await link.read("query", replica, { ...wanted, vector, minSequence: 0 }, call);
    await link.read("search", replica, { ...scope, ...wanted, scorer: { kind: "nearest", vector } }, call);
    await link.read("get", replica, { ids: [idFromNum(2)], select, minSequence: 0 }, call);
    await link.read("scroll", replica, { after: undefined, limit: 3, select, minSequence: 0 }, call);
    await link.read("count", replica, { minSequence: 0 }, call);
    await link.read("facet", replica, { ...scope, key: "n" }, call);
    await link.read("sample", replica, { ...scope, limit: 3, select }, call);
    await link.wait(replica, 1, [], call);
    return { link: Buffer.concat(chunks), incarnation };
  } finally {
    link.close();
    proxy.close();
  }
}

/** What nodes ask of each other by gRPC: copies, and work for backups. */
function internalCalls(collectionId: string, incarnation: string): Recorded[] {
  const snapshot = ipb.SnapshotRequest.encode(
    ipb.SnapshotRequest.create({ replica: { collectionId, shard: 0 }, incarnation, minSequence: 1 }),
  );
  const shard = { collectionId, shard: 0 };
  const backup = "20260101t000000000z-0a1b2c3d";
  const before = { files: 0, points: 0, expiring: 0, content: "0" };
  const jobs = [
    { kind: "digest", shard, minSequence: 1 },
    { kind: "write", location: "", backup, shard, slots: { firstSlot: 0, lastSlot: 16_383 }, bytesPerSecond: 0 },
    {
      ...{ kind: "feed", operation: "o", location: "", backup, shard: 0 },
      ...{ target: { collectionId, epoch: 1, shards: [] }, before },
    },
  ];
  return [
    { path: ipb.SnapshotsService.fetch.path, bytes: Buffer.from(snapshot.finish()) },
    ...jobs.map((job) => ({
      path: ipb.BackupWorkService.run.path,
      bytes: Buffer.from(ipb.BackupJob.encode({ job: JSON.stringify(job) }).finish()),
    })),
  ];
}
