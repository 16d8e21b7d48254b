import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred, KithError } from "../../base/index.js";
import type { SnapshotBlock, SnapshotWanted, TakenSnapshot } from "../../model/index.js";
import { checkTable, isTable } from "../../storage/index.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  nativeIndexes,
  recomputed,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { IndexFactory, Peers, PeerSnapshot, Replica } from "../index.js";

/** A replica that is copied by its files, with its indexes. */

let world: World;
let healthy: Replica;
/** Snapshots that were taken, to be gone on with. */
let taken: TakenSnapshot[];
/** Indexes that were begun with nothing, rather than with a checkpoint. */
let builds: number;

beforeEach(async () => {
  taken = [];
  builds = 0;
  const indexes: IndexFactory = {
    ...nativeIndexes,
    create: (options) => {
      builds++;
      return nativeIndexes.create(options);
    },
  };
  world = await World.make({ collection: collectionOf(), indexes });
  healthy = await world.open();
});
afterEach(async () => {
  for (const snapshot of taken) await snapshot.close();
  await world.end();
});

const kinds = (): string[] => world.alarms.map(({ kind }) => kind);
const directory = (): string => world.replicaDirectory("b");

let written = 0;
async function write(count: number): Promise<number> {
  let last = 0;
  for (let n = 0; n < count; n++) {
    const id = written++ % 300;
    last = await world.append([upsert([{ id, vector: [id, written, 1, 0], payload: { n: written } }])]);
  }
  await healthy.wait(last, [], call);
  return last;
}

type Blocks = AsyncIterable<SnapshotBlock>;

/** Peers that give files, changed by `change`. */
function peers(
  change: (blocks: Blocks) => Blocks = (blocks) => blocks,
  other: (given: PeerSnapshot) => PeerSnapshot = (given) => given,
): Peers {
  const open = async (wanted: SnapshotWanted): Promise<PeerSnapshot> => {
    if (wanted.resume === undefined) taken.push(await healthy.snapshot(wanted));
    const { manifest, blocks, chunks } = taken.at(-1) as TakenSnapshot;
    if (blocks === undefined) throw new Error("no files are given");
    const sent = {
      manifest: { ...manifest, id: "kept" },
      chunks: chunks(),
      blocks: change(blocks(wanted.resume?.file)),
    };
    return other({ ...sent, close: () => Promise.resolve(), from: "peer" });
  };
  return { fetch: open, resume: (_, wanted) => open(wanted) };
}

async function expectCopy(replica: Replica, at: number): Promise<void> {
  await active(replica);
  await replica.wait(at, [], call);
  const { digest, pointCount, fault } = replica.status();
  const wanted = healthy.status();
  expect({ digest, pointCount, fault }).toEqual({ digest: wanted.digest, pointCount: wanted.pointCount, fault: "" });
  expect(await recomputed(replica)).toEqual({ digest, pointCount });
  const query = { field: "", vector: Float32Array.of(5, 1, 0, 0), k: 20, ef: 64, exact: false, minSequence: at };
  const asked = { ...query, select: { payload: true, vectors: "all" as const } };
  expect((await replica.read("query", asked, call)).hits).toEqual((await healthy.read("query", asked, call)).hits);
}

test("one that starts takes store and indexes as they are, and goes on with both", async () => {
  await write(400);
  await healthy.checkpoint();
  const last = await write(30);
  const before = builds;
  let copy = await world.open({ name: "b", peers: peers(), startsAsCopy: true });
  await expectCopy(copy, last);
  expect(builds).toBe(before);
  expect(kinds()).toEqual(["copy_started", "copied"]);
  expect((await readdir(directory())).sort()).toEqual(["db", "index-dense-0", "log-incarnation"]);
  // The one that gave it has not changed, and neither learns of what the other one does.
  await expectCopy(copy, await write(50));
  await copy.checkpoint();
  await copy.close();
  copy = await world.open({ name: "b" });
  await expectCopy(copy, await write(5));
  expect(builds).toBe(before);
  await taken[0]?.close();
  expect((await readdir(world.replicaDirectory())).filter((name) => name.startsWith("given-"))).toEqual([]);
});

test("a replica does not end while its files are being given: nothing is written in its folder afterwards", async () => {
  await write(50);
  await healthy.checkpoint();
  // So many that they take longer than the end of all else.
  for (let n = 0; n < 1_000; n++) await writeFile(join(world.replicaDirectory(), "index-dense-0", `other-${n}`), "");
  const { incarnation } = await world.log.state(world.logName);
  const wanted = { incarnation, minSequence: 0, takesFiles: true };
  let isTaken = false;
  const snapshot = healthy.snapshot(wanted).finally(() => {
    isTaken = true;
  });
  const given = snapshot.catch(() => undefined);
  await healthy.close();
  await new Promise(setImmediate);
  expect(isTaken).toBe(true);
  await (await given)?.close();
  await rm(world.replicaDirectory(), { recursive: true });
});

test("what is written and compacted while it is read does not change it", async () => {
  await write(50);
  const { incarnation } = await world.log.state(world.logName);
  const snapshot = await healthy.snapshot({ incarnation, minSequence: 0, takesFiles: true });
  taken.push(snapshot);
  const { files = [], sequence, pointCount } = snapshot.manifest;
  expect({ sequence, pointCount }).toEqual({ sequence: 50, pointCount: 50 });
  const read = async (): Promise<number[]> => {
    const sums: number[] = [];
    for await (const { file, crc32c } of snapshot.blocks?.() ?? []) sums[file] = crc32c;
    return sums;
  };
  const before = await read();
  expect(before).toHaveLength(files.length);
  await write(400);
  await healthy.checkpoint();
  await healthy.rebuildIndexes();
  expect(await read()).toEqual(before);
});

/** Records that fill several blocks of one table. */
async function writeMuch(): Promise<number> {
  const payload = { text: "x".repeat(16_000) };
  let last = 0;
  for (let from = 0; from < 200; from += 50) {
    const items = Array.from({ length: 50 }, (_, n) => ({ id: from + n, vector: [from, n, 1, 0], payload }));
    last = await world.append([upsert(items)]);
  }
  await healthy.wait(last, [], call);
  return last;
}

/** Breaks off behind each block that is not the first of an answer. */
async function* breaking(blocks: Blocks): Blocks {
  let count = 0;
  for await (const block of blocks) {
    if (count++ === 2) throw new KithError("SHARD_UNAVAILABLE", "it broke off");
    yield block;
  }
}

test("one that breaks off again and again is gone on with within its files", async () => {
  const last = await writeMuch();
  await expectCopy(await world.open({ name: "b", startsAsCopy: true, peers: peers(breaking) }), last);
  expect(taken).toHaveLength(1);
  expect(kinds()).toEqual(["copy_started", "copied"]);
});

test("one that was ended while it came is gone on with by the next process", async () => {
  const last = await writeMuch();
  const half = deferred<void>();
  const goingOn = peers();
  const first = await world.open({
    name: "b",
    startsAsCopy: true,
    peers: {
      fetch: async (wanted, signal) => {
        const { blocks, ...given } = await goingOn.fetch(wanted, signal);
        const some = async function* (): Blocks {
          let count = 0;
          for await (const block of blocks ?? []) {
            yield block;
            if (++count < 3) continue;
            half.resolve();
            await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
            return;
          }
        };
        return { ...given, blocks: some() };
      },
    },
  });
  await half.promise;
  expect(first.status().copy?.copiedBytes).toBeGreaterThan(0);
  await first.close();
  const asked: SnapshotWanted[] = [];
  const again = await world.open({
    name: "b",
    startsAsCopy: true,
    peers: {
      fetch: () => Promise.reject(new Error("it is not to begin anew")),
      resume: async (_, wanted, signal) => {
        asked.push(wanted);
        return goingOn.fetch(wanted, signal);
      },
    },
  });
  await expectCopy(again, last);
  expect(asked.map(({ resume: place }) => place?.file)).toEqual([
    { file: expect.any(Number) as number, offset: expect.any(Number) as number },
  ]);
});

const changed = (change: (block: SnapshotBlock) => SnapshotBlock | undefined) =>
  async function* (blocks: Blocks): Blocks {
    for await (const block of blocks) {
      const other = change(block);
      if (other !== undefined) yield other;
    }
  };

test.each<[string, Parameters<typeof peers>, RegExp]>([
  [
    "has a wrong byte",
    [changed((block) => ({ ...block, data: Uint8Array.from(block.data, (byte) => byte ^ 1) }))],
    /is not what was sent/,
  ],
  ["lacks a file", [changed((block) => (block.file === 1 ? undefined : block))], /out of order/],
  [
    "ends early",
    [
      (blocks) =>
        (async function* () {
          for await (const block of blocks) {
            yield block;
            return;
          }
        })(),
    ],
    /has not come/,
  ],
  [
    "names a file elsewhere",
    [
      (blocks) => blocks,
      (given) => ({
        ...given,
        manifest: { ...given.manifest, files: [{ name: "db/../../x.ldb", sizeBytes: 3 }] },
      }),
    ],
    /names the file "db\/..\/..\/x.ldb", which no replica has so/,
  ],
  [
    "tells of more points than there are",
    [(blocks) => blocks, (given) => ({ ...given, manifest: { ...given.manifest, pointCount: 1 } })],
    /holds 50 points as of 50, not 1/,
  ],
])("a copy that %s is not taken, and another one is", async (_, [change, other], reason) => {
  const last = await write(50);
  // It would be enough.
  await world.log.trim(world.logName, last);
  let isDamaged = true;
  const good = peers();
  const bad = peers(change, other);
  const copy = await world.open({
    name: "b",
    startsAsCopy: true,
    peers: { fetch: (...asked) => (isDamaged ? bad : good).fetch(...asked) },
  });
  await eventually("a refusal", () =>
    world.alarms.some(({ kind, message }) => kind === "copy_corrupt" && reason.test(message)),
  );
  isDamaged = false;
  await expectCopy(copy, last);
});

test("a table with a wrong byte is given to nobody", async () => {
  await write(50);
  const { incarnation } = await world.log.state(world.logName);
  const snapshot = await healthy.snapshot({ incarnation, minSequence: 0, takesFiles: true });
  taken.push(snapshot);
  const [given = ""] = (await readdir(world.replicaDirectory())).filter((name) => name.startsWith("given-"));
  const tables = (await readdir(join(world.replicaDirectory(), given, "db"))).filter(isTable);
  const path = join(world.replicaDirectory(), given, "db", tables[0] as string);
  const bytes = await readFile(path);
  checkTable("as written", bytes);
  for (let at = 0; at < bytes.length - 48; at += 97) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] as number) ^ 4;
    expect(() => checkTable("flipped", flipped)).toThrow(/damaged|not in it/);
  }
  expect(() => checkTable("cut", bytes.subarray(0, 40))).toThrow(/no footer/);
  await writeFile(
    path,
    bytes.map((byte, at) => (at === 20 ? byte ^ 1 : byte)),
  );
  const read = async (): Promise<void> => {
    for await (const block of snapshot.blocks?.() ?? []) expect(block.data.length).toBeGreaterThan(0);
  };
  await expect(read()).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});

test("kill -9 at any step of putting it in its place leaves the old content or the new one", async () => {
  const last = await write(60);
  const copy = await world.open({ name: "b", peers: peers(), startsAsCopy: true });
  await expectCopy(copy, last);
  await copy.close();
  const place = directory();
  const whole = join(place, "files.whole");
  const reopened = async (): Promise<string[]> => {
    const before = builds;
    const again = await world.open({ name: "b" });
    await expectCopy(again, last);
    await again.close();
    expect(builds).toBe(before);
    return (await readdir(place)).sort();
  };
  const names = ["db", "index-dense-0", "log-incarnation"];
  // All has come, and what was before is moved away.
  await mkdir(whole);
  for (const name of ["db", "index-dense-0"]) await rename(join(place, name), join(whole, name));
  await mkdir(join(place, "index-payload-7"));
  await mkdir(join(place, "db.old"));
  await mkdir(join(place, "given-1"));
  expect(await reopened()).toEqual(names);
  // The store is in its place, and the folder that it came in is still there.
  await mkdir(whole);
  expect(await reopened()).toEqual(names);
  // All has come, and nothing is moved away yet: the old content has the last word.
  await cp(join(place, "db"), join(whole, "db"), { recursive: true });
  expect(await reopened()).toEqual(names);
  // Some has come, and nobody knows from where.
  await mkdir(join(place, "files.copy", "db"), { recursive: true });
  expect(await reopened()).toEqual(names);
});
