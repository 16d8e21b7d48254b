import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemRandom } from "../base/index.js";
import type { BackupJob } from "./jobs.js";
import { readBackupJob } from "./read-job.js";
import { FolderStore } from "./store/folder.js";

const backup = "20260101t000000000z-0a1b2c3d";
const shard = { collectionId: "c1", shard: 3 };
const slots = { firstSlot: 0, lastSlot: 16_383 };
const before = { files: 1, points: 2, expiring: 0, content: "0a" };
const target = { collectionId: "c2", epoch: 1, shards: [{ ...slots, shard: 0 }] };
const write: BackupJob = { kind: "write", location: "", backup, shard, slots, bytesPerSecond: 0 };
const feed: BackupJob = { kind: "feed", operation: "o", location: "", backup, shard: 3, target, before };

test.each<BackupJob>([
  write,
  { ...write, base: backup },
  { ...write, minSequence: 7, takesFiles: true },
  feed,
  { ...feed, until: { sequence: 7 } },
  { ...feed, until: { timeMs: 7 } },
  { ...feed, until: { timeMs: 7, end: 3 } },
  { kind: "digest", shard, minSequence: 1 },
])("what the coordinator asks for is read as it was sent: %j", (job) => {
  expect(readBackupJob(JSON.stringify(job))).toEqual(job);
});

test.each([
  ["no JSON", "{", "INVALID_ARGUMENT"],
  ["null", "null", "INVALID_ARGUMENT"],
  ["another kind", '{"kind":"__proto__"}', "INVALID_ARGUMENT"],
  ["a location that is missing", JSON.stringify({ ...write, location: undefined }), "INVALID_ARGUMENT"],
  ["a number of shard that is a path", JSON.stringify({ ...feed, shard: "../../x" }), "INVALID_ARGUMENT"],
  ["a sequence that is none", JSON.stringify({ kind: "digest", shard, minSequence: -1 }), "INVALID_ARGUMENT"],
  ["a sum that is none", JSON.stringify({ ...feed, before: { ...before, content: "x" } }), "INVALID_ARGUMENT"],
  ["a backup that leads out", JSON.stringify({ ...write, backup: "../../../etc" }), "NOT_FOUND"],
  ["a base that leads out", JSON.stringify({ ...write, base: "../../../etc" }), "NOT_FOUND"],
])("%s is refused", (_, text, code) => {
  expect(() => readBackupJob(text)).toThrow(expect.objectContaining({ code }));
});

test("no key leads out of the folder of backups", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kith-store-"));
  const store = new FolderStore(join(folder, "backups"), systemRandom);
  for (const key of ["../x", "points/../../x", "../backups-of-others/x"]) {
    await expect(store.put(key, Buffer.from("x"))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(store.get(key)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  }
  rmSync(folder, { recursive: true, force: true });
});
