/**
 * Writes of parts of points through the public API, on several shards with two replicas: by ids and by filter, under conditions, in
 * batches, and repeated under their keys; random ones against a model, with shards killed in between, end equal on all replicas.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient, WriteTarget } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers, restartShards } from "../cluster/drivers.js";
import { compareDigests, failureOf, range } from "../cluster/workload.js";

type Payload = Record<string, unknown>;

const vectors = { text: { dimension: 2, metric: "l2" as const }, image: { dimension: 2, metric: "l2" as const } };
const point = (id: number): { id: number; vectors: { text: number[] }; payload: Payload } => {
  return { id, vectors: { text: [id, 1] }, payload: { n: id, even: id % 2 === 0 } };
};

type Step =
  | { op: "setPayload" | "overwritePayload"; by: "ids" | "filter"; ids: number[]; value: number }
  | {
      op: "deletePayload" | "clearPayload" | "delete" | "deleteVectors";
      by: "ids" | "filter";
      ids: number[];
      value: number;
    }
  | { op: "upsert" | "updateVectors"; by: "ids"; ids: number[]; value: number }
  | { op: "restart"; by: "ids"; ids: number[]; value: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      op: fc.constantFrom("setPayload", "overwritePayload", "deletePayload", "clearPayload", "delete", "deleteVectors"),
      by: fc.constantFrom("ids", "ids", "filter"),
      ids: fc.uniqueArray(fc.nat(30), { minLength: 1, maxLength: 8 }),
      value: fc.nat(3),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constantFrom("upsert", "updateVectors"),
      by: fc.constant("ids"),
      ids: fc.uniqueArray(fc.nat(30), { minLength: 1, maxLength: 8 }),
      value: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ op: "restart", by: "ids", ids: [], value: 0 }) },
);

interface Held {
  payload: Payload;
  vectors: Record<string, number[]>;
}

async function run(handle: CollectionHandle, model: Map<number, Held>, each: Step): Promise<void> {
  const { op, by, ids, value } = each;
  const target: WriteTarget = by === "ids" ? ids : { filter: `v = ${value}` };
  const chosen = by === "ids" ? ids : [...model].flatMap(([id, { payload }]) => (payload["v"] === value ? [id] : []));
  const there = chosen.filter((id) => model.has(id));
  const change = (write: (held: Held, id: number) => void): void => {
    for (const id of there) write(model.get(id) as Held, id);
  };
  const check = ({ affected, errors }: { affected: number; errors: { index: number; code: string }[] }): void => {
    expect(affected).toBe(there.length);
    const missing = ids.flatMap((id, index) => (model.has(id) ? [] : [{ index, code: "POINT_NOT_FOUND" }]));
    expect(errors).toMatchObject(by === "ids" ? missing : []);
  };
  switch (op) {
    case "upsert":
      await handle.upsert(ids.map((id) => ({ id, vectors: { text: [id, value] }, payload: { v: value } })));
      for (const id of ids) model.set(id, { payload: { v: value }, vectors: { text: [id, value] } });
      return;
    case "updateVectors":
      check(await handle.updateVectors(ids.map((id) => ({ id, vectors: { image: [value, id] } }))));
      change((held, id) => (held.vectors["image"] = [value, id]));
      return;
    case "setPayload":
      check(await handle.setPayload(target, { v: value, [`k${value}`]: [value] }));
      change((held) => Object.assign(held.payload, { v: value, [`k${value}`]: [value] }));
      return;
    case "overwritePayload":
      check(await handle.overwritePayload(target, { v: (value + 1) % 4 }));
      change((held) => (held.payload = { v: (value + 1) % 4 }));
      return;
    case "deletePayload":
      check(await handle.deletePayload(target, [`k${value}`, "nothing.at.all"]));
      change((held) => delete held.payload[`k${value}`]);
      return;
    case "clearPayload":
      check(await handle.clearPayload(target));
      change((held) => (held.payload = {}));
      return;
    case "deleteVectors":
      check(await handle.deleteVectors(target, "image"));
      change((held) => delete held.vectors["image"]);
      return;
    case "delete":
      expect((await handle.delete(target)).deleted).toBe(there.length);
      for (const id of there) model.delete(id);
      return;
    default:
      throw new Error(`${op} is no write`);
  }
}

onBothDrivers(
  { processes: { shardNodes: 2, replicas: 2 }, inProcess: { shardNodes: 2, replicas: 2 } },
  (start, driver) => {
    let client: KithClient;
    const cluster = useCluster(start, async (started) => {
      client = await started.connect();
    });

    async function filled(name: string, count = 20): Promise<CollectionHandle> {
      const handle = client.collection(name);
      await handle.create({ vectors, shards: 3, replicas: 2 });
      await handle.upsert(range(0, count).map(point));
      return handle;
    }

    async function payloadsOf(handle: CollectionHandle): Promise<Map<number, unknown>> {
      const found = new Map<number, unknown>();
      for await (const { id, payload } of handle.scroll()) found.set(Number(id), payload);
      return found;
    }

    test("by filter a write reaches the points of all shards, and later filters see it", async () => {
      const handle = await filled("by-filter");
      expect(await handle.setPayload({ filter: "even = true" }, { price: 5 }, { path: "offer" })).toMatchObject({
        affected: 10,
        errors: [],
      });
      expect(await handle.count({ filter: "offer.price = 5" })).toBe(10);
      expect(await handle.delete({ filter: "offer.price = 5" }, { onlyIf: "n > 9" })).toMatchObject({ deleted: 5 });
      expect(await handle.deletePayload({ filter: "exists(offer)" }, "offer")).toMatchObject({ affected: 5 });
      expect(await handle.count()).toBe(15);
      expect((await payloadsOf(handle)).get(4)).toEqual({ n: 4, even: true });
      await eventually(() => compareDigests(client, 2));
    });

    test("conditions are decided point by point, and a write under a key takes effect once", async () => {
      const handle = await filled("conditions", 4);
      const [first] = await handle.get([1]);
      const expectedVersion = [first?.version ?? 0, 999_999];
      expect(await handle.overwritePayload([1, 2], { n: 10 }, { expectedVersion })).toMatchObject({
        affected: 1,
        errors: [{ index: 1, code: "VERSION_MISMATCH" }],
      });
      expect(await handle.setPayload([1, 3, 77], { x: 1 }, { onlyIf: "n < 5" })).toMatchObject({
        affected: 1,
        errors: [
          { index: 0, code: "CONDITION_FAILED" },
          { index: 2, code: "POINT_NOT_FOUND" },
        ],
      });
      const conditional = { ...point(3), payload: { n: 30 }, expectedVersion: 999_999 };
      expect(await handle.upsert([conditional, point(50)])).toMatchObject({
        upserted: 1,
        errors: [{ index: 0, code: "VERSION_MISMATCH" }],
      });
      expect(await handle.upsert(point(2), { onlyIf: "n = 99" })).toMatchObject({
        upserted: 0,
        errors: [{ index: 0, code: "CONDITION_FAILED" }],
      });
      const once = { idempotencyKey: "once" };
      expect(await handle.delete({ filter: "n < 3" }, once)).toMatchObject({ deleted: 2 });
      await handle.upsert(range(0, 3).map(point));
      expect(await handle.delete({ filter: "n < 3" }, once)).toMatchObject({ deleted: 2 });
      expect(await handle.count({ filter: "n < 3" })).toBe(3);
    });

    test("the writes of a batch see each other in order, and each has its own answer", async () => {
      const handle = await filled("batch");
      const operations = [
        { op: "upsert", points: { ...point(100), payload: { tag: "new" } } },
        { op: "setPayload", target: { filter: 'tag = "new"' }, payload: { seen: true } },
        { op: "updateVectors", points: [{ id: 100, vectors: { image: [9, 9] } }] },
        { op: "delete", target: { filter: "seen = true" }, onlyIf: "not exists(tag)" },
        { op: "clearPayload", target: [0, 555] },
        { op: "deleteVectors", target: 100, vectors: "text" },
        { op: "delete", target: [1, 2] },
        { op: "setExpiry", target: 3, expiresAt: null },
        { op: "overwritePayload", target: 3, payload: { ["__proto__"]: 1, n: 3 } },
        { op: "deletePayload", target: 4, paths: ["n"] },
      ] as const;
      const batch = await handle.writeBatch(operations, { idempotencyKey: "a batch" });
      expect(batch.results).toMatchObject([
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 0 } },
        { ok: true, result: { affected: 1, errors: [{ index: 1, code: "POINT_NOT_FOUND" }] } },
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 2 } },
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 1 } },
        { ok: true, result: { affected: 1 } },
      ]);
      const [found] = await handle.get([100], { withVectors: true });
      expect(found).toMatchObject({ payload: { tag: "new", seen: true } });
      expect(Object.keys(found?.vectors ?? {})).toEqual(["image"]);
      const before = await payloadsOf(handle);
      expect((await handle.writeBatch(operations, { idempotencyKey: "a batch" })).results).toEqual(batch.results);
      expect(await payloadsOf(handle)).toEqual(before);
      await eventually(() => compareDigests(client, 2));
    });

    test("what is wrong is refused before anything is written, and the error names the place", async () => {
      const handle = await filled("wrong", 3);
      const before = await payloadsOf(handle);
      const wrong: [() => Promise<unknown>, string, RegExp][] = [
        [
          () => handle.setPayload(1, { a: 1 }, { path: "a..b" }),
          "INVALID_ARGUMENT",
          /^path: the path "a\.\.b" is not valid/,
        ],
        [() => handle.deletePayload(1, ["a", "[]"]), "INVALID_ARGUMENT", /^paths\[1\]: /],
        [() => handle.deletePayload(1, []), "LIMIT_OUT_OF_RANGE", /paths: there are 0/],
        [() => handle.deleteVectors(1, "sound"), "UNKNOWN_VECTOR", /sound/],
        [() => handle.delete({ filter: "n >" }), "INVALID_FILTER", /./],
        [() => handle.delete([1, 1]), "DUPLICATE_ID", /ids\[1\]/],
        [() => handle.setPayload([], { a: 1 }), "INVALID_ARGUMENT", /no ids/],
        [
          () => handle.setPayload([1, 2], { a: 1 }, { expectedVersion: 3 }),
          "INVALID_ARGUMENT",
          /target\.expected_versions: there are 1/,
        ],
        [
          () => handle.delete({ filter: "n = 1" }, { expectedVersion: [3] }),
          "INVALID_ARGUMENT",
          /expected_versions: versions are expected/,
        ],
        [() => handle.setExpiry(1, 1e15), "INVALID_ARGUMENT", /expires_at_ms: 1000000000000000 is too late/],
        [() => handle.writeBatch([]), "INVALID_ARGUMENT", /no operations/],
        [
          () =>
            handle.writeBatch([
              { op: "clearPayload", target: 1 },
              { op: "setPayload", target: 2, payload: {}, path: "]" },
            ]),
          "INVALID_ARGUMENT",
          /operations\[1\]\.set_payload\.path: /,
        ],
      ];
      for (const [call, code, message] of wrong) {
        const error = await failureOf(call());
        expect([error?.code, error?.message]).toEqual([code, expect.stringMatching(message)]);
      }
      const mistyped = { ifOnly: "n = 1" } as object;
      await expect(handle.setPayload(1, { a: 1 }, mistyped)).rejects.toThrow(/unknown key "ifOnly"/);
      await expect(handle.delete(1, mistyped)).rejects.toThrow(/unknown key "ifOnly"/);
      expect(await payloadsOf(handle)).toEqual(before);
    });

    test("random writes with restarts end as the model says, equal on all replicas", { timeout: 240_000 }, async () => {
      let history = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
          const handle = client.collection(`random-${history++}`);
          await handle.create({ vectors, shards: 2, replicas: 2 });
          const model = new Map<number, Held>();
          for (const each of steps) {
            if (each.op === "restart") await restartShards(cluster(), client);
            else await run(handle, model, each);
          }
          const found = new Map<number, Held>();
          for await (const { id, payload = {}, vectors: own = {} } of handle.scroll({ withVectors: true })) {
            const plain = Object.fromEntries(Object.entries(own).map(([name, values]) => [name, [...values]]));
            found.set(Number(id), { payload, vectors: plain });
          }
          expect(found).toEqual(new Map([...model].sort(([a], [b]) => a - b)));
          await eventually(() => compareDigests(client, 2));
          await handle.drop();
        }),
        { numRuns: driver === "processes" ? 3 : 10 },
      );
    });
  },
);
