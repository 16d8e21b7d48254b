import { afterEach, describe, expect, test } from "vitest";
import { deferred, sleep, systemClock } from "../../base/index.js";
import type { Select, ShardQuery, ShardQueryResult } from "../../model/index.js";
import { PointStore } from "../../storage/index.js";
import { ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";
import { call, eventually, everything, factories, nothing, remove, upsert, World } from "../testing/harness.fixture.js";
import type { Replica } from "../index.js";

/** Queries that run beside overwrites find every point that existed all the time, once, as it was at one moment. */

let world: World;
afterEach(async () => {
  ExactIndex.duringSearch = undefined;
  await world.end();
});

const payloadOnly: Select = { payload: true, vectors: [] };
const pointCount = 12;
const allIds = Array.from({ length: pointCount }, (_, id) => id);
const idNumber = (id: Uint8Array): number => Number(Buffer.from(id).readBigUInt64BE(1));
const idsOf = ({ hits }: ShardQueryResult): number[] => hits.map(({ id }) => idNumber(id)).sort((a, b) => a - b);

function near(select: Select, k = pointCount): ShardQuery {
  return { field: "", vector: new Float32Array(4), k, ef: 64, exact: false, select, minSequence: 0 };
}

/** Writes all points again and again; the payload and the vector of each tell in which round. */
class Writer {
  readonly #roundOf = new Map<number, number>();
  #round = 0;

  async write(ids = allIds): Promise<number> {
    const round = ++this.#round;
    const items = ids.map((id) => ({ id, vector: [id, round, 0, 0], payload: { id, round } }));
    const sequence = await world.append([upsert(items)]);
    this.#roundOf.set(sequence, round);
    return sequence;
  }

  /** Distance, payload and vector belong to the version that each hit is said to have. */
  check({ hits }: ShardQueryResult, select: Select): void {
    const expected = hits.map(({ id: key, version }) => {
      const id = idNumber(key);
      const round = this.#roundOf.get(version) ?? Number.NaN;
      const payload = select.payload ? JSON.stringify({ id, round }) : "";
      const vector = select.vectors === "all" ? Float32Array.of(id, round, 0, 0) : undefined;
      return [version, Math.fround(Math.hypot(id, round)), payload, vector];
    });
    const found = hits.map(({ version, score, payload, vectors }) => {
      return [version, score, Buffer.from(payload).toString(), vectors?.get("")];
    });
    expect(found).toEqual(expected);
  }
}

/**
 * Lets every search be overtaken by an overwrite of its hits. The applier may be waiting for this very query: then the
 * overwrite has a while in which it must not become visible.
 */
function overtakeSearches(replica: Replica, writer: Writer): void {
  ExactIndex.duringSearch = async () => {
    const sequence = await writer.write();
    await Promise.race([replica.wait(sequence, [], call), sleep(systemClock, 50)]);
  };
}

describe.each(factories)("on the %s", (_, indexes) => {
  test.each([
    ["without payload", nothing],
    ["with payload", payloadOnly],
    ["with vectors", everything],
  ])("points that are overwritten all the time are found by every query %s", async (_, select) => {
    world = await World.make({ indexes });
    // Each record is a batch by itself, and generations change.
    const replica = await world.open({ tuning: { batchPoints: 1, deadRows: 500 } });
    const writer = new Writer();
    await replica.wait(await writer.write(), [], call);
    for (let round = 0; round < 25; round++) {
      const last = Math.max(...(await Promise.all(Array.from({ length: 8 }, () => writer.write()))));
      // Asks while these records become visible.
      const ask = async (): Promise<void> => {
        for (let count = 0; count < 20 && replica.appliedSequence < last; count++) {
          const result = await replica.read("query", near(select), call);
          expect(idsOf(result)).toEqual(allIds);
          writer.check(result, select);
        }
      };
      await Promise.all([ask(), ask(), ask()]);
    }
    expect(world.alarms).toEqual([]);
  });

  test("a point deleted before a query began is never found, whatever is overwritten and rebuilt meanwhile", async () => {
    world = await World.make({ indexes });
    const replica = await world.open();
    const writer = new Writer();
    await replica.wait(await writer.write(), [], call);
    let isEnough = false;
    const overwrite = async (): Promise<void> => {
      while (!isEnough) await replica.wait(await writer.write(allIds.slice(2)), [], call);
    };
    const rebuild = async (): Promise<void> => {
      while (!isEnough) await replica.rebuildIndexes();
    };
    const ask = async (): Promise<void> => {
      for (let round = 0; round < 40; round++) {
        const gone = round % 2;
        await replica.wait(await world.append([remove([gone])]), [], call);
        for (const select of [nothing, payloadOnly, nothing]) {
          const result = await replica.read("query", near(select), call);
          expect(idsOf(result)).toEqual(allIds.filter((id) => id !== gone));
          writer.check(result, select);
        }
        await replica.wait(await writer.write([gone]), [], call);
      }
      isEnough = true;
    };
    await Promise.all([ask().finally(() => (isEnough = true)), overwrite(), rebuild()]);
    expect(world.alarms).toEqual([]);
  });
});

test("a hit that is overwritten or deleted during the search is given out as it was, without another search", async () => {
  world = await World.make();
  const replica = await world.open();
  const writer = new Writer();
  const before = await writer.write();
  await replica.wait(before, [], call);
  let searchCount = 0;
  ExactIndex.duringSearch = async () => {
    searchCount++;
    await writer.write();
    await replica.wait(await world.append([remove([3])]), [], call);
  };
  const result = await replica.read("query", near(nothing), call);
  expect(idsOf(result)).toEqual(allIds);
  expect(result.hits.every(({ version }) => version === before)).toBe(true);
  expect(searchCount).toBe(1);
  writer.check(result, nothing);
});

test.each([
  ["payload", payloadOnly],
  ["vectors", everything],
])("a query with %s that every search of which is overtaken ends while the applier stands still", async (_, select) => {
  world = await World.make();
  const replica = await world.open();
  const writer = new Writer();
  await replica.wait(await writer.write(), [], call);
  overtakeSearches(replica, writer);
  for (let round = 0; round < 3; round++) {
    const result = await replica.read("query", near(select), call);
    expect(idsOf(result)).toEqual(allIds);
    writer.check(result, select);
  }
});

test("a search that begins while a batch becomes visible, and finds both rows of its points, is run again", async () => {
  let beginLate: (() => void) | undefined;
  world = await World.make();
  const replica = await world.open({
    indexes: {
      ...exactIndexes,
      create: (options) => {
        const index = new ExactIndex(options);
        const search = index.search.bind(index);
        const removeRows = index.remove.bind(index);
        let isFirst = true;
        index.search = (query, wanted) => {
          if (!isFirst) return search(query, wanted);
          isFirst = false;
          return new Promise((resolve) => {
            beginLate = () => resolve(search(query, wanted));
          });
        };
        index.remove = (slots) => {
          beginLate?.();
          removeRows(slots);
        };
        return index;
      },
    },
  });
  const writer = new Writer();
  await replica.wait(await writer.write(), [], call);
  const k = 4;
  const asked = replica.read("query", near(nothing, k), call);
  await eventually("the search", () => beginLate !== undefined);
  await replica.wait(await writer.write(), [], call);
  const result = await asked;
  expect(idsOf(result)).toEqual(allIds.slice(0, k));
  writer.check(result, nothing);
});

test("the log is applied while queries hold the applier up without a pause, and the queries end", async () => {
  world = await World.make();
  const replica = await world.open();
  const writer = new Writer();
  await replica.wait(await writer.write(), [], call);
  ExactIndex.duringSearch = async () => {
    await writer.write();
    await sleep(systemClock, 1);
  };
  let isEnough = false;
  let answerCount = 0;
  const ask = async (): Promise<void> => {
    while (!isEnough) {
      const result = await replica.read("query", near(payloadOnly), call);
      expect(idsOf(result)).toEqual(allIds);
      writer.check(result, payloadOnly);
      answerCount++;
    }
  };
  const asked = Promise.all([ask(), ask(), ask(), ask()]);
  for (let round = 0; round < 20; round++) {
    const answersBefore = answerCount;
    await replica.wait(await writer.write(), [], call);
    await eventually("more answers", () => answerCount > answersBefore + 1);
  }
  isEnough = true;
  await asked;
});

test("a replica closes while its applier waits for a query", async () => {
  world = await World.make();
  let batchCount = 0;
  const replica = await world.open({}, async (directory) => {
    const store = await PointStore.open(directory);
    const heads = store.heads.bind(store);
    store.heads = async (ids) => {
      const found = await heads(ids);
      batchCount++;
      return found;
    };
    return store;
  });
  const writer = new Writer();
  await replica.wait(await writer.write(), [], call);
  const gate = deferred<void>();
  let searchCount = 0;
  ExactIndex.duringSearch = async () => {
    if (++searchCount === 3) await gate.promise;
    else await replica.wait(await writer.write(), [], call);
  };
  const refused = expect(replica.read("query", near(payloadOnly), call)).rejects.toMatchObject({
    code: "SHARD_UNAVAILABLE",
  });
  await eventually("the last attempt", () => searchCount === 3);
  expect(replica.appliedSequence).toBe(3);
  await writer.write();
  await eventually("the batch that waits", () => batchCount === 4);
  await replica.close();
  expect(replica.appliedSequence).toBe(3);
  gate.resolve();
  await refused;
});

test("an index that finds dead rows although nothing is written fails the query, not silently", async () => {
  world = await World.make();
  const replica = await world.open({
    indexes: {
      ...exactIndexes,
      create: (options) => Object.assign(new ExactIndex(options), { remove: () => undefined }),
    },
  });
  const writer = new Writer();
  for (let round = 0; round < 2; round++) await replica.wait(await writer.write(), [], call);
  await expect(replica.read("query", near(payloadOnly), call)).rejects.toThrow(/dead before the search began/);
});
