/**
 * Answers that are kept, against a model: over a random history of writes, expiries and generations, with reads beside them, each answer is that of what is applied when it is asked
 * for, and to the caller's own rule, k and ef, whatever others have asked before.
 */
import { afterEach, expect, test } from "vitest";
import type { SearchOptions, SearchResult } from "../../ann/index.js";
import { deferred, SeededRandom, systemClock, withAbort } from "../../base/index.js";
import { ShiftedClock } from "../../base/testing.js";
import { parseFilter } from "../../filter/index.js";
import { schemaChangeToWire } from "../../wire/index.js";
import type { IndexFactory, Replica } from "../index.js";
import { ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  everything,
  field,
  idOf,
  operationOf,
  remove,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";

const seed = Number(process.env["KITH_SEED"] ?? 47);
let world: World;
afterEach(() => world.end());

const farther = 1_000;
/** Until then the generation of these is not whole. */
let whole = deferred<void>();

/** Answers tell which generation they are of. */
class Farther extends ExactIndex {
  override async search(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    const found = await super.search(query, options);
    return { ...found, distances: found.distances.map((distance) => distance + farther) };
  }

  override flush(signal?: AbortSignal): Promise<void> {
    return withAbort(whole.promise, signal);
  }
}

const indexes: IndexFactory = {
  ...exactIndexes,
  create: (options) => (options.datatype === "f16" ? new Farther(options) : exactIndexes.create(options)),
};

interface Point {
  x: number;
  tenant: number;
  expiresAtMs?: number | undefined;
}

interface State {
  points: ReadonlyMap<number, Point>;
  isFarther: boolean;
}

const tenants = 3;

test(`each answer is that of what is applied (seed ${seed})`, async () => {
  const random = new SeededRandom(seed);
  world = await World.make({ collection: collectionOf(field()), indexes });
  const clock = new ShiftedClock(systemClock);
  const replica = await active(await world.open({ clock, tuning: { answerCacheBytes: 200_000 } }));
  let state: State = { points: new Map(), isFarther: false };
  let last = 0;
  let version = 1;
  const write = async (operation: Parameters<World["append"]>[0][number], next: State): Promise<void> => {
    last = await world.append([operation]);
    state = next;
  };
  const change = async (step: object, next: State): Promise<void> => {
    const value = schemaChangeToWire({ ...step, version: ++version } as Parameters<typeof schemaChangeToWire>[0]);
    await write(operationOf({ $case: "changeSchema", value }), next);
  };
  let generation = 0;
  const step = async (): Promise<void> => {
    const points = new Map(state.points);
    const id = random.below(12);
    switch (random.below(6)) {
      case 0: {
        points.delete(id);
        return write(remove([id]), { ...state, points });
      }
      case 1: {
        const point = points.get(id);
        // One that has expired is removed by the replica at a time of its own, on a busy machine within this test.
        if (point === undefined || (point.expiresAtMs ?? Infinity) <= clock.nowMs()) return;
        const expiresAtMs = clock.nowMs() + 60_000 * (1 + random.below(3));
        points.set(id, { ...point, expiresAtMs });
        const value = { target: target({ ids: [id] }), expiresAtMs };
        return write(operationOf({ $case: "setExpiry", value }), { ...state, points });
      }
      default: {
        // No two are as far from a query.
        const point = { x: 100 * random.below(9) + 7 * id + 0.25, tenant: random.below(tenants) };
        points.set(id, point);
        const item = { id, vector: [point.x, 0, 0, 0], payload: { tenant: point.tenant } };
        return write(upsert([item]), { ...state, points });
      }
    }
  };
  const check = async (): Promise<void> => {
    for (let i = 0; i < 24; i++) {
      const asked = askedOf(random);
      expect([asked, await read(replica, asked)]).toEqual([asked, expected(asked, state, clock.nowMs())]);
    }
  };
  for (let round = 0; round < 60; round++) {
    // Of what is read beside writes each answer may be of before or after them. None of it may be kept as that of after.
    const reading: Promise<unknown>[] = [];
    for (let i = random.below(4); i >= 0; i--) {
      reading.push(...Array.from({ length: 3 }, () => read(replica, askedOf(random))));
      await step();
    }
    await Promise.all([...reading, replica.wait(last, [], call)]);
    await check();
    if (random.below(4) === 0) {
      // Nothing is applied, and points have expired.
      clock.pass(61_000);
      await check();
    }
    if (round % 20 === 10) {
      const build = { datatype: "f16", m: 8, efConstruction: 64, originals: false };
      await change({ kind: "beginGeneration", name: "", plan: {}, build }, state);
      await change({ kind: "switchGeneration", name: "", generation: ++generation }, state);
      await replica.wait(last, [], call);
      // It is not whole yet: the one before answers.
      await check();
      whole.resolve();
      await eventually("it is whole", () =>
        replica.status().generations?.some(({ number, isReady }) => number === generation && isReady),
      );
      state = { ...state, isFarther: true };
      await check();
      whole = deferred();
    }
    if (round % 20 === 15) {
      await change({ kind: "switchGeneration", name: "", generation: 0 }, { ...state, isFarther: false });
      await change({ kind: "dropGeneration", name: "", generation }, state);
    }
  }
  expect(world.alarms).toEqual([]);
});

interface Asked {
  /** Of a caller that sees one tenant; undefined for one that sees all. */
  tenant: number | undefined;
  /** The number of points is asked for. */
  isCount: boolean;
  x: number;
  k: number;
  ef: number;
}

/** So few different ones that most have been asked before. */
function askedOf(random: SeededRandom): Asked {
  const own = random.below(tenants + 1);
  return {
    tenant: own === tenants ? undefined : own,
    isCount: random.below(4) === 0,
    ...{ x: 10 * random.below(2), k: 1 + random.below(2), ef: 64 + random.below(2) },
  };
}

interface Answer {
  count: number;
  scores: number[];
  /** Ids with their payloads. */
  points: string[];
}

async function read(replica: Replica, { tenant, isCount, x, k, ef }: Asked): Promise<Answer> {
  const filter = tenant === undefined ? undefined : parseFilter(`tenant = ${tenant}`);
  if (isCount) {
    const { count } = await replica.read("count", { filter, minSequence: 0 }, call);
    return { count, scores: [], points: [] };
  }
  const asked = { field: "", k, ef, exact: false, select: everything, minSequence: 0 };
  const vector = Float32Array.of(x, 0, 0, 0);
  const scope = { scorer: { kind: "nearest", vector }, filter, ids: undefined, exclude: [] } as const;
  const { hits } =
    filter === undefined
      ? await replica.read("query", { ...asked, vector }, call)
      : await replica.read("search", { ...asked, ...scope }, call);
  return {
    count: hits.length,
    scores: hits.map(({ score }) => Math.fround(score)),
    points: hits.map(({ id, payload }) => nameOf(Buffer.from(id), Buffer.from(payload).toString())),
  };
}

function nameOf(id: Buffer, payload: string): string {
  return `${id.toString("hex")} ${payload}`;
}

function expected({ tenant, isCount, x, k }: Asked, { points, isFarther }: State, nowMs: number): Answer {
  const visible = [...points].filter(
    ([, { tenant: own, expiresAtMs }]) =>
      (tenant === undefined || tenant === own) && (expiresAtMs === undefined || expiresAtMs > nowMs),
  );
  if (isCount) return { count: visible.length, scores: [], points: [] };
  const more = isFarther ? farther : 0;
  const near = visible
    .map(([id, point]) => ({ id, point, score: Math.fround(Math.sqrt((point.x - x) ** 2 + more)) }))
    .sort((a, b) => a.score - b.score || a.id - b.id)
    .slice(0, k);
  return {
    count: near.length,
    scores: near.map(({ score }) => score),
    points: near.map(({ id, point }) => nameOf(idOf(id), JSON.stringify({ tenant: point.tenant }))),
  };
}
