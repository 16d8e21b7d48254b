import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { crc32c, KithError } from "../../base/index.js";
import { idFromNum } from "../../model/index.js";
import { PointStore } from "../../storage/index.js";
import { encodeRecord, ipb, type pb, recordFormatMax } from "../../wire/index.js";
import { call, everything, eventually, factories, nothing, upsert, World } from "../testing/harness.fixture.js";
import type { IndexFactory, Replica } from "../index.js";

let world: World;
let replica: Replica;
afterEach(() => world.end());

const item = (id: number, n = id): { id: number; vector: number[]; payload: object } => ({
  id,
  vector: [n, 0, 0, 0],
  payload: { n },
});
const nearest = async (at = 0): Promise<unknown[]> => {
  const query = { field: "", vector: Float32Array.of(0, 0, 0, 0), k: 9, ef: 0, exact: false, minSequence: at };
  const { hits } = await replica.read("query", { ...query, select: { payload: true, vectors: [] } }, call);
  return hits.map(({ payload }) => (JSON.parse(Buffer.from(payload).toString()) as { n: number }).n);
};
const active = (): Promise<true> => eventually("active", () => replica.status().state === "active" || undefined);
const stale = (): Promise<true> => eventually("stale", () => replica.status().state === "stale" || undefined);
const kinds = (): string[] => world.alarms.map(({ kind }) => kind);

/** Changes one byte of the first value whose key begins with `prefix`, behind the store's back. */
async function flipByte(prefix: number, at = 3): Promise<void> {
  const database = new ClassicLevel<Uint8Array, Uint8Array>(join(world.replicaDirectory(), "db"), {
    keyEncoding: "view",
    valueEncoding: "view",
  });
  const [entry] = await database.iterator({ gte: Buffer.from([prefix]), lt: Buffer.from([prefix + 1]) }).all();
  if (entry === undefined) throw new Error(`no key begins with ${prefix}`);
  const value = Uint8Array.from(entry[1]);
  value[at] = (value[at] as number) ^ 0x40;
  await database.put(entry[0], value);
  await database.close();
}

describe.each(factories)("faults on the %s", (_, indexes) => {
  beforeEach(async () => {
    world = await World.make({ indexes });
    replica = await world.open();
  });

  test("a damaged record in the log stops the replica, and replaying is not tried", async () => {
    const at = await world.append([upsert([item(1)])]);
    await replica.wait(at, [], call);
    const bad = encodeRecord({ epoch: 1, appendedAtMs: 1, operations: [upsert([item(2)])] });
    bad[20] = (bad[20] as number) ^ 1;
    const waiting = replica.wait(at + 1, [], call);
    const refused = expect(waiting).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    await world.appendRaw(bad);
    await refused;
    expect(replica.status()).toMatchObject({ state: "stale", appliedSequence: 1, pointCount: 1 });
    expect(replica.status().fault).toMatch(/record 2 of the log cannot be read/);
    await expect(nearest()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    await replica.close();
    replica = await world.open();
    await stale();
    const oneLife = [...Array<string>(3).fill("log_misread"), "record_corrupt"];
    expect(kinds()).toEqual([...oneLife, ...oneLife]);
  });

  test.each(["damaged", "skipped", "unreadable"])(
    "a record that is %s on its way is read again, and the replica goes on",
    async (how) => {
      await replica.close();
      let wrong = 3;
      const { log } = world;
      const spoiled: typeof log.subscribe = (name, options) =>
        log.subscribe(name, {
          ...options,
          onEntries: async (entries) => {
            if (entries.at(-1)?.sequence !== 3 || wrong === 0) return options.onEntries(entries);
            wrong--;
            if (how === "unreadable") throw new KithError("CORRUPT_DATA", "the log's own checksum is wrong");
            await options.onEntries(
              entries.flatMap((entry) => {
                if (entry.sequence !== 2) return [entry];
                return how === "skipped"
                  ? []
                  : [{ ...entry, data: entry.data.map((byte, i) => (i === 20 ? byte ^ 1 : byte)) }];
              }),
            );
          },
        });
      for (let n = 1; n <= 3; n++) await world.append([upsert([item(n)])]);
      replica = await world.open({
        log: Object.assign(Object.create(log) as typeof log, { state: log.state.bind(log), subscribe: spoiled }),
      });
      expect(await nearest(3)).toEqual([1, 2, 3]);
      expect(kinds()).toEqual(Array(3).fill("log_misread"));
      expect(replica.status()).toMatchObject({ state: "active", fault: "" });
    },
  );

  test.each([
    ["operation", { operationId: Buffer.alloc(16, 1), traceparent: "", mutation: undefined }],
    ["upsert mode", upsert([item(2)], { mode: 9 as pb.UpsertMode })],
  ])("an %s of a newer version stops the replica before it is skipped", async (_what, operation) => {
    const at = await world.append([upsert([item(1)])]);
    await replica.wait(at, [], call);
    await world.append([upsert([item(3)]), operation]);
    await stale();
    expect(replica.status()).toMatchObject({ appliedSequence: 1, pointCount: 1 });
    expect(replica.status().fault).toMatch(/record 2 of the log needs a newer version of Kith/);
    expect(kinds()).toEqual(["record_newer"]);
  });

  test("a record of a newer format stops the replica before it is skipped", async () => {
    const body = ipb.LogRecord.encode({
      epoch: 1,
      appendedAtMs: 1,
      operations: [upsert([item(1)])],
      format: recordFormatMax + 1,
    }).finish();
    const head = Buffer.from("KLR1....", "latin1");
    head.writeUInt32LE(crc32c(body), 4);
    await world.appendRaw(Buffer.concat([head, body]));
    await stale();
    expect(replica.status()).toMatchObject({ appliedSequence: 0, pointCount: 0 });
    expect(kinds()).toEqual(["record_newer"]);
  });

  test.each([
    ["payload", 3],
    ["vector", 2],
    ["head", 1],
    ["state", 0],
  ])("a damaged %s in the store is never served: the replica replays the log", async (_what, prefix) => {
    for (let n = 1; n <= 5; n++) await world.append([upsert([item(n)])]);
    await replica.wait(5, [], call);
    const { digest } = replica.status();
    await replica.close();
    await flipByte(prefix);
    replica = await world.open();
    const read = async (): Promise<unknown> => {
      const { points } = await replica.read(
        "get",
        { ids: [1, 2, 3, 4, 5].map((n) => idFromNum(n)), select: everything, minSequence: 0 },
        call,
      );
      return points.map((point) => [Buffer.from(point.payload).toString(), point.vectors?.get("")?.[0]]);
    };
    const right = [1, 2, 3, 4, 5].map((n) => [`{"n":${n}}`, n]);
    // Either the damage was found at open, or this read finds it and fails; it never gives something wrong.
    await read().then(
      (found) => expect(found).toEqual(right),
      (error: unknown) =>
        expect(error).toMatchObject({ code: expect.stringMatching(/CORRUPT_DATA|SHARD_UNAVAILABLE/) as string }),
    );
    await eventually("rebuilt", () => (kinds().length > 0 && replica.status().state === "active") || undefined);
    expect(kinds()).toEqual(["store_corrupt"]);
    expect(await read()).toEqual(right);
    expect(await nearest()).toEqual([1, 2, 3, 4, 5]);
    expect(replica.status()).toMatchObject({ digest, fault: "" });
  });

  test("a query that meets a damaged payload fails instead of leaving the hit out", async () => {
    await world.append([upsert([item(1), item(2)])]);
    await replica.wait(1, [], call);
    await replica.close();
    await flipByte(3, 8);
    replica = await world.open();
    await expect(nearest()).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    await eventually("right again", () =>
      nearest().then(
        (found) => found.length === 2,
        () => undefined,
      ),
    );
  });

  test("without the whole log a damaged store is kept and the replica stays stale", async () => {
    for (let n = 1; n <= 3; n++) await world.append([upsert([item(n)])]);
    await replica.wait(3, [], call);
    await replica.close();
    await world.log.trim(world.logName, 2);
    await flipByte(1);
    replica = await world.open();
    await eventually("given up", () => /not rebuilt: the log begins at 3/.test(replica.status().fault) || undefined);
    expect(replica.status().state).toBe("stale");
    expect(await readdir(join(world.replicaDirectory(), "db"))).not.toEqual([]);
  });

  test("a damaged checkpoint is dropped and the index filled from the store", async () => {
    for (let n = 1; n <= 40; n++) await world.append([upsert([item(n)])]);
    await replica.wait(40, [], call);
    await replica.checkpoint();
    const directory = join(world.replicaDirectory(), "index-dense-0");
    const files = await readdir(directory);
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      await replica.checkpoint();
      await replica.close();
      const path = join(
        directory,
        (await readdir(directory)).find((name) => name.slice(0, 4) === file.slice(0, 4)) ?? file,
      );
      const bytes = await readFile(path);
      const middle = bytes.length >> 1;
      bytes[middle] = (bytes[middle] as number) ^ 0x10;
      await writeFile(path, bytes);
      world.alarms.length = 0;
      replica = await world.open();
      expect(await nearest()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      // An empty file, such as a graph below the threshold, has no byte to damage.
      if (bytes.length > 0) expect(kinds()).toEqual(["checkpoint_dropped"]);
    }
  });

  test.each([
    ["RESOURCE_EXHAUSTED", false, true],
    ["INTERNAL", true, true],
    ["CORRUPT_DATA", true, false],
  ] as const)("a checkpoint that fails to load with %s", async (code, isBuilt, isKept) => {
    await world.append([upsert([item(1), item(2)])]);
    await replica.wait(1, [], call);
    await replica.checkpoint();
    await replica.close();
    const directory = join(world.replicaDirectory(), "index-dense-0");
    const saved = await readdir(directory);
    const filesAtOpen: string[][] = [];
    let failures = 0;
    const indexes: IndexFactory = {
      create: (options) => world.indexes.create(options),
      load: async (path, options) => {
        if (failures++ < 2) throw new KithError(code, "no");
        filesAtOpen.push(await readdir(path));
        return world.indexes.load(path, options);
      },
    };
    replica = await world.open({ indexes });
    await active();
    expect(await nearest()).toEqual([1, 2]);
    // Built from the store at once, or opened again until there is what it takes to load it.
    expect(kinds()).toEqual(isBuilt ? ["checkpoint_dropped"] : ["io_error"]);
    expect(filesAtOpen).toEqual(isBuilt ? [] : [saved]);
    expect(await readdir(directory).catch(() => [])).toEqual(isKept ? saved : []);
  });

  test("a checkpoint of another life of the directory is dropped", async () => {
    await world.append([upsert([item(1)])]);
    await replica.wait(1, [], call);
    await replica.checkpoint();
    await replica.close();
    const { rm } = await import("node:fs/promises");
    await rm(join(world.replicaDirectory(), "db"), { recursive: true });
    replica = await world.open();
    await active();
    expect(await nearest()).toEqual([1]);
    expect(kinds()).toEqual(["checkpoint_dropped"]);
  });

  test("a log that was replaced leaves the replica stale, with its data", async () => {
    await world.append([upsert([item(1)])]);
    await replica.wait(1, [], call);
    await replica.close();
    await world.log.remove(world.logName);
    await world.log.create(world.logName);
    replica = await world.open();
    await stale();
    expect(replica.status().fault).toMatch(/restored, emptied or replaced/);
    expect(replica.status()).toMatchObject({ appliedSequence: 1, state: "stale" });
    expect(kinds()).toEqual(["log_rewound"]);
  });

  test("a log that is gone alarms nobody before it stays so: with its collection it goes first", async () => {
    await world.append([upsert([item(1)])]);
    await replica.wait(1, [], call);
    await replica.close();
    await world.log.remove(world.logName);
    replica = await world.open();
    await stale();
    expect(replica.status().fault).toMatch(/the log of this shard is gone/);
    // Told once more when it is known that no other replica has it.
    expect(new Set(kinds())).toEqual(new Set(["log_removed"]));
  });

  test("a log trimmed past the replica leaves it stale", async () => {
    for (let n = 1; n <= 5; n++) await world.append([upsert([item(n)])]);
    await replica.wait(5, [], call);
    await replica.close();
    for (let n = 6; n <= 9; n++) await world.append([upsert([item(n)])]);
    await world.log.trim(world.logName, 8);
    replica = await world.open();
    await stale();
    expect(replica.status().fault).toMatch(/the log goes on at 9, but this replica needs 6/);
    expect(kinds()).toEqual(["log_gap"]);
  });

  test("a full disk makes the replica stale until there is room; nothing is lost", async () => {
    await replica.close();
    let isFull = false;
    replica = await world.open({}, async (directory) => {
      if (isFull) throw new KithError("DISK_FULL", "the disk is full");
      const store = await PointStore.open(directory);
      const write = store.write.bind(store);
      store.write = async (batch, options) => {
        if (isFull) throw new KithError("DISK_FULL", "the disk is full");
        await write(batch, options);
      };
      return store;
    });
    await world.append([upsert([item(1)])]);
    expect(await nearest(1)).toEqual([1]);
    isFull = true;
    await world.append([upsert([item(2)])]);
    await stale();
    expect(replica.status().fault).toMatch(/disk is full/);
    await expect(nearest()).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    isFull = false;
    await active();
    expect(await nearest(2)).toEqual([1, 2]);
    expect(kinds().every((kind) => kind === "disk_full")).toBe(true);
  });

  test("while its log is away, a replica that knows it answers from what it has applied", async () => {
    await world.append([upsert([item(1)])]);
    await replica.wait(1, [], call);
    await replica.close();
    const { log } = world;
    let isAway = true;
    const state: typeof log.state = async (name) => {
      if (isAway) throw new KithError("LOG_UNAVAILABLE", "the log is away");
      return log.state(name);
    };
    replica = await world.open({
      log: Object.assign(Object.create(log) as typeof log, { state, subscribe: log.subscribe.bind(log) }),
    });
    await active();
    expect(await nearest()).toEqual([1]);
    isAway = false;
    const at = await world.append([upsert([item(2)])]);
    expect(await nearest(at)).toEqual([1, 2]);
  });

  test("a directory of another shard is refused", async () => {
    await replica.close();
    await expect(world.open({ shard: 1 })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  test("a replica may be made before its log", async () => {
    await replica.close();
    const collection = { ...world.collection, id: "c2" };
    replica = await world.open({ name: "early", collection });
    expect(replica.status().state).toBe("catching_up");
    const name = { collectionId: "c2", shard: 0 };
    await world.log.create(name);
    await world.log.append(name, encodeRecord({ epoch: 1, appendedAtMs: 1, operations: [upsert([item(4)])] }), {
      messageId: "m",
    });
    expect(await nearest(1)).toEqual([4]);
    expect(
      (await replica.read("get", { ids: [idFromNum(4)], select: nothing, minSequence: 1 }, call)).points.length,
    ).toBe(1);
  });
});
