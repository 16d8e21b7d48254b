/**
 * One call can be followed through all processes: `trace: true` returns its steps as one tree, and with an OTLP exporter
 * the spans of client, router and shards share one trace, those of a write reach the replicas that apply it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import type { TraceSpan } from "../../libs/client/index.js";
import { setupTelemetry, type Telemetry } from "../../libs/telemetry/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { type ExportedSpan, startCollector } from "../cluster/otlp.js";
import { program, startProcesses } from "../cluster/processes.js";
import { dimension, type Payload, pointOf, range, vectorOf } from "../cluster/workload.js";

let collector: Awaited<ReturnType<typeof startCollector>>;
let telemetry: Telemetry;
const plain = useCluster(() => startProcesses({ shardNodes: 2, replicas: 1 }));
const exporting = useCluster(async () => {
  collector = await startCollector();
  return startProcesses({ shardNodes: 2, replicas: 2, env: collector.env });
});
beforeAll(async () => {
  telemetry = await setupTelemetry({
    ...systemRuntime,
    serviceName: "test",
    nodeId: "client",
    version: "0",
    env: collector.env,
  });
});
afterAll(async () => {
  await telemetry?.shutdown();
  await collector?.close();
});

test("trace: true returns one tree over client, router and every shard", { timeout: 60_000 }, async () => {
  const client = await plain().connect();
  const handle = client.collection<Payload>("traced");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 3 });
  await handle.upsert(range(0, 100).map((id) => pointOf(id, 1)));
  const { trace } = await handle.query({ vector: vectorOf(1, 1), limit: 5, trace: true });
  const byId = new Map(trace.map((span) => [span.spanId, span]));
  expect(byId.size, "ids are distinct").toBe(trace.length);
  const roots = trace.filter((span) => span.parentSpanId === "");
  expect(roots.map((span) => span.node)).toEqual(["client"]);
  const pathOf = (span: TraceSpan): string[] => {
    const above = byId.get(span.parentSpanId);
    if (above === undefined) expect(span.parentSpanId, `the parent of ${span.name}`).toBe("");
    return above === undefined ? [span.name] : [...pathOf(above), span.name];
  };
  const searches = trace.filter((span) => span.name === "index.search");
  expect(searches).toHaveLength(3);
  for (const search of searches) {
    const path = pathOf(search);
    expect(path).toContain("router.query");
    expect(path).toContain("router.ask_shard");
    expect(search.node).toMatch(/^shard-/);
  }
  expect(new Set(trace.map((span) => span.node))).toEqual(new Set(["client", "router-0", "shard-0", "shard-1"]));
  for (const span of trace) pathOf(span);
  expect((await handle.query({ vector: vectorOf(1, 1), limit: 5 })).trace).toEqual([]);
});

test("exported spans of a query and of a write share one trace across the processes", { timeout: 60_000 }, async () => {
  const client = await exporting().connect({ tracing: true });
  const handle = client.collection<Payload>("exported");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  await handle.upsert(pointOf(1, 1), { ack: "all" });
  await handle.query({ vector: vectorOf(1, 1), limit: 1 });

  const named = (name: string): ExportedSpan[] => collector.spans.filter((span) => span.name === name);
  const traceOf = (name: string): string => {
    expect(named(name).length, name).toBeGreaterThan(0);
    // The last one: calls to the other cluster leave spans of the client alone.
    return (named(name).at(-1) as ExportedSpan).traceId;
  };
  await eventually(() => {
    const query = traceOf("kith.client.query");
    const inQuery = collector.spans.filter((span) => span.traceId === query);
    expect(inQuery.map((span) => span.name)).toEqual(
      expect.arrayContaining(["kith.client.query", "router.query", "router.ask_shard", "index.search"]),
    );
    const ids = new Set(inQuery.map((span) => span.spanId));
    for (const span of inQuery) if (span.parentSpanId) expect(ids.has(span.parentSpanId), span.name).toBe(true);
  });
  await eventually(() => {
    const write = traceOf("kith.client.upsert");
    const inWrite = collector.spans.filter((span) => span.traceId === write);
    expect(inWrite.map((span) => span.name)).toEqual(
      expect.arrayContaining(["kith.client.upsert", "router.upsert", "log.append"]),
    );
    // Each replica applies by itself, later: below the append, or linked to the write.
    const applied = named("replica.apply").filter(
      (span) => span.traceId === write || span.links?.some((link) => link.traceId === write),
    );
    expect(new Set(applied.map((span) => span.node))).toEqual(new Set(["shard-0", "shard-1"]));
  });
});

/** Runs the program's search with a trace, in a process of its own. */
async function searchOf(
  name: string,
  env: Record<string, string>,
): Promise<{ out: string; err: string; traceId: string }> {
  const vector = JSON.stringify([...vectorOf(1, 1)]);
  const args = ["search", name, "--vector", vector, "--limit", "1", "--trace", "--target", exporting().target];
  const child = spawn(process.execPath, [program, ...args], { env: { PATH: process.env["PATH"], ...env } });
  let out = "";
  let err = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  const [code] = (await once(child, "close")) as [number];
  expect(code, err).toBe(0);
  return { out, err, traceId: /^trace id ([0-9a-f]{32})$/m.exec(out)?.[1] ?? "" };
}

test("the command line prints the trace's id, and exports its own span where it is told to", {
  timeout: 60_000,
}, async () => {
  const client = await exporting().connect();
  const handle = client.collection<Payload>("asked");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  await handle.upsert(pointOf(1, 1), { ack: "all" });
  const namesOf = (traceId: string): string[] =>
    collector.spans.filter((span) => span.traceId === traceId).map(({ name }) => name);
  const alone = await searchOf("asked", {});
  const exported = await searchOf("asked", collector.env);
  expect([alone.err, exported.err].join("")).not.toMatch(/warning/);
  await eventually(() => {
    expect(namesOf(alone.traceId)).toEqual(expect.arrayContaining(["router.query", "index.search"]));
    expect(namesOf(alone.traceId)).not.toContain("kith.client.query");
    expect(namesOf(exported.traceId)).toEqual(expect.arrayContaining(["kith.client.query", "router.query"]));
  });
  const away = { ...collector.env, OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" };
  const { err, traceId } = await searchOf("asked", away);
  expect(traceId).toMatch(/^[0-9a-f]{32}$/);
  expect(err.match(/warning: telemetry: .*ECONNREFUSED/g)).toHaveLength(1);
});
