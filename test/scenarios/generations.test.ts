/**
 * The datatype of a vector field is changed while queries and writes go on, a shard node is killed with -9 while it builds, and the change is taken
 * back. No query fails, and what is found afterwards is what was written.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, GenerationInfo } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { program, startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, range, vectorOf } from "../cluster/workload.js";

const replicas = 2;
/** Enough for a graph, and for a build that can be hit. */
const filled = 5_000;
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas }));

async function kith(args: readonly string[]): Promise<string> {
  const env = { ...process.env, KITH_TARGET: cluster().target };
  return (await promisify(execFile)(process.execPath, [program, ...args], { env })).stdout;
}

async function stateOf(handle: CollectionHandle): Promise<GenerationInfo["state"][]> {
  return (await handle.listGenerations()).map(({ state }) => state);
}

test("a datatype is changed and changed back under queries, writes and a kill -9", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection("films");
  await handle.create({ vectors: { dimension, metric: "l2" }, replicas });
  for (let from = 0; from < filled; from += 1_000) {
    await handle.upsert(range(from, 1_000).map((id) => ({ id, vector: vectorOf(id, 1) })));
  }
  let isBusy = true;
  let queries = 0;
  let written = filled;
  const asking = (async (): Promise<void> => {
    for (; isBusy; queries++) {
      const id = (queries * 7) % filled;
      const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 3, consistency: "none" });
      expect(points[0]?.id).toBe(id);
      await sleep(systemClock, 10);
    }
  })();
  const writing = (async (): Promise<void> => {
    while (isBusy) {
      const ids = range(written, 10);
      const failure = await failureOf(handle.upsert(ids.map((id) => ({ id, vector: vectorOf(id, 1) }))));
      if (failure === undefined) written += ids.length;
      else expect(failure.retryable).toBe(true);
      // Slowly enough for a build beside on a machine that has much else to do.
      await sleep(systemClock, 60);
    }
  })();

  const refusals = [
    [{ datatype: "binary" }, "INVALID_SCHEMA"],
    [{ m: 1 }, "INVALID_SCHEMA"],
    [{ datatype: "i8", minRecall: 1.5 }, "INVALID_ARGUMENT"],
    [{ datatype: "i8", minRecall: Number.NaN }, "INVALID_ARGUMENT"],
    [{ autoRecall: 0.9999 }, "LIMIT_OUT_OF_RANGE"],
    [{ autoRecall: 0.95, datatype: "i8" }, "INVALID_ARGUMENT"],
  ] as const;
  for (const [options, code] of refusals) {
    expect(await failureOf(handle.alterVectorField("", options)), JSON.stringify(options)).toMatchObject({ code });
  }
  expect(await failureOf(handle.alterVectorField("no", { m: 8 }))).toMatchObject({ code: "UNKNOWN_VECTOR" });
  const both = { index: "body" };
  expect(await failureOf(handle.dropGeneration("no", both))).toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(await stateOf(handle)).toEqual(["answering"]);

  // With so few links it misses some: it is whole, and does not answer.
  const poor = { m: 4, efConstruction: 8, minRecall: 1 };
  const refusal = await failureOf(handle.alterVectorField("", { ...poor, wait: true }));
  expect(refusal).toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(refusal?.message).toMatch(/recall@10 is 0\.\d{4}, measured with \d+ queries; it must be 1\.0000/);
  expect(await stateOf(handle)).toEqual(["answering", "refused"]);
  expect(await failureOf(handle.promoteGeneration())).toMatchObject({ code: "FAILED_PRECONDITION" });
  await handle.dropGeneration();

  const { generation } = await handle.alterVectorField("", { datatype: "i8" });
  expect(generation).toBe(2);
  expect(await failureOf(handle.alterVectorField("", { datatype: "f16" }))).toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringContaining("is being built") as string,
  });
  const [victim] = cluster().shardNodes as [string];
  await cluster().kill(victim);
  await cluster().start(victim);
  await handle.alterVectorField("", { datatype: "i8", wait: true });
  expect(await stateOf(handle)).toEqual(["answering", "kept"]);
  expect((await handle.info()).vectors[0]).toMatchObject({ datatype: "i8" });

  // Both are asked some of the queries.
  const shadow = await eventually(async () => {
    const kept = (await handle.listGenerations()).find(({ state }) => state === "kept");
    expect(kept?.shadow?.samples ?? 0).toBeGreaterThanOrEqual(5);
    return kept?.shadow;
  }, 30_000);
  expect(shadow).toMatchObject({ k: 3 });
  expect(shadow?.overlap).toBeGreaterThan(0.5);
  expect(Math.min(shadow?.searchUs ?? 0, shadow?.baselineUs ?? 0)).toBeGreaterThan(0);
  const { stdout } = await promisify(execFile)(process.execPath, [program, "generation", "compare", "films"], {
    env: { ...process.env, KITH_TARGET: cluster().target },
  });
  expect(stdout).toMatch(/generation 0 beside 2, \d+ queries: overlap@3 0\.\d{4}|overlap@3 1\.0000/);

  await handle.rollbackGeneration();
  expect((await handle.info()).vectors[0]).toMatchObject({ datatype: "f32" });
  await handle.dropGeneration();
  expect(await failureOf(handle.rollbackGeneration())).toMatchObject({ code: "FAILED_PRECONDITION" });
  isBusy = false;
  await Promise.all([asking, writing]);
  expect(queries).toBeGreaterThan(10);
  await eventually(() => compareDigests(client, replicas), 60_000);
  expect(await handle.count({ consistency: "linearizable" })).toBeGreaterThanOrEqual(written);
  expect(await stateOf(handle)).toEqual(["answering"]);
});

test("codes of four bits become product codes, which outlive a kill -9, and are taken back", {
  timeout: 120_000,
}, async () => {
  const handle = (await cluster().connect()).collection("coded");
  await handle.create({ vectors: { dimension, metric: "l2", datatype: "i4" }, shards: 1, replicas });
  for (let from = 0; from < filled; from += 1_000) {
    await handle.upsert(
      range(from, 1_000).map((id) => ({ id, vector: vectorOf(id, 1), payload: { even: id % 2 === 0 } })),
    );
  }
  const isFound = async (): Promise<void> => {
    for (const id of [0, 40, 1_234, filled - 2]) {
      const asked = { vector: vectorOf(id, 1), limit: 5, filter: "even = true" } as const;
      const [first, ...others] = (await handle.query(asked)).points;
      expect(first).toMatchObject({ id, score: 0 });
      for (const other of others) expect(Number(other.id) % 2).toBe(0);
    }
  };
  await isFound();
  await handle.alterVectorField("", { datatype: "pq16", minRecall: 0.9, wait: true });
  expect((await handle.info()).vectors[0]).toMatchObject({ datatype: "pq16" });
  await isFound();
  const vector = vectorOf(40, 1);
  const told = JSON.stringify((await handle.query({ vector, limit: 5, explain: true })).explain);
  expect(told).toContain('"datatype":"pq16","generation":1,"rescored":"yes","originals":"mapped file"');
  const asked = ["search", "coded", "--vector", JSON.stringify([...vector]), "--explain"];
  expect(await kith(asked)).toMatch(/datatype=pq16 +generation=1 +rescored=yes +originals="mapped file"/);
  for (const node of cluster().shardNodes) {
    await cluster().kill(node);
    await cluster().start(node);
  }
  await eventually(isFound, 60_000);
  expect(await stateOf(handle)).toEqual(["answering", "kept"]);
  await handle.rollbackGeneration();
  expect((await handle.info()).vectors[0]).toMatchObject({ datatype: "i4" });
  await isFound();
});

test("a datatype is picked by the data, and the collection says which and why", { timeout: 120_000 }, async () => {
  const handle = (await cluster().connect()).collection("picked");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  await handle.upsert(range(0, 500).map((id) => ({ id, vector: vectorOf(id, 1) })));
  const few = await failureOf(handle.alterVectorField("", { autoRecall: 0.9 }));
  expect(few).toMatchObject({ code: "FAILED_PRECONDITION", message: expect.stringContaining("too few") as string });
  await handle.upsert(range(500, 700).map((id) => ({ id, vector: vectorOf(id, 1) })));
  const { collection } = await handle.alterVectorField("", { autoRecall: 0.9, wait: true });
  const [choice] = collection.choices;
  expect(choice).toMatchObject({ field: "", recall: 0.9, rowCount: 1_100 });
  expect(choice?.trials.map(({ datatype }) => datatype)).toEqual(["f32", "f16", "i8", "i4"]);
  expect(choice?.reason).toMatch(
    /^the least memory \(\d+ bytes a vector\) with recall@10 of [01]\.\d{4} at a beam of \d+/,
  );
  const info = await handle.info();
  expect(info).toMatchObject({ recallTarget: 0.9, choices: [choice], vectors: [{ datatype: choice?.datatype }] });
  expect(await kith(["collection", "describe", "picked"])).toContain(
    `picked ${choice?.datatype} for the unnamed vector for a recall of 0.9`,
  );
});

test("a collection that was made so picks its datatype by itself", { timeout: 120_000 }, async () => {
  const handle = (await cluster().connect()).collection("by-itself");
  const refusals = [
    [{ autoRecall: 0.3 }, "LIMIT_OUT_OF_RANGE", "0.5..0.999"],
    [{ autoRecall: 0.9, datatype: "i8" }, "INVALID_SCHEMA", "the datatype i8"],
    [{ autoRecall: 0.9, originals: true }, "INVALID_SCHEMA", "originals"],
    [{ autoRecall: 0.9, multivector: "maxSim" }, "INVALID_SCHEMA", "matrices"],
  ] as const;
  for (const [spec, code, message] of refusals) {
    const refused = await failureOf(handle.create({ vectors: { dimension, metric: "l2", ...spec } }));
    expect(refused).toMatchObject({ code, message: expect.stringContaining(message) as string });
  }
  await kith([
    "collection",
    "create",
    "by-itself",
    "-d",
    String(dimension),
    "-m",
    "l2",
    "--auto",
    "0.9",
    "--links",
    "8",
  ]);
  expect((await handle.info()).vectors).toMatchObject([{ datatype: "f32", autoRecall: 0.9 }]);
  expect(await kith(["collection", "describe", "by-itself"])).toContain(
    "the datatype of the unnamed vector is to be picked for a recall of 0.9, once there are 10,000 vectors",
  );
  for (let from = 0; from < 10_000; from += 2_000) {
    await handle.upsert(range(from, 2_000).map((id) => ({ id, vector: vectorOf(id, 1) })));
  }
  const picked = await eventually(async () => {
    const { choices, vectors, recallTarget } = await handle.info();
    expect(vectors[0]).not.toHaveProperty("autoRecall");
    expect(vectors[0]?.datatype).toBe(choices[0]?.datatype);
    expect(recallTarget).toBe(0.9);
    return choices[0];
  }, 90_000);
  expect(picked).toMatchObject({ field: "", recall: 0.9, rowCount: 8_000 });
  expect(await kith(["collection", "describe", "by-itself"])).toContain(
    `picked ${picked?.datatype} for the unnamed vector for a recall of 0.9`,
  );
});
