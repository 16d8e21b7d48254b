/** Answers that are together larger than memory should hold: refused early, or worked on a few at a time; and memory comes back. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { expect, test } from "vitest";
import { eventually, freePort } from "../../libs/base/testing.js";
import type { CollectionHandle } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { failureOf, range } from "../cluster/workload.js";

const count = 2_000;
const mib = 1024 * 1024;

let restPort = 0;

const cluster = useCluster(
  async () => {
    restPort = await freePort();
    return startProcesses({ shardNodes: 1, replicas: 1, flags: ["--http-listen", `127.0.0.1:${restPort}`] });
  },
  async (started) => {
    const client = await started.connect();
    const large = client.collection("large");
    await large.create({ vectors: { dimension: 2, metric: "l2" } });
    const payload = { text: "x".repeat(16 * 1024) };
    const points = range(0, count).map((id) => ({ id, vector: [id, 1], payload }));
    await large.upsertMany(points);
  },
);

function residentBytes(node: string, what: "VmHWM" | "VmRSS"): number {
  const status = readFileSync(`/proc/${cluster().pidOf(node)}/status`, "utf8");
  return Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024;
}

const nodes = ["router-0", "shard-0"];

/** A message of gRPC. */
function framed(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function call(session: ClientHttp2Session, method: string, more: Record<string, string> = {}) {
  const headers = { "content-type": "application/grpc", te: "trailers", ...more };
  const stream = session.request({ ":method": "POST", ":path": `/kith.v1.Points/${method}`, ...headers });
  stream.on("error", () => undefined);
  return stream;
}

/** Bytes by which the process that grew most has grown at its peak. */
async function growthOf(work: () => Promise<void>): Promise<number> {
  const before = nodes.map((node) => residentBytes(node, "VmRSS"));
  await work();
  return Math.max(...nodes.map((node, i) => residentBytes(node, "VmHWM") - (before[i] as number)));
}

test("a batch whose answers do not fit into one message is refused, and others are answered meanwhile", {
  timeout: 60_000,
}, async () => {
  const client = await cluster().connect();
  const large = client.collection("large");
  let slowestMs = 0;
  const grown = await growthOf(async () => {
    const query = { vector: [1, 1], limit: 1_900 };
    const refused = failureOf(large.queryBatch(range(0, 64).map(() => query)));
    let running = true;
    void refused.finally(() => (running = false));
    while (running) {
      const startMs = performance.now();
      await large.query({ vector: [1, 1], limit: 1, withPayload: false });
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    }
    expect(await refused).toMatchObject({ code: "BATCH_TOO_LARGE", message: /fewer queries or results/ });
  });
  // Far from what a busy machine adds: others waited 30 s where all was read first.
  expect(slowestMs).toBeLessThan(10_000);
  expect(grown).toBeLessThan(400 * mib);
  // What fits is answered.
  const answers = await large.queryBatch(range(0, 64).map(() => ({ vector: [1, 1], limit: 20 })));
  expect(answers.every(({ ok }) => ok)).toBe(true);
});

test("streams whose client does not read hold little, and nothing once it has gone", { timeout: 60_000 }, async () => {
  const client = await cluster().connect();
  const large = client.collection("large");
  await large.query({ vector: [1, 1], limit: 64 });
  const request = (requestId: number): Buffer => {
    const query = { collection: "large", vector: Float32Array.of(1, 1), limit: 64, select: { payload: true } };
    return framed(pb.QueryStreamRequest.encode(pb.QueryStreamRequest.fromPartial({ requestId, query })).finish());
  };
  const grown = await growthOf(async () => {
    const session = connectHttp2(`http://${cluster().target}`);
    session.on("error", () => undefined);
    const streams = [0, 1].map(() => {
      const stream = call(session, "QueryStream");
      for (let i = 1; i <= 1_024; i++) stream.write(request(i));
      return stream;
    });
    // The first answers fill the windows of the streams, and the others wait in the server.
    await eventually(() => streams.every((stream) => stream.readableLength > 0));
    for (let i = 0; i < 100; i++) await large.query({ vector: [1, 1], limit: 10 });
    session.destroy();
  });
  expect(grown).toBeLessThan(250 * mib);
  // Others are answered afterwards: what the streams held is no longer counted.
  await large.query({ vector: [1, 1], limit: 1_900 });
});

/** A small answer of each kind, by both doors; none is refused. */
async function askLittle(large: CollectionHandle): Promise<void> {
  const query = { vector: [1, 1], limit: 2 };
  await large.query({ ...query, withPayload: false });
  const outcomes = await large.queryBatch([query, query]);
  expect(outcomes.map(({ ok }) => ok)).toEqual([true, true]);
  await large.queryGroups({ vector: [1, 1], groupBy: "text", limit: 1, groupSize: 2 });
  expect(await large.get([1, 2])).toHaveLength(2);
  await large.scroll({ batch: 10 }).next();
  const select = { payload: true };
  const asked: [string, object][] = [
    ["query", { ...query, select }],
    ["query/batch", { queries: [query, { ...query, select }] }],
    ["query/groups", { query: { vector: [1, 1], select }, groupBy: "text", limit: 1, groupSize: 2 }],
    ["points/get", { ids: [1, 2], select }],
    ["points/scroll", { limit: 10, select }],
  ];
  for (const [path, body] of asked) {
    const url = `http://127.0.0.1:${restPort}/v1/collections/large/${path}`;
    const { status } = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    expect([path, status]).toEqual([path, 200]);
  }
}

test.each([
  [
    "gRPC",
    () => {
      const ids = range(0, 1_500).map((id) => ({ id: { $case: "num" as const, value: BigInt(id) } }));
      const get = pb.GetPointsRequest.fromPartial({ collection: "large", ids, select: { payload: true } });
      const session = connectHttp2(`http://${cluster().target}`);
      session.on("error", () => undefined);
      const stream = call(session, "Get", { "grpc-timeout": "3S" });
      stream.end(framed(pb.GetPointsRequest.encode(get).finish()));
      return { began: once(stream, "response"), destroy: () => session.destroy() };
    },
  ],
  [
    "gRPC in batches",
    () => {
      const query = { collection: "large", vector: Float32Array.of(1, 1), limit: 375, select: { payload: true } };
      const batch = pb.QueryBatchRequest.fromPartial({ queries: [query, query, query, query] });
      const session = connectHttp2(`http://${cluster().target}`);
      session.on("error", () => undefined);
      const stream = call(session, "QueryBatch", { "grpc-timeout": "3S" });
      stream.end(framed(pb.QueryBatchRequest.encode(batch).finish()));
      return { began: once(stream, "response"), destroy: () => session.destroy() };
    },
  ],
  [
    "REST",
    () => {
      const body = JSON.stringify({ vector: [1, 1], limit: 1_500, select: { payload: true } });
      const head = `POST /v1/collections/large/query HTTP/1.1\r\nhost: kith\r\nkith-timeout-ms: 3000\r\ncontent-length: ${body.length}\r\n\r\n`;
      const socket = connectTcp(restPort, "127.0.0.1").on("error", () => undefined);
      socket.write(head + body);
      // Not more is read than fits into the socket's buffer.
      return { began: once(socket, "readable"), destroy: () => socket.destroy() };
    },
  ],
])(
  "forty answers of 24 MB over %s that nobody reads are bounded, and others are answered",
  {
    timeout: 60_000,
  },
  async (_, ask) => {
    const client = await cluster().connect();
    const large = client.collection("large");
    // Small answers are not refused, not even once.
    const impatient = await cluster().connect({ retry: { attempts: 1 } });
    const alone = impatient.collection("large");
    const grown = await growthOf(async () => {
      const asked = range(0, 40).map(ask);
      await askLittle(alone);
      // An answer each, or a refusal when it has waited for room for half of its time.
      await Promise.all(asked.map(({ began }) => began));
      for (let i = 0; i < 5; i++) await askLittle(alone);
      for (const each of asked) each.destroy();
    });
    expect(grown).toBeLessThan(450 * mib);
    await eventually(async () => (await failureOf(large.query({ vector: [1, 1], limit: 1_900 }))) === undefined);
  },
);
