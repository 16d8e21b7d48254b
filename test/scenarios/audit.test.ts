/**
 * What is kept of calls: the audit log has who did what, and neither it nor logs, traces and the list of slow queries have a key, a value of a
 * payload, or a vector. And what a caller may do in a second.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { createLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";

const adminKey = "an-administrator-of-this-test-alone";
/** In payloads, ids and filters; and a number that stands in vectors alone. */
const marker = "zq7-marker";
const component = 0.7310585975646973;

let folder: string;
let node: RunningNode;
let admin: KithClient;
const logged: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-audited-"));
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId: "n", roles: ["router", "shard", "coordinator"], data: join(folder, "data"), listen: { port: 0 } },
      ...{ drainTimeoutMs: 200, slowQueryMs: 1, logLevel: "debug" },
      auth: { adminKey, audit: { file: join(folder, "audit"), readSample: 1 } },
    },
  });
  const write = (line: string): number => logged.push(line);
  node = await startNode(config, {
    version: "test",
    logger: (onRecord) => createLogger({ level: "debug", nodeId: "n", write, onRecord }),
  });
  admin = await connect(node.address, { apiKey: adminKey });
});
afterAll(async () => {
  admin.close();
  await node.close();
  await rm(folder, { recursive: true, force: true });
});

async function audit(): Promise<Record<string, string>[]> {
  const text = await readFile(join(folder, "audit"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, string>);
}

test("who did what is kept, and nothing of what was written, asked or shown", async () => {
  const rows = admin.collection("rows");
  await rows.create({ vectors: { dimension: 2, metric: "l2" } });
  await admin.aliases.create("other", "rows");
  const { key, secret } = await admin.keys.create("page", { role: "reader" });
  const payload = { title: marker, list: [marker] };
  const vector = [component, 1];
  await rows.upsert({ id: marker, vector, payload });
  await rows.setPayload([marker], { more: marker });
  const filter = `title = "${marker}"`;
  const { trace } = await rows.query({
    vector,
    filter,
    trace: true,
    explain: true,
    withPayload: true,
    withVectors: true,
  });
  const reader = await connect(node.address, { apiKey: secret });
  await reader.collection("other").query({ vector, filter, limit: 1 });
  await reader.collection("other").count({ filter });
  const wrong: Promise<unknown>[] = [
    reader.collection("rows").upsert({ id: marker, vector, payload }),
    reader.collection("absent").query({ vector, filter }),
    reader.keys.list(),
    rows.upsert({ id: marker, vector: [component], payload }),
    rows.upsert({ id: marker, vector: [Number.NaN, component], payload }),
    rows.query({ vector, filter: { must: [{ key: "title", match: { wrong: marker } }] } }),
    rows.scroll({ filter, orderBy: `${marker}[` }).next(),
    rows.setPayload([`${marker}-2`], payload),
    rows.query({ vector, query: { recommend: { positive: [marker] } } }),
    rows.query({ vector, limit: 1_000_000, filter }),
    connect(node.address, { apiKey: `${secret}x` }),
  ];
  await Promise.allSettled(wrong);
  reader.close();
  const caller = `key ${key.id} ("page")`;
  // Lines are written behind the answers.
  const entries = await eventually(async () => {
    const written = await audit();
    expect(written).toContainEqual(
      expect.objectContaining({
        caller: "bootstrap",
        verb: "write",
        call: "kith.v1.Points/UpsertColumns",
        collection: "rows",
        outcome: "OK",
      }),
    );
    expect(written).toContainEqual(
      expect.objectContaining({ caller, verb: "read", collection: "rows", asked: "other", outcome: "OK" }),
    );
    expect(written).toContainEqual(expect.objectContaining({ caller, verb: "write", outcome: "PERMISSION_DENIED" }));
    expect(written).toContainEqual(
      expect.objectContaining({ caller, asked: "absent", outcome: "COLLECTION_NOT_FOUND" }),
    );
    expect(written).toContainEqual(
      expect.objectContaining({ caller: "bootstrap", verb: "keys", call: "kith.v1.Keys/Create" }),
    );
    expect(written).toContainEqual(expect.objectContaining({ caller: "unknown", outcome: "UNAUTHENTICATED" }));
    expect(written).toContainEqual(
      expect.objectContaining({ caller, call: "kith.v1.Keys/List", outcome: "PERMISSION_DENIED" }),
    );
    return written;
  });
  for (const entry of entries) expect(entry["source"]).toMatch(/^127\.0\.0\.1:\d+$/);
  const slow = await admin.cluster.slowQueries();
  expect(trace?.length).toBeGreaterThan(0);
  const kept = {
    audit: JSON.stringify(entries),
    logs: logged.join("\n"),
    traces: JSON.stringify(trace),
    slow: JSON.stringify(slow),
  };
  for (const [where, text] of Object.entries(kept)) {
    for (const secretText of [marker, "0.7310585", "0.731058", secret.slice(-43), adminKey]) {
      const at = text.indexOf(secretText);
      expect([where, at < 0 ? "" : text.slice(Math.max(0, at - 200), at + 60)]).toEqual([where, ""]);
    }
  }
});

test("a caller has what its key allows in a second, and the rest a moment later", async () => {
  await admin.roles.put({
    name: "slow",
    rules: [{ verbs: ["read"], collections: ["*"] }],
    limits: { requestsPerSecond: 1_000, concurrentQueries: 500 },
  });
  const limits = { requestsPerSecond: 3 };
  const { key, secret } = await admin.keys.create("slow", { role: "slow", limits });
  expect(key.limits).toEqual(limits);
  const client = await connect(node.address, { apiKey: secret, retry: { attempts: 1 } });
  const codes = await Promise.all(
    Array.from({ length: 8 }, () =>
      client.collections.list().then(
        () => "in",
        ({ code, retryAfterMs }: { code: string; retryAfterMs: number }) => (retryAfterMs > 0 ? code : "no time"),
      ),
    ),
  );
  // The connection was the first.
  expect(codes.filter((code) => code === "in").length).toBeLessThanOrEqual(3);
  expect(codes).toContain("RESOURCE_EXHAUSTED");
  client.close();
  const patient = await connect(node.address, { apiKey: secret });
  await expect(Promise.all([patient.collections.list(), patient.collections.list()])).resolves.toHaveLength(2);
  patient.close();
});
