/** Fields, labels, payload keys and placeholders named like what every JavaScript object has: they are names as any other. */
import { expect, test } from "vitest";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startInProcess } from "../cluster/in-process.js";
import { rawCalls } from "../cluster/raw.js";

const names = ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf", "plain"];
const byName = <T>(value: (name: string, i: number) => T): Record<string, T> =>
  Object.fromEntries(names.map((name, i) => [name, value(name, i)]));

const cluster = useCluster(() => startInProcess());

test("collections, points and queries keep every name, also after a restart", { timeout: 60_000 }, async () => {
  const client = await cluster().connect();
  const collection = client.collection("names");
  const labels = byName((name) => `label ${name}`);
  await collection.create({ vectors: byName(() => ({ dimension: 1, metric: "l2" as const })), labels });
  expect(Object.entries((await collection.info()).labels).sort()).toEqual(Object.entries(labels).sort());

  await collection.update({ labels: { __proto__: "", constructor: "", added: "yes" } });
  await collection.update({ labels: Object.fromEntries([["__proto__", "again"]]), efSearch: { toString: 77 } });
  const { labels: updated, vectors } = await collection.info();
  expect(Object.entries(updated)).toContainEqual(["__proto__", "again"]);
  expect(Object.hasOwn(updated, "constructor")).toBe(false);
  expect(vectors.map(({ name, efSearch }) => [name, efSearch])).toEqual(
    names.map((name) => [name, name === "toString" ? 77 : 64]),
  );
  expect(await client.collections.list()).toHaveLength(1);

  const payload = JSON.parse('{"__proto__":"p","constructor":{"__proto__":3},"price":2}') as Record<string, unknown>;
  // By columns, by rows (unlike shapes), and over a stream.
  await collection.upsert({ id: 1, vectors: byName((_, i) => [i]), payload });
  await collection.upsert([
    { id: 2, vectors: Object.fromEntries([["__proto__", [20]]]), payload },
    { id: 3, vectors: { constructor: [30] }, payload },
    { id: 4, vectors: { plain: [40] }, payload },
  ]);
  const many = await collection.upsertMany([
    { id: 5, vectors: { constructor: [50] } },
    { id: 6, vectors: { plain: [60] } },
    { id: 7, vectors: Object.fromEntries([["__proto__", [70]]]) },
  ]);
  expect(many).toMatchObject({ upserted: 3, failed: 0 });

  const entries = (vectors: Record<string, Float32Array> | undefined): [string, number][] =>
    Object.entries(vectors ?? {})
      .map(([name, vector]): [string, number] => [name, vector[0] as number])
      .sort();
  const check = async (): Promise<void> => {
    const found = await collection.get([1, 2, 3, 5, 7], { withVectors: true });
    expect(found.map((point) => entries(point.vectors))).toEqual([
      names.map((name, i) => [name, i]).sort(),
      [["__proto__", 20]],
      [["constructor", 30]],
      [["constructor", 50]],
      [["__proto__", 70]],
    ]);
    expect(JSON.stringify(found[0]?.payload)).toBe(JSON.stringify(payload));
    for (const using of names) {
      const { points } = await collection.query({ vector: [0], using, limit: 1, withVectors: [using] });
      expect(points.map(({ id, vectors }) => [id, entries(vectors)])).toEqual([[1, [[using, names.indexOf(using)]]]]);
    }
    expect(await collection.count({ filter: { must: [{ key: "constructor.__proto__", match: { value: 3 } }] } })).toBe(
      4,
    );
    expect(await collection.count({ filter: { must: [{ key: "toString", match: { value: 3 } }] } })).toBe(0);
    expect(await client.collections.list()).toHaveLength(1);
  };
  await check();
  const [node] = cluster().shardNodes;
  await cluster().stop(node as string);
  await cluster().start(node as string);
  await check();
});

test("the API refuses a field that is not there, whatever it is called", async () => {
  const client = await cluster().connect();
  await client.collection("unnamed").create({ vectors: { dimension: 1, metric: "l2" } });
  const raw = rawCalls(cluster().target);
  try {
    for (const name of names) {
      const vectors = Object.fromEntries([
        ["", { values: Float32Array.of(1) }],
        [name, { values: Float32Array.of(1) }],
      ]);
      const point = {
        id: { id: { $case: "num" as const, value: 1n } },
        vectors,
        payload: Buffer.alloc(0),
        version: 0,
        expiresAtMs: 0,
      };
      const conditions = { expectedVersions: [], expiresAtMs: [], onlyIf: undefined };
      const upsert = raw.upsert({ collection: "unnamed", points: [point], mode: 0, options: undefined, ...conditions });
      await expect(upsert).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
      const update = client.collection("unnamed").update({ efSearch: Object.fromEntries([[name, 100]]) });
      await expect(update).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
    }
  } finally {
    raw.close();
  }
});

test("generated code keeps every key of a map", () => {
  const labels = byName((name) => name);
  const bytes = pb.CreateCollectionRequest.encode(pb.CreateCollectionRequest.fromPartial({ labels })).finish();
  expect(Object.entries(pb.CreateCollectionRequest.decode(bytes).labels)).toEqual(Object.entries(labels));
  const defaults = byName((_, value) => ({ value: { $case: "number" as const, value } }));
  const formula = pb.Formula.decode(pb.Formula.encode(pb.Formula.fromPartial({ defaults })).finish());
  expect(Object.keys(formula.defaults)).toEqual(names);
  expect(pb.UpdateCollectionRequest.fromPartial({}).efSearch["constructor"]).toBeUndefined();
});
