import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseFilter } from "../../filter/index.js";
import type { OperationEffect, SlotRange } from "../../model/index.js";
import { hashSlotCount, hashSlotOf } from "../../sharding/index.js";
import { encodeRecord, filterToWire, type ipb, pb } from "../../wire/index.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  field,
  given,
  idOf,
  operationOf,
  remove,
  seeded,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import { Handover, type HandoverPlace, type Replica } from "../index.js";

const half = hashSlotCount / 2;
const ranges: SlotRange[] = [
  { firstSlot: 0, lastSlot: half - 1 },
  { firstSlot: half, lastSlot: hashSlotCount - 1 },
];
const everything = { payload: true, vectors: "all" } as const;
/** Above all that the logs of the shards that are merged come to. */
const beginsBehind = 1_000;
const child = 2;

let world: World;
let parents: Replica[];
/** By parent: how often it was begun to be read, and the number of the next record. */
let readers: { term: number; part: number }[];

beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field(), field("side", 2)) });
  await world.log.create({ collectionId: world.collection.id, shard: 1 });
  await world.log.create({ collectionId: world.collection.id, shard: child }, { afterSequence: beginsBehind });
  parents = await Promise.all(
    [0, 1].map(async (shard) => active(await world.open({ name: `parent-${shard}`, shard }))),
  );
  readers = [0, 1].map(() => ({ term: 0, part: 0 }));
});
afterEach(() => world.end());

async function append(shard: number, operations: ipb.Operation[]): Promise<number> {
  const name = { collectionId: world.collection.id, shard };
  const data = encodeRecord({ epoch: 1, appendedAtMs: Date.now(), operations });
  const { sequence } = await world.log.append(name, data, { messageId: `${Math.random()}` });
  await parents[shard]?.wait(sequence, [], call);
  return sequence;
}

function openChild(name = "child"): Promise<Replica> {
  return world.open({
    name,
    shard: child,
    beginsBehind,
    startsAsCopy: true,
    peers: { fetch: () => Promise.reject(new Error("nobody has a copy")) },
  });
}

const idsOf = (i: number, from: number, count: number): number[] =>
  Array.from({ length: 4 * count }, (_, at) => from + at)
    .filter((id) => Math.floor(hashSlotOf(idOf(id)) / half) === i)
    .slice(0, count);

const random = seeded(7);
function items(ids: number[]): Parameters<typeof upsert>[0] {
  return ids.map((id) => ({ id, vector: [random(), random(), random(), random()], payload: { k: id % 5 } }));
}

/** A record of the new shard's log with a part of a parent. */
function recordOf(parent: number, part: Omit<ipb.AdoptPoints, "shard" | "shardCount" | "firstSlot" | "lastSlot">) {
  const value = { ...part, ...(ranges[parent] as SlotRange), shard: parent, shardCount: 2 };
  return encodeRecord({ epoch: 1, appendedAtMs: Date.now(), operations: [adoptionOf(value)] });
}

function adoptionOf(value: ipb.AdoptPoints): ipb.Operation {
  return { operationId: new Uint8Array(0), traceparent: "", mutation: { $case: "adopt", value } };
}

async function feed(data: Uint8Array): Promise<void> {
  const name = { collectionId: world.collection.id, shard: child };
  await world.log.append(name, data, { messageId: `${Math.random()}` });
}

/** Reads a parent until nothing comes any more; gives all records. */
async function read(parent: number, from?: HandoverPlace): Promise<{ records: Uint8Array[]; place: HandoverPlace }> {
  const reader = new Handover(ranges[parent] as SlotRange, from);
  const term = ++(readers[parent] as { term: number }).term;
  const records: Uint8Array[] = [];
  const signal = new AbortController().signal;
  for (let part = 0; ; part++) {
    const next = await (parents[parent] as Replica).handover(reader, signal);
    if (next === undefined) break;
    records.push(recordOf(parent, { ...next, term, part }));
    await feed(records.at(-1) as Uint8Array);
    if (next.isWhole) break;
  }
  return { records, place: reader.place as HandoverPlace };
}

async function seal(shard: number): Promise<number> {
  const name = { collectionId: world.collection.id, shard };
  const operations = [operationOf({ $case: "seal", value: { epoch: 2 } })];
  const at = await world.log.seal(name, encodeRecord({ epoch: 1, appendedAtMs: 0, operations }));
  await eventually("the seal is applied", () => parents[shard]?.appliedSequence === at);
  return at;
}

async function contentOf(replica: Replica): Promise<string[]> {
  const minSequence = replica.appliedSequence;
  const { points } = await replica.read(
    "scroll",
    { after: undefined, limit: 2_000, select: everything, minSequence },
    call,
  );
  return points.map(({ id, version, payload, vectors }) => {
    const text = [...(vectors ?? [])].map(([name, vector]) => `${name}:${[...vector].join()}`).sort();
    return `${Buffer.from(id).toString("hex")} ${version} ${Buffer.from(payload).toString()} ${text.join(" ")}`;
  });
}

async function expectUnion(replica: Replica): Promise<void> {
  const name = { collectionId: world.collection.id, shard: child };
  const { lastSequence } = await world.log.state(name);
  await eventually("it has applied its log", () => replica.appliedSequence === lastSequence);
  const contents = await Promise.all(parents.map(contentOf));
  expect((await contentOf(replica)).sort()).toEqual(contents.flat().sort());
  const sum = parents.reduce((total, each) => total + BigInt(`0x${each.status().digest}`), 0n);
  expect(BigInt(`0x${replica.status().digest}`)).toBe(BigInt.asUintN(64, sum));
}

const byFilter = (text: string) => target({ filter: pb.Filter.encode(filterToWire(parseFilter(text))).finish() });

describe("a shard that takes over the slots of two others", () => {
  it("has what these have at their seals, with all versions, and goes on with its own log", async () => {
    for (const i of [0, 1]) {
      await append(i, [upsert(items(idsOf(i, 0, 60)))]);
      await append(i, [remove(idsOf(i, 0, 3))]);
      const ids = idsOf(i, 0, 20);
      const payload = Buffer.from('{"x":1}');
      await append(i, [operationOf({ $case: "setPayload", value: { target: target({ ids }), payload, path: "" } })]);
      await append(i, [
        operationOf({ $case: "setExpiry", value: { target: target({ ids: ids.slice(10) }), expiresAtMs: 2 ** 42 } }),
      ]);
    }
    const replica = await active(await openChild());
    expect(replica.appliedSequence).toBe(beginsBehind);
    const first = await Promise.all([read(0), read(1)]);
    expect(replica.status().adoptedSequence).toBe(0);
    // What is changed meanwhile.
    for (const i of [0, 1]) {
      await append(i, [upsert(items(idsOf(i, 50, 40)))]);
      await append(i, [operationOf({ $case: "remove", value: { target: byFilter("k = 2") } })]);
      await append(i, [
        upsert(
          items(idsOf(i, 5_000, 5)).map((each) => ({ ...each, vectors: { side: [1, 2] }, vector: undefined }) as never),
        ),
      ]);
    }
    for (const i of [0, 1]) {
      await seal(i);
      await read(i, first[i]?.place);
    }
    await expectUnion(replica);
    const name = { collectionId: world.collection.id, shard: child };
    const { lastSequence } = await world.log.state(name);
    expect(replica.status().adoptedSequence).toBe(lastSequence);
    // What a reader of before writes late counts for nothing.
    const digest = replica.status().digest;
    await feed(first[0]?.records[1] as Uint8Array);
    await feed(
      recordOf(1, {
        schema: new Uint8Array(0),
        clear: true,
        points: [],
        gone: [],
        outcomes: [],
        isWhole: false,
        term: 99,
        part: 0,
      }),
    );
    const record = encodeRecord({ epoch: 2, appendedAtMs: Date.now(), operations: [upsert(items([9_001]))] });
    const { sequence } = await world.log.append(name, record, { messageId: "own" });
    await replica.wait(sequence, [], call);
    expect(replica.status().pointCount).toBe(parents.reduce((sum, each) => sum + each.status().pointCount, 0) + 1);
    expect(replica.status().digest).not.toBe(digest);
    await replica.close();
    // Opened again, and made of its log alone, and copied, it is the same.
    const again = await active(await openChild());
    const replayed = await active(await openChild("replayed"));
    const copy = await active(
      await world.open({
        name: "copy",
        shard: child,
        beginsBehind,
        startsAsCopy: true,
        peers: { fetch: (wanted) => given(again, wanted) },
      }),
    );
    for (const each of [again, replayed, copy]) {
      await eventually("caught up", () => each.appliedSequence === sequence);
      expect(each.status()).toMatchObject({ digest: again.status().digest, adoptedSequence: lastSequence });
    }
    expect(await contentOf(replayed)).toEqual(await contentOf(again));
  });

  it("finds adopted points in its indexes, also after it was opened again", async () => {
    await append(0, [upsert(items(idsOf(0, 0, 40)))]);
    const replica = await active(await openChild());
    const { place } = await read(0);
    await replica.checkpoint();
    const late = idsOf(0, 2_000, 1);
    await append(0, [upsert([{ id: late[0] as number, vector: [9, 9, 9, 9], payload: { k: 1 } }])]);
    await seal(0);
    await seal(1);
    await read(0, place);
    await read(1);
    await expectUnion(replica);
    const nearest = async (from: Replica): Promise<string> => {
      const request = { field: "", vector: Float32Array.of(9, 9, 9, 9), k: 1, ef: 50, exact: false };
      const { hits } = await from.read("query", { ...request, select: everything, minSequence: 0 }, call);
      return Buffer.from(hits[0]?.id ?? []).toString("hex");
    };
    expect(await nearest(replica)).toBe(idOf(late[0] as number).toString("hex"));
    await replica.close();
    expect(await nearest(await active(await openChild()))).toBe(idOf(late[0] as number).toString("hex"));
  });

  it("takes no part twice, and none of a reader that was followed by another one", async () => {
    const [id] = idsOf(0, 0, 1) as [number];
    await append(0, [upsert(items(idsOf(0, 0, 10)))]);
    const replica = await active(await openChild());
    const before = await read(0);
    await append(0, [upsert([{ id, vector: [1, 1, 1, 1], payload: { new: true } }])]);
    const later = await read(0, before.place);
    for (const record of before.records) await feed(record);
    for (const record of later.records.slice(0, 1)) await feed(record);
    await seal(0);
    await seal(1);
    await read(0, later.place);
    await read(1);
    await expectUnion(replica);
  });

  it("begins again where it is not known what has changed, and where all was deleted", async () => {
    await append(0, [upsert(items(idsOf(0, 0, 50)))]);
    const replica = await active(await openChild());
    const { place } = await read(0);
    await append(0, [operationOf({ $case: "truncate", value: {} })]);
    await append(0, [upsert(items(idsOf(0, 30, 10)))]);
    const { place: after } = await read(0, place);
    await append(0, [remove(idsOf(0, 30, 4))]);
    await seal(0);
    await seal(1);
    // As if another replica were read, which has kept no changes.
    await read(0, { ...after, sequence: -1 });
    await read(1);
    await expectUnion(replica);
  });

  it("answers nobody before it has all of them", async () => {
    for (const i of [0, 1]) await append(i, [upsert(items(idsOf(i, 0, 8)))]);
    const replica = await active(await openChild());
    const first = await Promise.all([read(0), read(1)]);
    await eventually("it has all points", () => replica.status().pointCount === 16);
    for (const minSequence of [0, replica.appliedSequence]) {
      const counted = replica.read("count", { minSequence }, call);
      await expect(counted).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE", retryable: true });
    }
    for (const i of [0, 1]) {
      await seal(i);
      await read(i, first[i]?.place);
    }
    await expectUnion(replica);
  });

  it("takes the newest schema of them", async () => {
    const change = (version: number): ipb.Operation =>
      operationOf({ $case: "changeSchema", value: { version, change: { $case: "dropVector", value: "side" } } });
    for (const i of [0, 1]) {
      const points = items(idsOf(i, 0, 8)).map((each) => ({ ...each, vectors: { side: [1, i] } }));
      await append(i, [upsert(points)]);
    }
    const replica = await active(await openChild());
    const first = await Promise.all([read(0), read(1)]);
    await append(1, [change(2)]);
    const second = await read(1, first[1]?.place);
    await append(0, [upsert(items(idsOf(0, 0, 8)).map((each) => ({ ...each, vectors: { side: [5, 5] } })))]);
    await seal(0);
    await seal(1);
    await read(0, first[0]?.place);
    await read(1, second.place);
    await eventually("the schema is there", () => replica.status().schemaVersion === 2);
    await eventually("it has all of both", () => (replica.status().adoptedSequence ?? 0) > 0);
    const found = await contentOf(replica);
    expect(found).toHaveLength(16);
    for (const line of found) expect(line).not.toContain("side");
  });

  it("knows what was written before: an operation is done where it was not, and what it did is told", async () => {
    const both = Buffer.alloc(16, 1);
    const one = Buffer.alloc(16, 2);
    const filtered = Buffer.alloc(16, 3);
    const truncated = Buffer.alloc(16, 4);
    const insert = { mode: pb.UpsertMode.INSERT_ONLY };
    const further = idsOf(0, 100_000, 20);
    const [left, right] = [idsOf(0, 0, 20), idsOf(1, 0, 20)] as [number[], number[]];
    await append(0, [upsert(items(left.slice(0, 1)))]);
    await append(0, [upsert(items(left), { ...insert, id: both })]);
    await append(1, [upsert(items(right), { ...insert, id: both })]);
    await append(0, [upsert(items(further), { id: one })]);
    const payload = Buffer.from('{"seen":true}');
    const set = operationOf(
      { $case: "setPayload", value: { target: byFilter("k >= 0"), payload, path: "" } },
      { id: filtered },
    );
    await append(0, [set]);
    await append(0, [upsert(items(left.slice(5, 6)))]);
    const replica = await active(await openChild());
    for (const i of [0, 1]) await seal(i);
    for (const i of [0, 1]) await read(i);
    await expectUnion(replica);
    const name = { collectionId: world.collection.id, shard: child };
    const write = async (operations: ipb.Operation[]): Promise<OperationEffect> => {
      const record = encodeRecord({ epoch: 2, appendedAtMs: Date.now(), operations });
      const { sequence } = await world.log.append(name, record, { messageId: `${Math.random()}` });
      const [outcome] = await replica.wait(
        sequence,
        operations.map(({ operationId }) => operationId),
        call,
      );
      if (outcome === undefined || outcome instanceof Error) throw outcome ?? new Error("no outcome");
      return outcome;
    };
    const before = await contentOf(replica);
    const again = await write([upsert(items([...left, ...right]), { ...insert, id: both })]);
    expect(again).toMatchObject({
      affected: 0,
      failures: [],
      former: [
        { slots: ranges[0], affected: 19, failures: [{ index: 0, code: "POINT_EXISTS" }] },
        { slots: ranges[1], affected: 20, failures: [] },
      ],
    });
    expect(await contentOf(replica)).toEqual(before);
    // The part of the other shard never came into its log.
    const others = idsOf(1, 100_000, 12);
    const rest = upsert(items([...further, ...others]), { id: one });
    expect(await write([rest])).toMatchObject({ affected: 12, former: [{ slots: ranges[0], affected: 20 }] });
    expect(replica.status().pointCount).toBe(before.length + 12);
    const whole = await contentOf(replica);
    expect(await write([rest])).toMatchObject({ affected: 12, former: [{ slots: ranges[0], affected: 20 }] });
    expect(await contentOf(replica)).toEqual(whole);
    // By a filter: points of the shard that has done it stay as they are, also those that were written since.
    const set2 = await write([set]);
    expect(set2).toMatchObject({ affected: 32, former: [{ slots: ranges[0], affected: 40 }] });
    const unseen = (await contentOf(replica)).filter((line) => !line.includes("seen"));
    expect(unseen).toHaveLength(1);
    expect(unseen[0]).toContain(idOf(left[5] as number).toString("hex"));
    await write([operationOf({ $case: "truncate", value: {} }, { id: truncated })]);
    expect(replica.status().pointCount).toBe(0);
    await replica.close();
    const reopened = await active(await openChild());
    const [told] = await reopened.wait(reopened.appliedSequence, [one], call);
    expect(told).toMatchObject({ affected: 12, former: [{ slots: ranges[0], affected: 20 }] });
  });
});
