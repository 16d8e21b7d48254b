import { ClassicLevel } from "classic-level";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ipb, pb } from "../../wire/index.js";
import {
  active,
  given,
  call,
  collectionOf,
  eventually,
  everything,
  factories,
  field,
  idOf,
  recomputed,
  remove,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";
import { decodeSchema, encodeSchema, initialSchema } from "../recover/schema.js";
import { changedSchema } from "./schema-change.js";

function step(version: number, change: ipb.ChangeSchema["change"], id?: Uint8Array): ipb.Operation {
  return {
    operationId: Buffer.from(id ?? crypto.getRandomValues(new Uint8Array(16))),
    traceparent: "",
    mutation: { $case: "changeSchema", value: { version, change } },
  };
}

const wire = (name: string, dimension = 2): pb.VectorField => ({
  name,
  dimension,
  metric: pb.Metric.L2,
  datatype: pb.Datatype.F32,
  m: 8,
  efConstruction: 64,
  efSearch: 64,
});
const add = (version: number, name: string, dimension?: number): ipb.Operation =>
  step(version, { $case: "addVector", value: wire(name, dimension) });
const drop = (version: number, name: string): ipb.Operation => step(version, { $case: "dropVector", value: name });

function payloadIndex(index: Partial<pb.PayloadIndex>, ...further: number[]): Uint8Array {
  const whole = {
    path: "a",
    kind: pb.PayloadIndexKind.KEYWORD,
    isTenant: false,
    isPrincipal: false,
    text: undefined,
    bm25: undefined,
  };
  return Buffer.concat([pb.PayloadIndex.encode({ ...whole, ...index }).finish(), Uint8Array.from(further)]);
}
const addIndex = (version: number, index: Partial<pb.PayloadIndex>): ipb.Operation =>
  step(version, { $case: "addPayloadIndex", value: payloadIndex(index) });
const dropIndex = (version: number, path: string): ipb.Operation =>
  step(version, { $case: "dropPayloadIndex", value: path });

let world: World;
beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field("a", 2)) });
});
afterEach(() => world.end());

/** Ids with the names of the vectors that each has, and its payload. */
async function contents(replica: Replica): Promise<unknown[]> {
  const page = { after: undefined, limit: 1_000, select: everything, minSequence: replica.appliedSequence };
  const { points } = await replica.read("scroll", page, call);
  return points.map(({ id, version, payload, vectors }) => [
    Buffer.from(id).toString("hex"),
    version,
    Buffer.from(payload).toString(),
    [...(vectors ?? [])].map(([name, vector]) => [name, ...vector]).sort(),
  ]);
}

async function near(replica: Replica, using: string, vector: number[], minSequence: number): Promise<number[]> {
  const query = { field: using, vector: Float32Array.from(vector), k: 10, ef: 0, exact: false };
  const select = { payload: false, vectors: [] };
  const { hits } = await replica.read("query", { ...query, select, minSequence }, call);
  return hits.map(({ id }) => Number(Buffer.from(id).readBigUInt64BE(1)));
}

/** Keys of the vectors that the closed replica's store has, by number of the field. */
async function vectorsOf(name = "a"): Promise<Record<number, number>> {
  const directory = join(world.replicaDirectory(name), "db");
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  const counts: Record<number, number> = {};
  for await (const key of database.keys({ gte: Buffer.of(2), lt: Buffer.of(3) })) {
    const number = key[1] as number;
    counts[number] = (counts[number] ?? 0) + 1;
  }
  await database.close();
  return counts;
}

/** Replays the log from its beginning, one record at a time. */
async function replay(name: string): Promise<Replica> {
  return active(await world.open({ name, tuning: { batchPoints: 1, batchBytes: 1 } }));
}

describe.each(factories)("on the %s", (_, indexes) => {
  test("a vector field is added while the replica is in use, and found after a restart and by a replay", async () => {
    let replica = await active(await world.open({ indexes }));
    await world.append([upsert([{ id: 1, vectors: { a: [1, 0] }, payload: { n: 1 } }])]);
    await world.append([add(2, "b", 3)]);
    // The same record may use what it has added.
    const last = await world.append([
      add(3, "c"),
      upsert([{ id: 2, vectors: { a: [2, 0], b: [1, 2, 3], c: [5, 5] } }]),
      upsert([{ id: 1, vectors: { b: [1, 1, 1] } }]),
    ]);
    await replica.wait(last, [], call);
    const check = async (): Promise<void> => {
      expect(await contents(replica)).toEqual([
        [idOf(1).toString("hex"), last, "", [["b", 1, 1, 1]]],
        [
          idOf(2).toString("hex"),
          last,
          "",
          [
            ["a", 2, 0],
            ["b", 1, 2, 3],
            ["c", 5, 5],
          ],
        ],
      ]);
      await replica.waitIndexed(call);
      expect(await near(replica, "b", [1, 1, 1], last)).toEqual([1, 2]);
      expect(await near(replica, "c", [0, 0], last)).toEqual([2]);
      expect(await near(replica, "a", [0, 0], last)).toEqual([2]);
    };
    await check();
    const { digest } = replica.status();
    expect(await recomputed(replica)).toEqual({ digest, pointCount: 2 });
    await replica.close();
    replica = await active(await world.open({ indexes }));
    await check();
    expect(replica.status().digest).toBe(digest);
    expect((await replay("b")).status().digest).toBe(digest);
    expect(world.alarms).toEqual([]);
  });

  test("a dropped field is gone at once, and one of its name that is added later is another", async () => {
    let replica = await active(await world.open({ indexes }));
    const points = [1, 2, 3].map((id) => ({ id, vectors: { a: [id, 0], b: [0, id] } }));
    await world.append([add(2, "b"), upsert(points)]);
    const at = await world.append([drop(3, "b"), upsert([{ id: 3, vectors: { a: [9, 9] } }])]);
    await replica.wait(at, [], call);
    expect(await contents(replica)).toMatchObject([
      [{}, 1, "", [["a", 1, 0]]],
      [{}, 1, "", [["a", 2, 0]]],
      [{}, 2, "", [["a", 9, 9]]],
    ]);
    await expect(near(replica, "b", [0, 0], at)).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
    const refused = upsert([{ id: 4, vectors: { b: [0, 1] } }]);
    const next = await world.append([refused, remove([2]), add(4, "b", 3)]);
    const [outcome] = await replica.wait(next, [refused.operationId], call);
    expect(outcome).toMatchObject({ code: "UNKNOWN_VECTOR" });
    await replica.waitIndexed(call);
    expect(await near(replica, "b", [0, 0, 0], next)).toEqual([]);
    const last = await world.append([upsert([{ id: 5, vectors: { b: [1, 1, 1] } }])]);
    const check = async (): Promise<void> => {
      expect(await near(replica, "b", [0, 0, 0], last)).toEqual([5]);
      expect(await near(replica, "a", [0, 0], last)).toEqual([1, 3]);
      expect(await contents(replica)).toMatchObject([
        [{}, 1, "", [["a", 1, 0]]],
        [{}, 2, "", [["a", 9, 9]]],
        [{}, last, "", [["b", 1, 1, 1]]],
      ]);
    };
    await check();
    const { digest } = replica.status();
    await replica.close();
    // Point 1 named the dropped field, and its vector is gone all the same.
    expect(await vectorsOf()).toEqual({ 0: 2, 2: 1 });
    replica = await active(await world.open({ indexes }));
    await check();
    expect(replica.status().digest).toBe(digest);
    expect((await replay("b")).status().digest).toBe(digest);
  });
});

test("what a process that died has left of a dropped field goes at the next opening", async () => {
  let replica = await active(await world.open());
  const at = await world.append([add(2, "b"), upsert([{ id: 1, vectors: { a: [1, 0], b: [0, 1] } }])]);
  await replica.wait(at, [], call);
  await world.append([drop(3, "b")]);
  await eventually("the drop", () => replica.appliedSequence === at + 1);
  const { digest } = replica.status();
  await replica.close();
  expect(await vectorsOf()).toEqual({ 0: 1 });
  const directory = join(world.replicaDirectory(), "db");
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  await database.put(Buffer.concat([Buffer.of(2, 1), idOf(1)]), Buffer.from("left"));
  await database.close();
  replica = await active(await world.open());
  expect(replica.status().digest).toBe(digest);
  await replica.close();
  expect(await vectorsOf()).toEqual({ 0: 1 });
  expect(world.alarms).toEqual([]);
});

test("steps that do not fit are refused, and a repeated one has the first one's outcome", async () => {
  const replica = await active(await world.open());
  const id = Buffer.alloc(16, 7);
  const first = step(2, { $case: "addVector", value: wire("b") }, id);
  const at = await world.append([first]);
  expect(await replica.wait(at, [id], call)).toEqual([{ affected: 0, failures: [] }]);
  const wrong: [ipb.Operation, string, RegExp][] = [
    [add(2, "c"), "FAILED_PRECONDITION", /leads to version 2 of the schema, which has version 2/],
    [add(4, "c"), "FAILED_PRECONDITION", /leads to version 4/],
    [add(3, "b"), "INVALID_SCHEMA", /there is a vector field "b" already/],
    [add(3, "c", 0), "INVALID_SCHEMA", /the dimension of "c" is 0/],
    [drop(3, "x"), "UNKNOWN_VECTOR", /no vector field "x"/],
    [addIndex(2, {}), "FAILED_PRECONDITION", /leads to version 2/],
    [addIndex(3, { path: "a..b" }), "INVALID_SCHEMA", /the path "a..b" is not valid/],
    [addIndex(3, { kind: pb.PayloadIndexKind.GEO, isTenant: true }), "INVALID_SCHEMA", /is_tenant is for/],
    [dropIndex(3, "a"), "INVALID_SCHEMA", /there is no payload index of "a"; there is none/],
  ];
  const last = await world.append([...wrong.map(([operation]) => operation), first]);
  const outcomes = await replica.wait(last, [...wrong.map(([{ operationId }]) => operationId), id], call);
  for (const [i, [, code, message]] of wrong.entries()) {
    expect(outcomes[i]).toMatchObject({ code, message: expect.stringMatching(message) as string });
  }
  expect(outcomes.at(-1)).toEqual({ affected: 0, failures: [] });
  const lone = await world.append([drop(3, "b"), drop(4, "a")]);
  await replica.wait(lone, [], call);
  expect(world.alarms.at(-1)?.message).toMatch(/"a" is the only vector field/);
  expect(replica.status()).toMatchObject({ state: "active", appliedSequence: lone });
});

test.each<[string, ipb.ChangeSchema["change"]]>([
  [
    "a payload index of a kind of a newer release",
    { $case: "addPayloadIndex", value: payloadIndex({ kind: 99 as pb.PayloadIndexKind }) },
  ],
  [
    "a payload index with an option of a newer release",
    { $case: "addPayloadIndex", value: payloadIndex({}, 0x7a, 1, 1) },
  ],
  ["a field of a metric of a newer release", { $case: "addVector", value: { ...wire("b"), metric: 99 as pb.Metric } }],
  ["nothing that this release knows", undefined],
])("%s stops the replica before it is skipped", async (_, change) => {
  const replica = await active(await world.open());
  await world.append([upsert([{ id: 1, vectors: { a: [1, 0] } }]), step(2, change)]);
  await eventually("a stop", () => replica.status().state === "stale");
  expect(replica.status()).toMatchObject({ appliedSequence: 0, pointCount: 0 });
  expect(world.alarms.map(({ kind }) => kind)).toEqual(["record_newer"]);
});

test("payload indexes come and go by their numbers, and a field has one", () => {
  const indexAdded = (path: string): ipb.ChangeSchema["change"] => ({
    $case: "addPayloadIndex",
    value: payloadIndex({ path }),
  });
  let schema = initialSchema(collectionOf(field("a", 2)));
  for (const change of [
    indexAdded("x"),
    indexAdded("y"),
    { $case: "dropPayloadIndex", value: "x" },
    indexAdded("x"),
  ] as const) {
    schema = changedSchema(schema, { version: schema.version + 1, change });
  }
  expect(schema.payloadIndexes.map(({ path, number }) => [path, number])).toEqual([
    ["y", 1],
    ["x", 2],
  ]);
  const again = { version: schema.version + 1, change: indexAdded("y") };
  expect(() => changedSchema(schema, again)).toThrow(/the field "y" has an index already, of the kind keyword/);
  expect(decodeSchema(encodeSchema(schema))).toEqual(schema);
});

test("a copy of a replica with a dropped field is whole, whatever is left of the field", async () => {
  const healthy = await active(await world.open());
  await world.append([add(2, "b"), upsert([1, 2].map((id) => ({ id, vectors: { a: [1, id], b: [0, 1] } })))]);
  const last = await world.append([drop(3, "b"), upsert([{ id: 2, vectors: { a: [3, 3] } }])]);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, last);
  const copy = await world.open({
    name: "copy",
    peers: { fetch: (wanted) => given(healthy, wanted) },
  });
  await active(copy);
  expect(copy.status().digest).toBe(healthy.status().digest);
  expect(await contents(copy)).toEqual(await contents(healthy));
});

test("a number is never used again, and 256 are all that there are", () => {
  let schema = changedSchema(initialSchema({ fields: [field("a", 2)] }), {
    version: 2,
    change: { $case: "addVector", value: wire("b") },
  });
  for (let number = 2; number < 256; number++) {
    schema = changedSchema(schema, { version: schema.version + 1, change: { $case: "dropVector", value: "b" } });
    schema = changedSchema(schema, {
      version: schema.version + 1,
      change: { $case: "addVector", value: wire("b") },
    });
    expect(schema.fields.map((each) => each.number)).toEqual([0, number]);
  }
  const another = { version: schema.version + 1, change: { $case: "addVector", value: wire("c") } } as const;
  expect(() => changedSchema(schema, another)).toThrow(/all 256 numbers of fields are used up/);
});

const names = ["a", "b", "c"];
const action = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("upsert" as const),
      id: fc.nat(8),
      fields: fc.uniqueArray(fc.constantFrom(...names), { minLength: 1 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove" as const), id: fc.nat(8) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("add" as const, "drop" as const), name: fc.constantFrom(...names) }),
  },
);

test("random histories with changes of the schema end the same on a replica in use and on a replay", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { minLength: 3, maxLength: 12 }),
      async (records) => {
        await world.end();
        world = await World.make({ collection: collectionOf(field("a", 2)) });
        let replica = await active(await world.open());
        let live = ["a"];
        let version = 1;
        let n = 0;
        const model = new Map<number, Map<string, number[]>>();
        for (const record of records) {
          const operations: ipb.Operation[] = [];
          for (const each of record) {
            if (each.kind === "restart") {
              await replica.close();
              replica = await active(await world.open());
            } else if (each.kind === "upsert") {
              const entries = each.fields.map((name): [string, number[]] => [name, [n++, each.id]]);
              operations.push(upsert([{ id: each.id, vectors: Object.fromEntries(entries) }]));
              if (each.fields.every((name) => live.includes(name))) model.set(each.id, new Map(entries));
            } else if (each.kind === "remove") {
              operations.push(remove([each.id]));
              model.delete(each.id);
            } else if (each.kind === "add" && !live.includes(each.name)) {
              operations.push(add(++version, each.name));
              live = [...live, each.name];
            } else if (each.kind === "drop" && live.includes(each.name) && live.length > 1) {
              operations.push(drop(++version, each.name));
              live = live.filter((name) => name !== each.name);
              for (const vectors of model.values()) vectors.delete(each.name);
            }
          }
          if (operations.length > 0) await world.append(operations);
        }
        const last = (await world.log.state(world.logName)).lastSequence;
        await replica.wait(last, [], call);
        const expected = [...model].sort(([a], [b]) => a - b);
        const check = async (one: Replica): Promise<void> => {
          const found = (await contents(one)) as [string, number, string, [string, ...number[]][]][];
          expect(found.map(([id, , , vectors]) => [id, vectors])).toEqual(
            expected.map(([id, vectors]) => [
              idOf(id).toString("hex"),
              [...vectors].map(([name, vector]) => [name, ...vector]).sort(),
            ]),
          );
          await one.waitIndexed(call);
          for (const name of live) {
            const ids = expected.flatMap(([id, vectors]) => (vectors.has(name) ? [id] : []));
            expect((await near(one, name, [0, 0], last)).sort((a, b) => a - b)).toEqual(ids);
          }
        };
        await check(replica);
        const replayed = await replay("replayed");
        await check(replayed);
        expect(replayed.status().digest).toBe(replica.status().digest);
        await replica.close();
        replica = await active(await world.open());
        await check(replica);
        expect(replica.status().digest).toBe(replayed.status().digest);
        expect(world.alarms.filter(({ kind }) => kind !== "operation_refused")).toEqual([]);
      },
    ),
    { numRuns: 20, endOnFailure: true },
  );
});
