/** The embedded log behind encryption is a log as any other; what lies in its files is not to be read. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { crc32c, systemRandom, systemRuntime } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { KeyRing, masterKeysOf } from "../encryption/index.js";
import { openLogDatabase } from "./embedded/database.js";
import { EmbeddedLog } from "./embedded/log.js";
import { EncryptedLog, type Log, type LogEntry, openEmbeddedLog } from "./index.js";
import { Collector, describeLog } from "./log.conformance.js";

const ringOf = (...lines: string[]): KeyRing => new KeyRing(masterKeysOf(lines.join("\n"), "a test"), systemRandom);
const line = (): string => randomBytes(32).toString("base64");
const name = { collectionId: "c1", shard: 2 };
const known = "a record that everybody knows";

describeLog("embedded, encrypted", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kith-log-"));
  const keys = ringOf(line());
  let broken = false;
  const openDatabase = async (at: string): ReturnType<typeof openLogDatabase> => {
    if (broken) throw new Error("the disk is away");
    const database = await openLogDatabase(at);
    const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
    database.batch = ((...parameters: unknown[]) =>
      broken ? Promise.reject(new Error("the disk is away")) : batch(...parameters)) as typeof database.batch;
    return database;
  };
  return {
    open: async () => new EncryptedLog(await EmbeddedLog.open({ directory, ...systemRuntime }, openDatabase), { keys }),
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

let directory: string;
let inner: Log;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-log-"));
  inner = await openEmbeddedLog({ directory, ...systemRuntime });
  await inner.create(name);
});
afterEach(async () => {
  await inner.close();
  await rm(directory, { recursive: true, force: true });
});

async function isReadable(): Promise<boolean> {
  const files = await readdir(directory);
  const contents = await Promise.all(files.map((file) => readFile(join(directory, file))));
  return contents.some((content) => content.includes(known));
}

test("a record is not in the log's files, and has the checksum of what is", async () => {
  const log = new EncryptedLog(inner, { keys: ringOf(line()) });
  await log.append(name, Buffer.from(known), { messageId: "1" });
  expect(await isReadable()).toBe(false);
  const stored = (await inner.read(name, 1)) as Uint8Array;
  expect(Buffer.from((await log.read(name, 1)) as Uint8Array).toString()).toBe(known);
  const collector = new Collector(log, name, { fromSequence: 1 });
  await eventually(() => expect(collector.entries).toHaveLength(1));
  const entry = collector.entries[0] as LogEntry;
  expect([Buffer.from(entry.data).toString(), entry.checksum]).toEqual([known, crc32c(stored)]);
  expect(await log.checksum(name, 1)).toBe(entry.checksum);
  await collector.subscription.close();
  await inner.append(name, Buffer.from(known), { messageId: "2" });
  expect(await isReadable()).toBe(true);
});

test("a record of another shard's log, and one that was changed, are damage; what is before them is delivered", async () => {
  const keys = ringOf(line());
  const log = new EncryptedLog(inner, { keys });
  const other = { ...name, shard: 3 };
  await inner.create(other);
  await log.append(other, Buffer.from(known), { messageId: "1" });
  await log.append(name, Buffer.from(known), { messageId: "1" });
  const foreign = (await inner.read(other, 1)) as Uint8Array;
  await inner.append(name, foreign, { messageId: "2" });
  await expect(log.read(name, 2)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  const collector = new Collector(log, name, { fromSequence: 1 });
  await eventually(() => expect(collector.errors).toHaveLength(1));
  expect(collector.errors[0]).toMatchObject({ code: "CORRUPT_DATA" });
  expect(collector.sequences).toEqual([1]);
  await collector.subscription.close();
});

test("without the master key nothing is delivered, and the error says which is missing", async () => {
  const keys = ringOf(line());
  await new EncryptedLog(inner, { keys }).append(name, Buffer.from(known), { messageId: "1" });
  for (const others of [undefined, ringOf(line())]) {
    const log = new EncryptedLog(inner, { keys: others });
    const refused = { code: "FAILED_PRECONDITION", details: { masterKey: keys.masterKey } };
    await expect(log.read(name, 1)).rejects.toMatchObject(refused);
    const collector = new Collector(log, name, { fromSequence: 1 });
    await eventually(() => expect(collector.errors).toHaveLength(1));
    expect(collector.errors[0]).toMatchObject(refused);
    await collector.subscription.close();
  }
});

test("records from before there was a key are read, and those that come without one afterwards are told", async () => {
  await inner.append(name, Buffer.from("before"), { messageId: "1" });
  const told: number[] = [];
  const log = new EncryptedLog(inner, { keys: ringOf(line()), onPlain: (_, sequence) => told.push(sequence) });
  const collector = new Collector(log, name, { fromSequence: 1 });
  await eventually(() => expect(collector.entries).toHaveLength(1));
  expect(told).toEqual([]);
  await inner.append(name, Buffer.from("of one that has none"), { messageId: "2" });
  await eventually(() => expect(told).toEqual([2]));
  expect(collector.entries).toHaveLength(2);
  await collector.subscription.close();
});
