import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { deferred, systemClock, systemRandom } from "../../base/index.js";
import { idMapKey } from "../../model/index.js";
import { PointStore } from "../../storage/index.js";
import { encodeRecord, type ipb } from "../../wire/index.js";
import { Applier } from "../apply/applier.js";
import { Reader } from "../read/reader.js";
import { openReplica } from "../recover/recovery.js";
import type { Schema } from "../recover/schema.js";
import { indexDirectory } from "../replica/layout.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { type Alarm, defaultTuning, type IndexFactory, type ReplicaTuning } from "../replica/options.js";
import { ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";
import {
  call,
  collectionOf,
  eventually,
  factories,
  field,
  nothing,
  remove,
  upsert,
} from "../testing/harness.fixture.js";
import { PayloadLengthKind, PayloadLengths } from "../testing/payload-length-index.fixture.js";
import { DenseKind, type DenseRows } from "./dense-index.js";
import type { IndexKind, WalkedRows } from "./derived-index.js";
import { kindsOf } from "./kinds.js";
import { Maintenance } from "./maintenance.js";

/** The life of derived indexes, of whatever kind: open replicas without a log, whose indexes the tests choose. */

const collection = collectionOf(field(), field("other", 3));
type Choose = (schema: Schema) => IndexKind[];

interface Opened {
  replica: OpenReplica;
  applier: Applier;
  maintenance: Maintenance;
  reader: Reader;
}

let root: string;
let alarms: Alarm[];
const opened = new Set<OpenReplica>();
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "kith-indexes-"));
  alarms = [];
});
afterEach(async () => {
  for (const replica of opened) await replica.close();
  opened.clear();
  await rm(root, { recursive: true, force: true });
});

interface OpenOptions {
  name?: string;
  tuning?: Partial<ReplicaTuning>;
}

const directoryOf = (name = "a"): string => join(root, name);
const files = async (): Promise<string[]> => (await readdir(directoryOf())).sort();

async function open(kinds: Choose, { name, tuning }: OpenOptions = {}): Promise<Opened> {
  const parts: { maintenance?: Maintenance } = {};
  const replica = await openReplica(
    {
      directory: directoryOf(name),
      clock: systemClock,
      random: systemRandom,
      closing: new AbortController().signal,
      flushEveryMs: () => 60_000,
      tuning: { ...defaultTuning, retryInitialMs: 5, retryMaxMs: 20, ...tuning },
      onAlarm: (alarm) => alarms.push(alarm),
      onApplied: () => parts.maintenance?.check(),
      onFault: ({ kind, message }) => alarms.push({ kind, message }),
      kindsOf: kinds,
    },
    collection,
    0,
    (directory) => PointStore.open(directory),
  );
  opened.add(replica);
  const maintenance = new Maintenance(replica);
  parts.maintenance = maintenance;
  return { replica, applier: new Applier(replica), maintenance, reader: new Reader(replica) };
}

async function close({ replica, maintenance }: Opened): Promise<void> {
  replica.stop();
  await maintenance.idle();
  await replica.close();
  opened.delete(replica);
}

/** Applies one record to each. */
async function apply(all: readonly Opened[], ...operations: ipb.Operation[]): Promise<void> {
  const data = encodeRecord({ epoch: 1, appendedAtMs: 1_000, operations });
  for (const { applier, replica } of all) {
    await applier.apply([{ sequence: replica.appliedSequence + 1, data, traceparent: undefined }]);
  }
}

/** Points with payloads of many lengths, and every fifth without one. */
function items(count: number, round: number): Parameters<typeof upsert>[0] {
  return Array.from({ length: count }, (_, id) => ({
    id,
    ...((id + round) % 5 !== 0 && { payload: "x".repeat((id * 7 + round) % 10) }),
    vectors: { "": [id, round, 0, 0], other: [-id, 1, round] },
  }));
}

/** Writes 2000 points, then writes some of them again and deletes others. */
async function write(all: readonly Opened[], round: number): Promise<void> {
  await apply(all, ...[1_000, 2_000].map((count) => upsert(items(count, round))));
  await apply(all, upsert(items(300, round + 1)), remove([5, 700 + round, 701 + round]));
}

const lengthsOnly: Choose = () => [new PayloadLengthKind()];

function lengthsOf({ replica }: Opened): PayloadLengths {
  const serving = replica.indexes.get("length", "0")?.serving;
  if (!(serving instanceof PayloadLengths)) throw new Error("there is no index of payload lengths");
  return serving;
}

/** Compares what the index finds with what the store says. */
async function expectLengths(one: Opened): Promise<void> {
  const expected = new Map<number, number[]>();
  for await (const { heads } of one.replica.store.scanHeads()) {
    for (const { slot, payloadBytes } of heads) {
      if (payloadBytes > 0) expected.set(payloadBytes, [...(expected.get(payloadBytes) ?? []), slot]);
    }
  }
  expect(expected.size).toBeGreaterThan(5);
  const index = lengthsOf(one);
  const found = new Map([...expected.keys()].map((length) => [length, index.find(length)]));
  expect(found).toEqual(new Map([...expected].map(([length, slots]) => [length, slots.sort((a, b) => a - b)])));
  expect(index.stats().aliveCount).toBe([...expected.values()].flat().length);
}

/** The 40 points next to the vector, found by the scan. */
async function nearest({ reader }: Opened, name: string, ...vector: number[]): Promise<unknown[]> {
  const query = { field: name, vector: Float32Array.from(vector), k: 40, ef: 0, exact: true, minSequence: 0 };
  const { hits } = await reader.query({ ...query, select: nothing }, call);
  return hits.map(({ id, score, version }) => [idMapKey(id), score, version]);
}

describe("a kind that is not dense", () => {
  test("is kept by batches, and brought up to date from its checkpoint", async () => {
    let one = await open(lengthsOnly);
    await write([one], 0);
    await expectLengths(one);
    await one.maintenance.checkpoint();
    // So few rows are read back one by one.
    await apply([one], upsert(items(50, 3)), remove([60, 61]));
    await close(one);
    one = await open(lengthsOnly);
    await expectLengths(one);
    // The checkpoint was used: what died since is still counted.
    expect(one.replica.indexes.stats()[0]?.deadCount).toBeGreaterThan(0);
    // And so many in a walk through all.
    await apply([one], upsert(items(4_000, 4)));
    await close(one);
    one = await open(lengthsOnly);
    await expectLengths(one);
    expect(alarms).toEqual([]);
    expect(await files()).toEqual(["db", "index-length-0"]);
  });

  test("gets a new generation without its dead rows, while batches are applied", async () => {
    const one = await open(lengthsOnly);
    await write([one], 0);
    const before = lengthsOf(one);
    const rebuilt = one.maintenance.rebuild();
    await write([one], 2);
    await rebuilt;
    expect(lengthsOf(one)).not.toBe(before);
    await expectLengths(one);
    await one.maintenance.rebuild();
    expect(one.replica.indexes.stats()).toMatchObject([{ kind: "length", holdsVectors: false, deadCount: 0 }]);
    await write([one], 4);
    await expectLengths(one);
    await close(one);
    await expectLengths(await open(lengthsOnly));
    expect(alarms).toEqual([]);
  });

  test("is dropped with its files, beside others that go on", async () => {
    const dense: Choose = (schema) => kindsOf(schema, exactIndexes, systemClock, directoryOf());
    let one = await open((schema) => [...dense(schema), new PayloadLengthKind()]);
    await write([one], 0);
    await one.maintenance.checkpoint();
    const kept = ["db", "index-dense-0", "index-dense-1"];
    expect(await files()).toEqual([...kept, "index-length-0"]);
    await one.replica.indexes.drop("length", "0");
    expect(await files()).toEqual(kept);
    await write([one], 2);
    await one.maintenance.checkpoint();
    await close(one);
    expect(await files()).toEqual(kept);
    // What a killed process has left of a dropped index goes at the next start.
    await cp(join(directoryOf(), "index-dense-1"), join(directoryOf(), "index-length-0"), { recursive: true });
    one = await open(dense);
    expect(await files()).toEqual(kept);
    expect(await nearest(one, "", 7, 2, 0, 0)).toHaveLength(40);
    expect(alarms).toEqual([]);
  });

  test("is filled from the store where its checkpoint is of another one", async () => {
    const one = await open(lengthsOnly);
    const other = await open(lengthsOnly, { name: "b" });
    await write([one, other], 0);
    await other.maintenance.checkpoint();
    await write([one, other], 1);
    await close(one);
    await close(other);
    const [from = "", to = ""] = ["b", "a"].map((name) => indexDirectory(directoryOf(name), new PayloadLengthKind()));
    await cp(from, to, { recursive: true });
    await expectLengths(await open(lengthsOnly));
    expect(alarms.map(({ kind }) => kind)).toEqual(["checkpoint_dropped"]);
    await expectLengths(await open(lengthsOnly, { name: "b" }));
    expect(alarms).toHaveLength(1);
  });
});

/** The index of the field "other", whose walk through the store waits after the first chunk. */
class PausedKind extends DenseKind {
  readonly begun = deferred<void>();
  readonly goesOn = deferred<void>();

  override async *walk(store: PointStore): AsyncGenerator<WalkedRows<DenseRows>> {
    for await (const chunk of super.walk(store)) {
      yield chunk;
      this.begun.resolve();
      await this.goesOn.promise;
    }
  }
}

const otherOf = (factory: IndexFactory): PausedKind =>
  new PausedKind(1, field("other", 3), 0, factory, directoryOf(), false);

describe.each(factories)("a vector field's index on the %s", (_, factory) => {
  const all: Choose = (schema) => kindsOf(schema, factory, systemClock, directoryOf());
  const first: Choose = (schema) => all(schema).slice(0, 1);

  test("is asked again where it was built anew while a query ran", async () => {
    const one = await open(first);
    await apply([one], upsert(items(200, 0)));
    await apply([one], remove([3, 7, 90]));
    const index = one.replica.indexes.vectors("");
    const before = index?.serving;
    if (before === undefined) throw new Error("there is no index");
    const expected = await nearest(one, "", 9, 3, 0, 0);
    let searches = 0;
    // All rows of the first answer are tied, so that there is a second one, of an index that is closed by then.
    const search = before.search.bind(before);
    before.search = async (vector, options) => {
      searches++;
      const result = await search(vector, options);
      await one.maintenance.rebuild();
      expect(index?.serving).not.toBe(before);
      return { ...result, distances: result.distances.map(() => 1) };
    };
    expect(await nearest(one, "", 9, 3, 0, 0)).toEqual(expected);
    expect(searches).toBe(2);
  });

  test("is added to a set in use, and then finds what an index finds that was there from the start", async () => {
    const tuning = { deadRows: Infinity };
    let live = await open(first, { tuning });
    const fresh = await open(all, { name: "fresh" });
    const both = [live, fresh];
    // More than one chunk of a walk.
    await apply(both, upsert(items(6_000, 0)));
    await write(both, 0);
    await expect(nearest(live, "other", 0, 1, 0)).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
    const kind = otherOf(factory);
    live.replica.indexes.add(kind);
    await expect(nearest(live, "other", 0, 1, 0)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    const indexed = live.replica.indexes.flush(undefined);
    live.maintenance.check();
    await kind.begun.promise;
    for (let round = 1; round < 4; round++) {
      await write(both, round);
      await apply(
        both,
        remove([5_900 + round, 5_990]),
        upsert([{ id: 5_990 + round, vectors: { other: [1, round, 0] } }]),
      );
      expect(await nearest(live, "", 9, 3, 0, 0)).toEqual(await nearest(fresh, "", 9, 3, 0, 0));
    }
    kind.goesOn.resolve();
    await indexed;
    const expectEqual = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) {
        const vector = [-311 * n, 1, n % 4] as const;
        expect(await nearest(live, "other", ...vector)).toEqual(await nearest(fresh, "other", ...vector));
      }
    };
    await expectEqual();
    await write(both, 5);
    await expectEqual();
    await live.maintenance.idle();
    await close(live);
    // Its first checkpoint was written when it was built.
    expect(await files()).toEqual(["db", "index-dense-0", "index-dense-1"]);
    live = await open((schema) => all(schema).slice(1), { tuning });
    both[0] = live;
    expect(await files()).toEqual(["db", "index-dense-1"]);
    await expectEqual();
    expect(live.replica.indexes.stats()[0]?.deadCount).toBeGreaterThan(0);
    expect(alarms).toEqual([]);
  });

  test("is not left half built where it is dropped meanwhile", async () => {
    const one = await open(first);
    await apply([one], upsert(items(6_000, 0)));
    const kind = otherOf(factory);
    one.replica.indexes.add(kind);
    const indexed = one.replica.indexes.flush(undefined);
    one.maintenance.check();
    await kind.begun.promise;
    const dropped = one.replica.indexes.drop("dense", "1");
    await indexed;
    await write([one], 1);
    kind.goesOn.resolve();
    await dropped;
    await one.maintenance.idle();
    await one.maintenance.checkpoint();
    expect(await files()).toEqual(["db", "index-dense-0"]);
    expect(one.replica.indexes.stats().map(({ label }) => label)).toEqual(['vector field ""']);
    expect(alarms).toEqual([]);
  });

  test("is right from an older checkpoint too, although slots were given out again since", async () => {
    const [from, aside] = [indexDirectory(directoryOf(), { name: "dense", key: "1" }), join(root, "aside")];
    const kinds: Choose = (schema) => [...all(schema), new PayloadLengthKind()];
    let one = await open(kinds);
    await write([one], 0);
    await one.maintenance.rebuild();
    await cp(directoryOf(), aside, { recursive: true });
    await write([one], 1);
    await one.maintenance.rebuild();
    // These take slots that points of the older checkpoint had; some have no payload, or no vector of the field.
    await apply([one], upsert(items(1_500, 2)), remove([77]));
    await apply([one], upsert([10, 11, 12].map((id) => ({ id, vectors: { "": [id, 9, 9, 9] } }))));
    const before = await nearest(one, "other", -20, 1, 0);
    await close(one);
    for (const name of ["index-dense-0", "index-dense-1", "index-length-0"]) {
      await rm(join(directoryOf(), name), { recursive: true });
      await cp(join(aside, name), join(directoryOf(), name), { recursive: true });
    }
    expect(await readdir(from)).not.toEqual([]);
    one = await open(kinds);
    expect(await nearest(one, "other", -20, 1, 0)).toEqual(before);
    await expectLengths(one);
    expect(alarms).toEqual([]);
  });
});

test("a first build that fails is told and tried again, without another batch", async () => {
  let builds = 0;
  class Failing extends ExactIndex {
    readonly #fails = builds++ < 2;
    override add(slots: Uint32Array, vectors: Float32Array): Promise<void> {
      return this.#fails ? Promise.reject(new Error("no memory")) : super.add(slots, vectors);
    }
  }
  const one = await open((schema) => kindsOf(schema, exactIndexes, systemClock, directoryOf()).slice(0, 1));
  await write([one], 0);
  one.replica.indexes.add(
    new DenseKind(
      1,
      field("other", 3),
      0,
      { ...exactIndexes, create: (options) => new Failing(options) },
      directoryOf(),
      false,
    ),
  );
  one.maintenance.check();
  await eventually("the index is built", () => one.replica.indexes.vectors("other")?.serving !== undefined);
  expect(alarms.map(({ kind, message }) => [kind, /no memory/.test(message)])).toEqual(
    Array(2).fill(["maintenance_failed", true]),
  );
  expect(await nearest(one, "other", 0, 1, 0)).toHaveLength(40);
});
