import { randomBytes } from "node:crypto";
import { readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred, KithError, sleep, systemClock } from "../../base/index.js";
import type { Log } from "../../log/index.js";
import { type Snapshot, type SnapshotChunk, sparseOf, sparseToBytes, type SparseVector } from "../../model/index.js";
import { PointStore, StoreCopy } from "../../storage/index.js";
import {
  active,
  call,
  eventually,
  field,
  collectionOf,
  given,
  operationOf,
  recomputed,
  upsert,
  remove,
  target,
  World,
} from "../testing/harness.fixture.js";
import type { Peers, Replica } from "../index.js";

/** A replica that its log does not lead on takes the content of another one. */

let world: World;
let healthy: Replica;
beforeEach(async () => {
  const tokens = { ...field("tokens", 2), multivector: "maxSim" as const };
  const collection = { ...collectionOf(field(), field("other", 3), tokens), sparseFields: [{ name: "words" }] };
  world = await World.make({ collection });
});
afterEach(() => world.end());

const kinds = (): string[] => world.alarms.map(({ kind }) => kind);

function words(n: number): SparseVector {
  return sparseOf([1, 10 + (n % 3), 4_000_000_000], [1, 1 + n, -0.5], () => "");
}

/** Writes `count` records of points with every shape that there is. */
async function write(count: number): Promise<number> {
  let last = 0;
  for (let n = 0; n < count; n++) {
    const vector = [n, 1, 0, 0];
    last = await world.append([
      upsert([{ id: 2 * n, vectors: { "": vector, other: [n, 0, 1] }, payload: { n } }]),
      upsert([{ id: 2 * n + 1, vector }]),
      // Parts beside the vectors of single rows: a matrix and a sparse vector.
      operationOf({
        $case: "updateVectors",
        value: {
          target: target({ ids: [2 * n + 1] }),
          vectors: [{ name: "tokens", matrix: Buffer.from(Float32Array.of(n, 1, 1, n + 1).buffer), rows: [2] }],
          sparse: [{ name: "words", vectors: [sparseToBytes(words(n))] }],
        },
      }),
      remove([2 * Math.max(0, n - 2)]),
    ]);
  }
  return last;
}

/** Peers that give what `healthy` has, changed by `change`. */
function peers(change: (snapshot: Snapshot) => Snapshot = (snapshot) => snapshot): Peers {
  return { fetch: async (wanted) => ({ ...change(await given(healthy, wanted)), from: "peer" }) };
}

/** Flips a byte in the store of the closed replica "b". */
async function damageFirstHead(): Promise<void> {
  const database = new ClassicLevel<Uint8Array, Uint8Array>(join(world.replicaDirectory("b"), "db"), {
    keyEncoding: "view",
    valueEncoding: "view",
  });
  const [entry] = await database.iterator({ gte: Buffer.from([1]), lt: Buffer.from([2]) }).all();
  const [key, value] = entry as [Uint8Array, Uint8Array];
  await database.put(
    key,
    value.map((byte, i) => (i === 3 ? byte ^ 0x40 : byte)),
  );
  await database.close();
}

async function expectCopy(replica: Replica, at: number): Promise<void> {
  await eventually("a copy", () => kinds().includes("copied"));
  await active(replica);
  await replica.wait(at, [], call);
  await healthy.wait(at, [], call);
  const { appliedSequence, pointCount, digest, fault } = replica.status();
  expect({ appliedSequence, pointCount, digest, fault }).toEqual({
    appliedSequence: at,
    pointCount: healthy.status().pointCount,
    digest: healthy.status().digest,
    fault: "",
  });
  expect(await recomputed(replica, ["tokens"])).toEqual({ digest, pointCount });
  const query = { field: "", vector: Float32Array.of(5, 1, 0, 0), k: 20, ef: 64, exact: false, minSequence: at };
  const asked = { ...query, select: { payload: true, vectors: "all" as const } };
  expect((await replica.read("query", asked, call)).hits).toEqual((await healthy.read("query", asked, call)).hits);
  const late = { ...asked, field: "tokens", vector: Float32Array.of(1, 0, 0, 1) };
  const common = { ...asked, field: "words", vector: words(1), filter: undefined, ids: undefined, exclude: [] };
  const best = (await replica.read("sparse", common, call)).hits;
  expect(best.length).toBeGreaterThan(0);
  expect(best).toEqual((await healthy.read("sparse", common, call)).hits);
  const nearest = (await replica.read("query", late, call)).hits;
  expect(nearest.length).toBe(best.length);
  expect(nearest).toEqual((await healthy.read("query", late, call)).hits);
}

test("one that is behind what its log still holds copies another, and follows the log from there", async () => {
  let behind = await world.open({ name: "b", peers: peers() });
  await behind.wait(await write(3), [], call);
  await behind.close();
  healthy = await world.open();
  const last = await write(20);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, last - 1);
  behind = await world.open({ name: "b", peers: peers() });
  await expectCopy(behind, last);
  await expectCopy(behind, await write(5));
  // The copy is a store like any other, and what was remembered of operations came with it.
  const id = randomBytes(16);
  const first = await world.append([upsert([{ id: 7, vector: [7, 7, 7, 7] }], { id })]);
  await behind.close();
  behind = await world.open({ name: "b" });
  const again = await world.append([upsert([{ id: 7, vector: [7, 7, 7, 7] }], { id })]);
  expect(await behind.wait(again, [id], call)).toEqual(await healthy.wait(first, [id], call));
  await expectCopy(behind, again);
  expect(kinds()).toEqual(["log_gap", "copy_started", "copied"]);
  expect((await readdir(world.replicaDirectory("b"))).sort()).toEqual([
    "db",
    "index-dense-0",
    "index-dense-1",
    "index-multi-2",
    "index-sparse-3",
    "log-incarnation",
  ]);
});

test("a new one, whose log does not begin with its first record any more, copies another", async () => {
  healthy = await world.open();
  const last = await write(12);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, 6);
  await expectCopy(await world.open({ name: "b", peers: peers() }), last);
});

test("one that cannot read a record copies another that has applied it", async () => {
  healthy = await world.open();
  const bad = await write(4);
  const { log } = world;
  const spoiled: typeof log.subscribe = (name, options) =>
    log.subscribe(name, {
      ...options,
      onEntries: (entries) =>
        options.onEntries(
          entries.map((entry) => {
            if (entry.sequence !== bad) return entry;
            return { ...entry, data: entry.data.map((byte, i) => (i === 20 ? byte ^ 1 : byte)) };
          }),
        ),
    });
  await healthy.wait(bad, [], call);
  const spoiledLog = { state: log.state.bind(log), checksum: log.checksum.bind(log), subscribe: spoiled };
  const replica = await world.open({
    name: "b",
    peers: peers(),
    log: Object.assign(Object.create(log) as typeof log, spoiledLog),
  });
  await expectCopy(replica, bad);
  await expectCopy(replica, await write(3));
  expect(kinds()).toEqual([...Array<string>(3).fill("log_misread"), "record_corrupt", "copy_started", "copied"]);
});

test("one whose log was replaced copies another that follows the new log, and keeps what it had", async () => {
  let old = await world.open({ name: "b" });
  await old.wait(await write(6), [], call);
  await old.close();
  await world.log.remove(world.logName);
  await world.log.create(world.logName);
  healthy = await world.open();
  const last = await write(2);
  await healthy.wait(last, [], call);
  old = await world.open({ name: "b", peers: peers() });
  await expectCopy(old, last);
  const kept = join(world.replicaDirectory("b"), "replaced-1");
  expect(await readdir(join(kept, "db"))).toContain("CURRENT");
  expect(world.alarms.at(-1)?.message).toContain(kept);
});

test("one that waits for a copy goes on when the log that it knows is back", async () => {
  const { log } = world;
  let replica = await world.open({ name: "b" });
  const last = await write(6);
  await replica.wait(last, [], call);
  await replica.close();
  let isOther = true;
  const state: typeof log.state = async (name) => ({
    ...(await log.state(name)),
    ...(isOther && { incarnation: "another", lastSequence: 1 }),
  });
  const none: Peers = { fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "nobody has one")) };
  replica = await world.open({
    name: "b",
    peers: none,
    log: Object.assign(Object.create(log) as typeof log, {
      state,
      checksum: log.checksum.bind(log),
      subscribe: log.subscribe.bind(log),
    }),
  });
  await eventually("no copy", () => /no copy of another replica yet: nobody has one/.test(replica.status().fault));
  isOther = false;
  await active(replica);
  expect(replica.status()).toMatchObject({ appliedSequence: last, fault: "" });
});

test("a damaged store whose log is not whole any more is replaced by a copy", async () => {
  healthy = await world.open();
  let replica = await world.open({ name: "b" });
  const last = await write(10);
  await Promise.all([healthy.wait(last, [], call), replica.wait(last, [], call)]);
  await replica.close();
  await world.log.trim(world.logName, 5);
  await damageFirstHead();
  replica = await world.open({ name: "b", peers: peers() });
  await expectCopy(replica, last);
  expect(kinds()).toEqual(["store_corrupt", "store_corrupt", "copy_started", "copied"]);
});

const withChunks = (snapshot: Snapshot, change: (chunk: SnapshotChunk) => SnapshotChunk): Snapshot => ({
  ...snapshot,
  chunks: (async function* () {
    for await (const chunk of snapshot.chunks) yield change(chunk);
  })(),
});
const without = (chunk: SnapshotChunk, isLost: (key: Uint8Array) => boolean): SnapshotChunk => ({
  keys: chunk.keys.filter((key) => !isLost(key)),
  values: chunk.values.filter((_, i) => !isLost(chunk.keys[i] as Uint8Array)),
});
let lost: string | undefined;
const damages: [string, (snapshot: Snapshot) => Snapshot, RegExp][] = [
  [
    "has a flipped byte",
    (snapshot) =>
      withChunks(snapshot, ({ keys, values }) => ({
        keys,
        values: values.map((value, n) => (n === 9 ? value.map((byte, i) => (i === 3 ? byte ^ 1 : byte)) : value)),
      })),
    /wrong checksum/,
  ],
  ...(
    [
      ["a point", 1],
      ["a vector", 2],
      ["a payload", 3],
      ["its state", 0],
    ] as const
  ).map(([what, family]): (typeof damages)[number] => [
    `lacks ${what}`,
    (snapshot) => {
      lost = undefined;
      return withChunks(snapshot, (chunk) =>
        without(chunk, (key) => {
          const hex = Buffer.from(key).toString("hex");
          if (key[0] === family) lost ??= hex;
          return hex === lost;
        }),
      );
    },
    /not complete/,
  ]),
  [
    "comes twice",
    (snapshot) =>
      withChunks(snapshot, ({ keys, values }) => ({ keys: [...keys, ...keys], values: [...values, ...values] })),
    /out of order/,
  ],
  [
    "breaks off",
    (snapshot) =>
      withChunks(snapshot, () => {
        throw new KithError("SHARD_UNAVAILABLE", "the connection is lost");
      }),
    /connection is lost/,
  ],
  [
    "is of a newer format",
    (snapshot) => ({ ...snapshot, manifest: { ...snapshot.manifest, format: 99 } }),
    /the copy was written by a newer release \(format 99\); this release reads up to 2/,
  ],
  [
    "is of an older format",
    (snapshot) => ({ ...snapshot, manifest: { ...snapshot.manifest, format: 1 } }),
    /the copy was written by an older release \(format 1\), and this one copies format 2/,
  ],
  [
    "is ahead of the log",
    (snapshot) => ({ ...snapshot, manifest: { ...snapshot.manifest, sequence: 1_000 } }),
    /has applied 1000, and the log ends at 10/,
  ],
];

test.each(damages)("a snapshot that %s replaces nothing, and another one is asked for", async (_, damage, reason) => {
  let behind = await world.open({ name: "b" });
  await behind.wait(await write(2), [], call);
  const { digest } = behind.status();
  await behind.close();
  healthy = await world.open();
  const last = await write(8);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, last);
  let isDamaged = true;
  behind = await world.open({ name: "b", peers: peers((snapshot) => (isDamaged ? damage(snapshot) : snapshot)) });
  await eventually("a refusal", () => reason.test(behind.status().fault));
  expect(behind.status()).toMatchObject({ state: "stale", digest, appliedSequence: 2 });
  await behind.close();
  // Nothing of it is left, and the next life begins with what there was.
  expect((await readdir(world.replicaDirectory("b"))).filter((name) => /copy|replaced/.test(name))).toEqual([]);
  isDamaged = false;
  behind = await world.open({ name: "b", peers: peers() });
  await expectCopy(behind, last);
});

test("one that is closed while it copies keeps what it had", async () => {
  let behind = await world.open({ name: "b" });
  await behind.wait(await write(2), [], call);
  await behind.close();
  healthy = await world.open();
  const last = await write(8);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, last);
  const copying = deferred<void>();
  const gate = deferred<void>();
  const slow = peers((snapshot) => ({
    ...snapshot,
    chunks: (async function* () {
      for await (const chunk of snapshot.chunks) {
        yield chunk;
        copying.resolve();
        await gate.promise;
      }
    })(),
  }));
  behind = await world.open({ name: "b", peers: slow });
  await copying.promise;
  expect(behind.status().fault).toMatch(/it copies the replica of peer: \d+ points as of record 10; 0 MiB so far/);
  const closed = behind.close();
  gate.resolve();
  await closed;
  behind = await world.open({ name: "b", peers: peers() });
  expect(world.alarms.filter(({ kind }) => kind === "log_gap")).toHaveLength(2);
  await expectCopy(behind, last);
});

test("one that is not active, or of another log, or not far enough gives no snapshot", async () => {
  healthy = await world.open();
  const last = await write(3);
  await healthy.wait(last, [], call);
  const { incarnation } = await world.log.state(world.logName);
  const unfit = { code: "SHARD_UNAVAILABLE", message: expect.stringContaining("cannot give a snapshot") as string };
  await expect(healthy.snapshot({ incarnation: "x", minSequence: 0 })).rejects.toMatchObject(unfit);
  await expect(healthy.snapshot({ incarnation, minSequence: last + 1 })).rejects.toMatchObject(unfit);
  await world.appendRaw(Buffer.from("no record"));
  await eventually("stale", () => healthy.status().state === "stale");
  await expect(healthy.snapshot({ incarnation, minSequence: 0 })).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
});

test("a snapshot is of one moment, whatever is written while it is read", async () => {
  healthy = await world.open();
  const at = await write(10);
  await healthy.wait(at, [], call);
  await world.log.trim(world.logName, at);
  const { digest } = healthy.status();
  let count = 0;
  const beside = peers((snapshot) => ({
    ...snapshot,
    chunks: (async function* () {
      for await (const chunk of snapshot.chunks) {
        if (count++ === 0) await healthy.wait(await write(4), [], call);
        yield chunk;
      }
    })(),
  }));
  const replica = await world.open({ name: "b", peers: beside });
  await eventually("a copy", () => kinds().includes("copied"));
  expect(world.alarms.find(({ kind }) => kind === "copied")?.message).toContain(`as of record ${at}`);
  await expectCopy(replica, at + 4);
  expect(healthy.status().digest).not.toBe(digest);
});

test("a snapshot that nobody reads to its end holds nothing open", async () => {
  const counts = { begun: 0, ended: 0 };
  healthy = await world.open({}, async (directory) => {
    const store = await PointStore.open(directory);
    const take = store.snapshot.bind(store);
    store.snapshot = () => {
      const snapshot = take();
      const chunks = snapshot.chunks.bind(snapshot);
      snapshot.chunks = async function* () {
        counts.begun++;
        try {
          yield* chunks();
        } finally {
          counts.ended++;
        }
      };
      return snapshot;
    };
    return store;
  });
  await healthy.wait(await write(10), [], call);
  const { incarnation } = await world.log.state(world.logName);
  for (let round = 0; round < 3; round++) {
    const snapshot = await healthy.snapshot({ incarnation, minSequence: 0 });
    for await (const chunk of snapshot.chunks()) {
      expect(chunk.keys.length).toBeGreaterThan(0);
      break;
    }
    await snapshot.close();
  }
  expect(counts).toEqual({ begun: 3, ended: 3 });
});

/** A log that was put back to its first `kept` records and went on: the same incarnation, other records. */
async function putBack(kept: number): Promise<Log> {
  const { incarnation } = await world.log.state(world.logName);
  const other = { collectionId: "c2", shard: 0 };
  await world.log.create(other);
  const records: Uint8Array[] = [];
  const reader = world.log.subscribe(world.logName, {
    fromSequence: 1,
    onEntries: async (entries) => void records.push(...entries.map(({ data }) => data)),
    onFault: () => undefined,
    onError: () => undefined,
  });
  await eventually("the records", () => records.length >= kept);
  await reader.close();
  for (const [i, data] of records.slice(0, kept).entries()) await world.log.append(other, data, { messageId: `${i}` });
  world.log.append = (
    (append) => (_name, data, options) =>
      append(other, data, options)
  )(world.log.append.bind(world.log));
  const log: Pick<Log, "state" | "checksum" | "subscribe"> = {
    state: async () => ({ ...(await world.log.state(other)), incarnation }),
    checksum: (_name, sequence) => world.log.checksum(other, sequence),
    subscribe: (_name, { incarnation: _, ...options }) => world.log.subscribe(other, options),
  };
  return log as Log;
}

test.each([0, 1, 5])(
  "one whose log was put back and went on by %i records beyond it copies another, and keeps what it had",
  async (beyond) => {
    let old = await world.open({ name: "b" });
    const last = await write(6);
    await old.wait(last, [], call);
    await old.close();
    const log = await putBack(3);
    const end = await write(last - 3 + beyond);
    healthy = await world.open({ log });
    await healthy.wait(end, [], call);
    old = await world.open({ name: "b", log, peers: peers() });
    await expectCopy(old, end);
    expect(kinds().filter((kind) => kind !== "log_misread")).toEqual(["log_rewound", "copy_started", "copied"]);
    expect(await readdir(world.replicaDirectory("b"))).toContain("replaced-1");
  },
);

test("one whose log was put back and went on stays stale where nobody can give a copy, however far the log goes", async () => {
  let old = await world.open({ name: "b" });
  await old.wait(await write(6), [], call);
  const { digest } = old.status();
  await old.close();
  const log = await putBack(3);
  const none: Peers = { fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "nobody has one")) };
  old = await world.open({ name: "b", log, peers: none });
  for (let round = 0; round < 3; round++) {
    await write(2);
    await eventually("no copy", () => /no copy of another replica yet: nobody/.test(old.status().fault));
    await sleep(systemClock, 30);
    expect(old.status()).toMatchObject({ state: "stale", appliedSequence: 6, digest });
  }
});

test("a log that answers wrong now and then never ends the life of a replica that could copy another", async () => {
  let wrongCount = 0;
  let replica = await world.open({ name: "b" });
  const last = await write(3);
  await replica.wait(last, [], call);
  await replica.close();
  const { log } = world;
  const state: typeof log.state = async (name) => {
    const found = await log.state(name);
    return wrongCount-- > 0 ? { ...found, lastSequence: 1 } : found;
  };
  const none: Peers = { fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "nobody has one")) };
  for (let round = 0; round < 6; round++) {
    wrongCount = 4;
    let ended: (() => void) | undefined;
    const subscribe: typeof log.subscribe = (name, options) => {
      ended = () => options.onError(new KithError("LOG_UNAVAILABLE", "read again"));
      return log.subscribe(name, options);
    };
    if (round === 0) {
      replica = await world.open({
        name: "b",
        peers: none,
        log: Object.assign(Object.create(log) as typeof log, { state, checksum: log.checksum.bind(log), subscribe }),
      });
    }
    await active(replica);
    ended?.();
  }
  expect(kinds().filter((kind) => kind === "log_rewound").length).toBeGreaterThan(0);
});

test("a whole copy that was not yet in its place is taken, one that is not whole is removed", async () => {
  healthy = await world.open();
  const last = await write(8);
  await healthy.wait(last, [], call);
  let replica = await world.open({ name: "b" });
  await replica.wait(last, [], call);
  await replica.close();
  await world.log.trim(world.logName, last);
  const directory = world.replicaDirectory("b");
  const copy = join(directory, "db.copy");
  // As after kill -9 between the removal of the old content and the renaming of the copy.
  await rename(join(directory, "db"), copy);
  const none: Peers = { fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "nobody has one")) };
  replica = await active(await world.open({ name: "b", peers: none }));
  expect(replica.status()).toMatchObject({ appliedSequence: last, digest: healthy.status().digest });
  await replica.close();
  // As after kill -9 while it came.
  await (await StoreCopy.create(copy)).add({ keys: [], values: [] });
  replica = await active(await world.open({ name: "b", peers: none }));
  expect(await readdir(directory)).not.toContain("db.copy");
});

test("a store that cannot be opened is not wiped where the log ends before what it had applied", async () => {
  let replica = await world.open({ name: "b" });
  await replica.wait(await write(6), [], call);
  await replica.close();
  await damageFirstHead();
  const log = await putBack(2);
  replica = await world.open({ name: "b", log });
  await eventually("given up", () =>
    /it is not rebuilt: the log ends at 2 and is not the one/.test(replica.status().fault),
  );
  expect(replica.status().state).toBe("stale");
});

test("a store that cannot even tell how far it goes is kept aside when the log is replayed", async () => {
  let replica = await world.open({ name: "b" });
  const last = await write(6);
  await replica.wait(last, [], call);
  const { digest } = replica.status();
  await replica.close();
  await rm(join(world.replicaDirectory("b"), "db", "CURRENT"));
  await writeFile(join(world.replicaDirectory("b"), "db", "CURRENT"), "nonsense");
  replica = await active(await world.open({ name: "b" }));
  await replica.wait(last, [], call);
  expect(replica.status()).toMatchObject({ digest, fault: "" });
  expect(await readdir(world.replicaDirectory("b"))).toContain("replaced-1");
});

/** Peers whose snapshots break off after `entries` entries each time, and can be gone on with while `held` says so. */
function breakingPeers(entries: number, held: () => boolean = () => true) {
  const asked = { fetched: 0, resumed: 0 };
  const broken = ({ chunks, ...snapshot }: Snapshot): Snapshot => ({
    ...snapshot,
    chunks: (async function* (): AsyncGenerator<SnapshotChunk> {
      let left = entries;
      for await (const { keys, values } of chunks) {
        yield { keys: keys.slice(0, left), values: values.slice(0, left) };
        left -= keys.length;
        if (left <= 0) throw new KithError("SHARD_UNAVAILABLE", "it broke off");
      }
    })(),
  });
  const peers: Peers = {
    fetch: async (wanted) => {
      asked.fetched++;
      return { ...broken(await given(healthy, wanted)), from: "peer" };
    },
    resume: async (from, wanted) => {
      expect([from, wanted.resume?.id]).toEqual(["peer", "kept"]);
      if (!held()) throw new KithError("NOT_FOUND", "it is not held any more");
      asked.resumed++;
      return { ...broken(await given(healthy, wanted)), from: "peer" };
    },
  };
  return { peers, asked };
}

test("a copy that breaks off again and again is gone on with where it was", async () => {
  healthy = await world.open();
  const last = await write(12);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, 6);
  const { peers: breaking, asked } = breakingPeers(20);
  await expectCopy(await world.open({ name: "b", peers: breaking }), last);
  expect(asked.fetched).toBe(1);
  expect(asked.resumed).toBeGreaterThan(1);
});

test("a copy whose snapshot is not held any more begins from the start", async () => {
  healthy = await world.open();
  const last = await write(12);
  await healthy.wait(last, [], call);
  await world.log.trim(world.logName, 6);
  let isHeld = false;
  const { peers: breaking, asked } = breakingPeers(20, () => isHeld);
  const replica = await world.open({ name: "b", peers: breaking });
  await eventually("a second copy", () => asked.fetched > 1);
  expect(asked.resumed).toBe(0);
  isHeld = true;
  await expectCopy(replica, last);
});

test("one that starts as a copy copies although its log has everything, and goes on with the copy after a restart", async () => {
  healthy = await world.open();
  const last = await write(12);
  await healthy.wait(last, [], call);
  const copying = deferred<void>();
  const cut: Peers = {
    fetch: async (wanted, signal) => {
      const { chunks, ...snapshot } = await given(healthy, wanted);
      return {
        ...snapshot,
        chunks: (async function* () {
          for await (const { keys, values } of chunks) yield { keys: keys.slice(0, 20), values: values.slice(0, 20) };
          copying.resolve();
          await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        })(),
      };
    },
  };
  const first = await world.open({ name: "b", peers: cut, startsAsCopy: true });
  await copying.promise;
  expect(first.status()).toMatchObject({ state: "initializing", copy: { copiedBytes: expect.any(Number) as number } });
  await first.close();
  const { peers: whole, asked } = breakingPeers(1_000_000);
  const again = await world.open({ name: "b", peers: whole, startsAsCopy: true });
  await expectCopy(again, last);
  expect(asked).toEqual({ fetched: 0, resumed: 1 });
  expect(again.status().copy).toBeUndefined();
  expect(await readdir(world.replicaDirectory("b"))).not.toContain("db.copy.json");
});

test("one that starts as a copy takes everything from its log where nobody gives a copy", async () => {
  healthy = await world.open();
  const last = await write(5);
  await healthy.wait(last, [], call);
  const none: Peers = { fetch: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "nobody has one")) };
  const replica = await active(await world.open({ name: "b", peers: none, startsAsCopy: true }));
  await replica.wait(last, [], call);
  expect(replica.status().digest).toBe(healthy.status().digest);
  expect(kinds()).not.toContain("copied");
});
