import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { crc32c, deferred, type KithError, systemRandom, systemRuntime } from "../../base/index.js";
import { eventually, ManualClock } from "../../base/testing.js";
import { codeOf, Collector, describeLog, range } from "../log.conformance.js";
import { type LogDatabase, openLogDatabase } from "./database.js";
import { openEmbeddedLog } from "./index.js";
import { EmbeddedLog } from "./log.js";
import { decodeFormat, encodeFormat, entryKey, formatKey } from "./records.js";
import { transpile } from "../testing/transpile.js";

const name = { collectionId: "c1", shard: 0 };

describeLog("embedded", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kith-log-"));
  let broken = false;
  return {
    open: () =>
      EmbeddedLog.open({ directory, ...systemRuntime }, async (at) => {
        if (broken) throw new Error("the disk is away");
        const database = await openLogDatabase(at);
        const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
        database.batch = ((...parameters: unknown[]) =>
          broken ? Promise.reject(new Error("the disk is away")) : batch(...parameters)) as typeof database.batch;
        return database;
      }),
    outage: {
      begin: async () => {
        broken = true;
      },
      end: async () => {
        broken = false;
      },
    },
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
});

describe("the embedded log's directory", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "kith-log-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it("belongs to one process", async () => {
    const log = await openEmbeddedLog({ directory, ...systemRuntime });
    expect(await codeOf(openEmbeddedLog({ directory, ...systemRuntime }))).toBe("FAILED_PRECONDITION");
    await log.close();
  });

  it("says of which format it is, is taken without that, and refused where a newer release wrote it", async () => {
    let log = await openEmbeddedLog({ directory, ...systemRuntime });
    await log.create(name);
    await log.close();
    const raw = async (work: (database: LogDatabase) => Promise<unknown>): Promise<void> => {
      const database = await openLogDatabase(directory);
      await work(database);
      await database.close();
    };
    await raw(async (database) => {
      expect(decodeFormat((await database.get(formatKey)) as Uint8Array)).toEqual({ format: 1, release: "0.1.0" });
      // As the first release left it.
      await database.del(formatKey);
    });
    log = await openEmbeddedLog({ directory, ...systemRuntime });
    expect((await log.state(name)).firstSequence).toBe(1);
    await log.close();
    await raw((database) => database.put(formatKey, encodeFormat({ format: 2, release: "3.0.0" })));
    const refused = openEmbeddedLog({ directory, ...systemRuntime });
    await expect(refused).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: `the log in ${directory} was written by a newer release (format 2); this release reads up to 1: start release 3.0.0 or a later one`,
    });
    await raw((database) => database.put(formatKey, Buffer.from("damaged")));
    expect(await codeOf(openEmbeddedLog({ directory, ...systemRuntime }))).toBe("CORRUPT_DATA");
  });

  it("makes logs that are asked for together with one fsync, and keeps the order with removals", async () => {
    let fsyncs = 0;
    const log = await EmbeddedLog.open({ directory, ...systemRuntime }, async (at) => {
      const database = await openLogDatabase(at);
      const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
      database.batch = ((...parameters: unknown[]) => {
        fsyncs++;
        return batch(...parameters);
      }) as typeof database.batch;
      return database;
    });
    const names = range(1, 64).map((shard) => ({ collectionId: "many", shard }));
    const made = await Promise.all(names.map((each) => log.create(each)));
    expect(new Set(made.map(({ incarnation }) => incarnation)).size).toBe(64);
    expect(fsyncs).toBe(1);
    const [first] = names as [typeof name];
    const again = await Promise.all([log.create(first), log.remove(first), log.create(first)]);
    expect(again[0].incarnation).toBe(made[0]?.incarnation);
    expect(again[2].incarnation).not.toBe(made[0]?.incarnation);
    expect((await log.state(first)).incarnation).toBe(again[2].incarnation);
    await log.close();
  });

  it("forgets message ids beyond the window, by count and by time", async () => {
    const clock = new ManualClock();
    const options = { directory, clock, random: systemRandom, duplicateWindow: { count: 10, timeMs: 60_000 } };
    let log = await openEmbeddedLog(options);
    await log.create(name);
    const append = (messageId: string) => log.append(name, Buffer.from(messageId), { messageId });
    for (const index of range(1, 30)) await append(`m${index}`);
    expect(await append("m30")).toEqual({ sequence: 30, duplicate: true });
    expect(await append("m1")).toEqual({ sequence: 31, duplicate: false });
    clock.jump(61_000);
    await append("later");
    expect(await append("m30")).toEqual({ sequence: 33, duplicate: false });
    await log.close();
    log = await openEmbeddedLog(options);
    expect(await append("m30")).toEqual({ sequence: 33, duplicate: true });
    await log.close();
    const database = await openLogDatabase(directory);
    const remembered = await database.iterator({ gte: Buffer.from("d"), lt: Buffer.from("e") }).nextv(100);
    expect(remembered.length).toBeLessThanOrEqual(11);
    expect(remembered).not.toEqual([]);
    await database.close();
  });

  it("reports a damaged and a missing record, and never delivers it", async () => {
    for (const damage of ["changed", "missing"] as const) {
      const shard = { collectionId: damage, shard: 1 };
      let log = await openEmbeddedLog({ directory, ...systemRuntime });
      await log.create(shard);
      for (const index of range(1, 9)) {
        await log.append(shard, Buffer.from(`record ${index}`), { messageId: `m${index}` });
      }
      await log.close();
      const id = damage === "changed" ? 1 : 2;
      const database = new ClassicLevel<Uint8Array, Uint8Array>(directory, {
        keyEncoding: "view",
        valueEncoding: "view",
      });
      const key = entryKey(id, 5);
      const value = Buffer.from((await database.get(key)) ?? []);
      expect(value.toString("latin1")).toContain("record 5");
      if (damage === "missing") await database.del(key);
      else {
        value.writeUInt8(value.readUInt8(value.length - 1) ^ 1, value.length - 1);
        await database.put(key, value);
      }
      await database.close();
      log = await openEmbeddedLog({ directory, ...systemRuntime });
      const reader = new Collector(log, shard, { fromSequence: 1 });
      await eventually(() => expect(reader.errors.map((error) => (error as KithError).code)).toEqual(["CORRUPT_DATA"]));
      // Who has read it already needs it no more.
      expect(await log.checksum(shard, 5)).toBeUndefined();
      const behind = new Collector(log, shard, { fromSequence: 6, lastChecksum: crc32c(Buffer.from("record 5")) });
      await behind.received(4);
      expect([behind.faults, behind.errors]).toEqual([[], []]);
      await behind.subscription.close();
      expect(reader.sequences.filter((sequence) => sequence >= 5)).toEqual([]);
      await log.close();
    }
  });

  it("does not go back, to a reader or in its state, while it is read anew after a failed write", async () => {
    const gates = { reading: deferred<void>(), failing: deferred<void>(), failed: deferred<void>() };
    let opens = 0;
    let warnings = 0;
    let failsNext = false;
    const onWarning = (): void => {
      if (++warnings === 2) gates.failed.resolve();
    };
    const log = await EmbeddedLog.open({ directory, onWarning, ...systemRuntime }, async (at) => {
      const database = await openLogDatabase(at);
      const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
      database.batch = ((...parameters: unknown[]) => {
        if (!failsNext) return batch(...parameters);
        failsNext = false;
        return Promise.reject(new Error("the disk hiccups"));
      }) as typeof database.batch;
      if (++opens !== 2) return database;
      // The first reading of the log's end takes a while, and fails as well.
      const iterator = database.iterator.bind(database) as (options: { reverse?: boolean }) => unknown;
      const next = async (): Promise<never> => {
        gates.reading.resolve();
        await gates.failing.promise;
        throw new Error("the disk hiccups again");
      };
      database.iterator = ((options: { reverse?: boolean }) =>
        options.reverse === true
          ? { [Symbol.asyncIterator]: () => ({ next }) }
          : iterator(options)) as typeof database.iterator;
      return database;
    });
    await log.create(name);
    for (const index of range(1, 5)) await log.append(name, Buffer.from("x"), { messageId: `m${index}` });
    const handlers = [deferred<void>(), deferred<void>()];
    const readers = handlers.map(
      (handler) => new Collector(log, name, { fromSequence: 1, onEntries: () => handler.promise }),
    );
    await Promise.all(readers.map((reader) => reader.received(5)));
    /** One reader asks for what comes next. */
    const goesOn = async (reader: number): Promise<void> => {
      handlers[reader]?.resolve();
      await new Promise((resolve) => setImmediate(resolve));
      expect(readers.map(({ faults, errors }) => [...faults, ...errors])).toEqual([[], []]);
      expect(await codeOf(log.state(name))).toBe("LOG_UNAVAILABLE");
    };
    failsNext = true;
    expect(await codeOf(log.append(name, Buffer.from("y"), { messageId: "m6" }))).toBe("LOG_UNAVAILABLE");
    await gates.reading.promise;
    await goesOn(0);
    gates.failing.resolve();
    await gates.failed.promise;
    await goesOn(1);
    await eventually(() => expect(log.available).toBe(true));
    expect(await log.append(name, Buffer.from("y"), { messageId: "m6" })).toEqual({ sequence: 6, duplicate: false });
    for (const reader of readers) {
      await reader.received(6);
      expect(reader.sequences).toEqual(range(1, 6));
    }
    await log.close();
  });

  it("loses nothing acknowledged when its process is killed", async () => {
    const built = await transpile(["libs/base", "libs/encryption", "libs/log"]);
    try {
      let acknowledged = 0;
      for (const round of range(1, 3)) {
        const highest = await appendUntilKilled(
          built.path(new URL("../testing/kill.fixture.ts", import.meta.url)),
          round,
        );
        const log = await openEmbeddedLog({ directory, ...systemRuntime });
        const state = await log.state(name);
        expect(state.lastSequence).toBeGreaterThanOrEqual(highest);
        const reader = new Collector(log, name, { fromSequence: 1, incarnation: state.incarnation });
        await reader.received(state.lastSequence);
        expect(reader.sequences).toEqual(range(1, state.lastSequence));
        expect(reader.texts.every((text, index) => text.startsWith(`record ${index + 1} `))).toBe(true);
        const again = await log.append(name, Buffer.from("again"), { messageId: `m${highest}` });
        expect(again).toEqual({ sequence: highest, duplicate: true });
        await log.close();
        expect(highest).toBeGreaterThan(acknowledged);
        acknowledged = highest;
      }
    } finally {
      await built.dispose();
    }
  });

  /** Runs a process that appends as fast as it can, kills it after some acknowledgements, gives the last one. */
  async function appendUntilKilled(program: string, round: number): Promise<number> {
    const child: ChildProcess = fork(program, [], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    child.send(directory);
    let highest = 0;
    let count = 0;
    await new Promise<void>((resolve, reject) => {
      child.on("message", (message) => {
        highest = Math.max(highest, message as number);
        if (++count === 100 * round) child.kill("SIGKILL");
      });
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        if (signal === "SIGKILL") resolve();
        else reject(new Error(`the appending process ended with ${code}`));
      });
    });
    return highest;
  }
});
