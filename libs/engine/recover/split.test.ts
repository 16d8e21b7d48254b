import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseFilter } from "../../filter/index.js";
import type { FollowedShard, SlotRange } from "../../model/index.js";
import { hashSlotCount, hashSlotOf } from "../../sharding/index.js";
import { encodeRecord, filterToWire, type ipb, pb } from "../../wire/index.js";
import {
  active,
  call,
  eventually,
  given,
  idOf,
  operationOf,
  remove,
  seeded,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";

const half = hashSlotCount / 2;
const all: SlotRange = { firstSlot: 0, lastSlot: hashSlotCount - 1 };
const ranges: SlotRange[] = [
  { firstSlot: 0, lastSlot: half - 1 },
  { firstSlot: half, lastSlot: hashSlotCount - 1 },
];
const everything = { payload: true, vectors: "all" } as const;

let world: World;
let parent: Replica;
/** While it stands, children follow the parent. */
let isPreparing: boolean;

beforeEach(async () => {
  world = await World.make();
  parent = await active(await world.open());
  isPreparing = true;
});
afterEach(() => world.end());

function openChild(i: number, name = `child-${i}`): Promise<Replica> {
  const follows: FollowedShard = { shard: 0, slots: ranges[i] as SlotRange, allSlots: all };
  return world.open({
    name,
    shard: i + 1,
    startsAsCopy: true,
    follows: () => (isPreparing ? follows : undefined),
    told: (_, sequence, ids, signal) => parent.wait(sequence, ids, { ...call, signal }),
    peers: { fetch: (wanted) => given(parent, wanted) },
  });
}

async function contentOf(replica: Replica): Promise<string[]> {
  const minSequence = replica.appliedSequence;
  const { points } = await replica.read(
    "scroll",
    { after: undefined, limit: 1_000, select: everything, minSequence },
    call,
  );
  return points.map(({ id, version, payload, vectors }) => {
    const vector = vectors?.get("") ?? [];
    return `${Buffer.from(id).toString("hex")} ${version} ${Buffer.from(payload).toString()} ${[...vector].join()}`;
  });
}

const seal: ipb.Operation = operationOf({ $case: "seal", value: { epoch: 2 } });

async function sealLog(): Promise<number> {
  return world.log.seal(world.logName, encodeRecord({ epoch: 1, appendedAtMs: 0, operations: [seal] }));
}

const random = seeded(7);
function items(ids: number[]): Parameters<typeof upsert>[0] {
  return ids.map((id) => ({ id, vector: [random(), random(), random(), random()], payload: { k: id % 5 } }));
}
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const isOwn = (id: number, i: number): boolean => Math.floor(hashSlotOf(idOf(id)) / half) === i;

describe("replicas that take over the slots of another shard", () => {
  it("have together what that one has at its seal, and go on with logs of their own", async () => {
    await world.append([upsert(items(numbers(0, 60)))]);
    await world.append([remove([3, 4, 5])]);
    const children = await Promise.all([0, 1].map((i) => openChild(i)));
    await Promise.all(children.map(active));
    await world.append([upsert(items(numbers(40, 90)))]);
    await world.append([
      operationOf({
        $case: "setPayload",
        value: { target: target({ ids: numbers(0, 50) }), payload: Buffer.from('{"x":1}'), path: "" },
      }),
    ]);
    const filter = pb.Filter.encode(filterToWire(parseFilter("k = 2"))).finish();
    await world.append([operationOf({ $case: "remove", value: { target: target({ filter }) } })]);
    const at = await sealLog();
    // What comes behind the seal counts for nothing, for any of them.
    await expect(world.append([remove([0])])).rejects.toMatchObject({ code: "STALE_EPOCH" });
    await eventually("all have applied the seal", () =>
      [parent, ...children].every(({ appliedSequence }) => appliedSequence === at),
    );
    const contents = await Promise.all(children.map(contentOf));
    expect(contents.flat().sort()).toEqual((await contentOf(parent)).sort());
    const digest = (replica: Replica): bigint => BigInt(`0x${replica.status().digest}`);
    expect(
      BigInt.asUintN(
        64,
        children.reduce((sum, child) => sum + digest(child), 0n),
      ),
    ).toBe(digest(parent));
    await expect(parent.wait(at + 1, [], call)).rejects.toMatchObject({ code: "STALE_EPOCH" });

    isPreparing = false;
    for (const [i, child] of children.entries()) {
      const name = { collectionId: world.collection.id, shard: i + 1 };
      await world.log.create(name, { afterSequence: at });
      const id = numbers(1_000, 1_100).find((each) => isOwn(each, i)) as number;
      const record = encodeRecord({ epoch: 2, appendedAtMs: 5, operations: [upsert(items([id]))] });
      const { sequence } = await world.log.append(name, record, { messageId: "first" });
      expect(sequence).toBe(at + 1);
      await child.wait(sequence, [], call);
      expect(await contentOf(child)).toHaveLength((contents[i]?.length ?? 0) + 1);
      await child.close();
      // Opened again, it follows its own log, and another replica can be made of it.
      const again = await active(await openChild(i));
      expect(again.appliedSequence).toBe(sequence);
      const copy = await active(
        await world.open({
          name: `copy-${i}`,
          shard: i + 1,
          startsAsCopy: true,
          peers: { fetch: (wanted) => given(again, wanted) },
        }),
      );
      expect(copy.status().digest).toBe(again.status().digest);
    }
    // The one that was split stays at its end when it is opened again.
    await parent.close();
    const reopened = await active(await world.open());
    await expect(reopened.wait(at + 1, [], call)).rejects.toMatchObject({ code: "STALE_EPOCH" });
  });

  it("know what was written before, however a retry is cut", async () => {
    const ids = numbers(0, 30);
    const key = Buffer.alloc(16, 7);
    const later = Buffer.alloc(16, 9);
    await world.append([upsert(items(ids), { id: key })]);
    const first = await world.append([upsert(items([1]), { mode: pb.UpsertMode.INSERT_ONLY })]);
    const child = await active(await openChild(0));
    await world.append([upsert(items(ids), { id: later, mode: pb.UpsertMode.INSERT_ONLY })]);
    const at = await sealLog();
    await eventually("it has applied the seal", () => child.appliedSequence === at);
    isPreparing = false;
    const name = { collectionId: world.collection.id, shard: 1 };
    await world.log.create(name, { afterSequence: at });
    const own = ids.filter((id) => isOwn(id, 0));
    const before = await contentOf(child);
    const operations = [
      upsert(items(own), { id: key }),
      upsert(items(own), { id: later, mode: pb.UpsertMode.INSERT_ONLY }),
    ];
    const record = encodeRecord({ epoch: 2, appendedAtMs: 5, operations });
    const { sequence } = await world.log.append(name, record, { messageId: "again" });
    const outcomes = await child.wait(sequence, [key, later], call);
    // One was copied with what it did to all points of the shard that was split; the other was applied by the child.
    expect(outcomes[0]).toMatchObject({ affected: 30, slots: all });
    expect(outcomes[1]).toMatchObject({ affected: 0 });
    expect(outcomes[1]).not.toHaveProperty("slots");
    expect(await contentOf(child)).toEqual(before);
    expect(first).toBe(2);
  });

  it("do not carry out what was refused for all points together", async () => {
    await world.append([upsert(items(numbers(0, 20)))]);
    const child = await openChild(0);
    await active(child);
    // A payload that would be too large for one point of the other half refuses all of what a filter selects.
    const other = numbers(0, 20).find((id) => isOwn(id, 1)) as number;
    const large = JSON.stringify({ long: "x".repeat(64 * 1024 - 40) });
    await world.append([
      operationOf({
        $case: "overwritePayload",
        value: { target: target({ ids: [other] }), payload: Buffer.from(large) },
      }),
    ]);
    const filter = pb.Filter.encode(
      pb.Filter.fromPartial({ must: [{ condition: { $case: "filter", value: {} } }] }),
    ).finish();
    const id = Buffer.alloc(16, 3);
    const payload = Buffer.from(JSON.stringify({ much: "y".repeat(200) }));
    const sequence = await world.append([
      operationOf({ $case: "setPayload", value: { target: target({ filter }), payload, path: "" } }, { id }),
    ]);
    const [told] = await parent.wait(sequence, [id], call);
    expect(told).toBeInstanceOf(Error);
    expect(await child.wait(sequence, [id], call)).toMatchObject([{ code: (told as { code?: string }).code }]);
    for (const line of await contentOf(child)) expect(line).not.toContain("much");
  });

  it("go on with the changes of the shard that they come from", async () => {
    for (let i = 0; i < 10; i++) await world.append([upsert(items([i]))]);
    const child = await active(await openChild(0));
    await world.append([upsert(items([50, 51, 52, 53]))]);
    await eventually("caught up", () => child.appliedSequence === 11);
    const request = {
      limit: 100,
      select: everything,
      filter: undefined,
      near: undefined,
      before: false,
      minSequence: 0,
    };
    const { changes } = await child.read("changes", { ...request, after: { sequence: 4, offset: 0 }, waitMs: 0 }, call);
    const own = [4, 5, 6, 7, 8, 9, 50, 51, 52, 53].filter((id) => isOwn(id, 0));
    expect(changes.map((each) => Buffer.from(each.id).toString("hex"))).toEqual(
      own.map((id) => idOf(id).toString("hex")),
    );
  });
});
