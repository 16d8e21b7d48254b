import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../base/index.js";
import { ShiftedClock } from "../../base/testing.js";
import { parseFilter } from "../../filter/index.js";
import { type IdKey, idFromNum } from "../../model/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import { SlotTable } from "../index/slots.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  everything,
  factories,
  field,
  nothing,
  operationOf,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";
import { Expiries } from "./expiries.js";

test("what has expired is known in order of time, whatever was set, changed and removed before", () => {
  let nowMs = 0;
  const expiries = new Expiries({ ...systemClock, nowMs: () => nowMs }, new SlotTable());
  const model = new Map<number, number>();
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let i = 0; i < 20_000; i++) {
    const slot = random(300);
    const atMs = nowMs + 1 + random(500);
    if (random(3) === 0) {
      expiries.set(slot, undefined);
      model.delete(slot);
    } else {
      expiries.set(slot, atMs);
      model.set(slot, atMs);
    }
    if (random(20) === 0) nowMs += random(60);
    if (i % 50 !== 0) continue;
    const over = [...model].flatMap(([each, at]) => (at <= nowMs ? [each] : []));
    expect([...expiries.over].sort((a, b) => a - b)).toEqual(over.sort((a, b) => a - b));
  }
});

describe.each(factories)("points that expire, on the %s", (_, indexes) => {
  let world: World;
  let clock: ShiftedClock;
  let replica: Replica;
  beforeEach(async () => {
    world = await World.make({ collection: collectionOf(field("a", 2)), indexes });
    clock = new ShiftedClock(systemClock);
    replica = await active(await world.open({ clock }));
  });
  afterEach(() => world.end());

  const idNumber = (id: IdKey): number => Number(Buffer.from(id).readBigUInt64BE(1));

  async function expire(ids: number[], atMs: number): Promise<number> {
    return world.append([operationOf({ $case: "setExpiry", value: { target: target({ ids }), expiresAtMs: atMs } })]);
  }

  async function seen(minSequence: number): Promise<number[][]> {
    const ids = (points: { id: IdKey }[]): number[] => points.map(({ id }) => idNumber(id)).sort((a, b) => a - b);
    const filter = parseFilter("n >= 0");
    const vector = new Float32Array(2);
    const search = { field: "a", k: 3, ef: 64, exact: true, select: nothing, minSequence };
    const all = [0, 1, 2, 3, 4, 5].map((id) => idFromNum(id));
    const { count } = await replica.read("count", { minSequence }, call);
    expect((await replica.read("count", { filter, minSequence }, call)).count).toBe(count);
    const scope = { filter, ids: undefined, exclude: [] };
    const scorer = { kind: "nearest" as const, vector };
    const facet = await replica.read("facet", { ...scope, key: "n", minSequence, explain: true }, call);
    expect(facet.explain?.plan).toBe("facet index");
    expect(facet.counts.length).toBe(count);
    return [
      [count],
      ids((await replica.read("get", { ids: all, select: nothing, minSequence }, call)).points),
      ids((await replica.read("scroll", { after: undefined, limit: 1, select: nothing, minSequence }, call)).points),
      ids(
        (await replica.read("scroll", { after: undefined, limit: 9, select: nothing, filter, minSequence }, call))
          .points,
      ),
      ids((await replica.read("query", { ...search, vector }, call)).hits),
      ids((await replica.read("search", { ...search, ...scope, scorer }, call)).hits),
    ];
  }

  test("no read finds them from then on, and they are removed through the log", { timeout: 30_000 }, async () => {
    const items = [0, 1, 2, 3, 4, 5].map((id) => ({ id, vectors: { a: [id, 0] }, payload: { n: id } }));
    await world.append([upsert(items)]);
    const index = { path: "n", kind: "integer" as const, isTenant: false, isPrincipal: false };
    const change = schemaChangeToWire({ version: 2, kind: "addPayloadIndex", index });
    await world.append([operationOf({ $case: "changeSchema", value: change })]);
    await eventually("the index", () => replica.status().payloadIndexes[0]?.isReady);
    const soonMs = clock.nowMs() + 3_600_000;
    await expire([0, 1, 4], soonMs);
    let at = await expire([5], soonMs * 2);
    const before = [[6], [0, 1, 2, 3, 4, 5], [0], [0, 1, 2, 3, 4, 5], [0, 1, 2], [0, 1, 2]];
    expect(await seen(at)).toEqual(before);
    // A restart knows of it too.
    await replica.close();
    replica = await active(await world.open({ clock }));
    expect(await seen(at)).toEqual(before);
    clock.pass(3_600_001);
    const after = [[3], [2, 3, 5], [2], [2, 3, 5], [2, 3, 5], [2, 3, 5]];
    expect(await seen(at)).toEqual(after);
    // Written before its removal comes, a point is there again: the removal is of another version.
    at = await world.append([upsert([{ id: 1, vectors: { a: [1, 0] }, payload: { n: 1 } }])]);
    const again = [[4], [1, 2, 3, 5], [1], [1, 2, 3, 5], [1, 2, 3], [1, 2, 3]];
    expect(await seen(at)).toEqual(again);
    await eventually("the removal", () => {
      clock.pass(1_000);
      return replica.status().pointCount === 4;
    });
    expect(await seen(at)).toEqual(again);
    const other = await active(await world.open({ name: "b", clock }));
    expect(other.status()).toMatchObject({ digest: replica.status().digest, pointCount: 4 });
    expect(world.alarms).toEqual([]);
    expect(
      (await replica.read("get", { ids: [idFromNum(1)], select: everything, minSequence: at }, call)).points,
    ).toMatchObject([{ version: at }]);
  });
});
