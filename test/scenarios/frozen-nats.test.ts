/** NATS hangs (SIGSTOP): its connections stay open and nothing answers. What needs it says so within ten seconds; reads go on. */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 1, replicas: 1 }));

/** From the call to its answer: ten seconds, and room for a machine that does other things too. Deadlines are a minute. */
const answeredWithinMs = 30_000;

interface Answer {
  code: string;
  message: string;
  ms: number;
}

async function answerOf(work: Promise<unknown>): Promise<Answer> {
  const startMs = performance.now();
  return work.then(
    () => ({ code: "done", message: "", ms: performance.now() - startMs }),
    ({ code, message }: { code: string; message: string }) => ({ code, message, ms: performance.now() - startMs }),
  );
}

const needing: Record<string, (client: KithClient, handle: CollectionHandle) => Promise<unknown>> = {
  create: (client) => client.collection("new").create({ vectors: { dimension: 2, metric: "l2" } }),
  update: (_, handle) => handle.update({ labels: { a: "b" } }),
  drop: (client) => client.collection("other").drop(),
  "create an index": (_, handle) => handle.createPayloadIndex("a", "keyword"),
  "drop an index": (_, handle) => handle.dropPayloadIndex("indexed"),
  "add a field": (_, handle) => handle.addVectorField("more", { dimension: 2, metric: "l2" }),
  "drop a field": (_, handle) => handle.dropVectorField("b"),
  "create an alias": (client) => client.aliases.create("short", "frozen"),
  rename: (client) => client.collection("other").rename("another"),
  "cancel an operation": (client) => client.cluster.cancelOperation("create-1"),
  upsert: (_, handle) => handle.upsert({ id: 2, vectors: { a: [1, 2] } }),
  delete: (_, handle) => handle.delete(1),
  "delete by filter": (_, handle) => handle.delete({ filter: "n > 1" }),
  "set payload": (_, handle) => handle.setPayload([1], { a: 1 }),
  "linearizable read": (_, handle) => handle.count({ consistency: "linearizable" }),
};

test("calls that need NATS end as LOG_UNAVAILABLE, at first and later, and all others go on", {
  timeout: 120_000,
}, async () => {
  const client = await cluster().connect({ retry: { attempts: 1 }, deadlineMs: 60_000 });
  const handle = client.collection("frozen");
  await handle.create({ vectors: { a: { dimension: 2, metric: "l2" }, b: { dimension: 2, metric: "l2" } } });
  await handle.createPayloadIndex("indexed", "keyword");
  await client.collection("other").create({ vectors: { dimension: 2, metric: "l2" } });
  await handle.upsert({ id: 1, vectors: { a: [1, 2] } });
  cluster().signalNats("SIGSTOP");
  try {
    const askAll = async (): Promise<void> => {
      const names = Object.keys(needing);
      const answers = await Promise.all(
        names.map((name) => answerOf((needing[name] as (typeof needing)[string])(client, handle))),
      );
      const codes = Object.fromEntries(names.map((name, i) => [name, answers[i]?.code]));
      expect(codes).toEqual(Object.fromEntries(names.map((name) => [name, "LOG_UNAVAILABLE"])));
      for (const { ms, message } of answers) {
        expect(ms).toBeLessThan(answeredWithinMs);
        expect(message).not.toMatch(/\n|remote_addr/);
      }
    };
    await askAll();
    // The nodes' records are not renewed: they count as down, which is no reason to say that there are too few of them.
    await eventually(async () => {
      const { nodes } = await client.cluster.describe();
      expect(new Set(nodes.map(({ state }) => state))).toEqual(new Set(["down"]));
    }, 40_000);
    await askAll();
    expect(await handle.count({ consistency: "none" })).toBe(1);
    expect((await client.collections.list()).map(({ name }) => name)).toContain("frozen");
    expect(await client.cluster.operations()).toBeInstanceOf(Array);
  } finally {
    cluster().signalNats("SIGCONT");
  }
  await eventually(() => handle.upsert({ id: 3, vectors: { a: [1, 2] } }), 30_000);
  await eventually(() => client.collection("new-again").create({ vectors: { dimension: 2, metric: "l2" } }), 30_000);
});
