import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Deferred, deferred, KithError, systemRuntime } from "../../../libs/base/index.js";
import { BackupLocations, type MergeJob } from "../../../libs/backup/index.js";
import type { HandoverPart } from "../../../libs/engine/index.js";
import { FakeLog } from "../../../libs/log/testing.js";
import { ShardBackups } from "./worker.js";

/** A node works for few at once: what nobody waits for any more must not keep it from the rest. */

const call = () => ({ signal: new AbortController().signal, onProgress: () => undefined });

function jobOf(shard: number, term: number): MergeJob {
  const slots = { firstSlot: shard * 10, lastSlot: shard * 10 + 9 };
  return { kind: "merge", shard: { collectionId: "c", shard }, slots, into: 9, shardCount: 2, epoch: 1, term };
}

test("a later attempt of a merge takes the place of one whose coordinator has gone without a word", async () => {
  let started: Deferred<void> = deferred();
  // Nothing comes: the old shard takes no writes and is not sealed.
  const handover = (_shard: unknown, _reader: unknown, signal: AbortSignal): Promise<HandoverPart | undefined> => {
    started.resolve();
    return new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  };
  const unused = (): never => {
    throw new Error("a merge does not ask this");
  };
  const worker = new ShardBackups({
    ...systemRuntime,
    folder: "",
    locations: new BackupLocations({}, systemRuntime.random),
    log: await FakeLog.open(),
    replicas: { content: unused, files: unused, handover, wait: unused },
  });
  const ends: Promise<unknown>[] = [];
  const begin = async (shard: number, term: number): Promise<void> => {
    started = deferred();
    const end = worker.run(jobOf(shard, term), call()).then(
      () => "done",
      (error: unknown) => (error as KithError).code,
    );
    ends.push(end);
    await Promise.race([started.promise, end]);
  };
  // More attempts than a node has room for work.
  for (let term = 1; term <= 6; term++) for (const shard of [0, 1]) await begin(shard, term);
  expect(await Promise.all(ends.slice(0, -2))).toEqual(Array.from({ length: 10 }, () => "CANCELLED"));
  // Those of other shards count as they did.
  for (const shard of [2, 3, 4]) await begin(shard, 1);
  expect(await ends.at(-1)).toBe("RESOURCE_EXHAUSTED");
});

test("of a replica that does not come to what its log has, nothing is backed up, and another one can be asked", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kith-worker-"));
  const backup = "20260101t000000000z-0a1b2c3d";
  const shard = { collectionId: "c", shard: 0 };
  const slots = { firstSlot: 0, lastSlot: 9 };
  const unused = (): never => {
    throw new Error("a replica that is behind is not asked this");
  };
  const waited: number[] = [];
  const worker = new ShardBackups({
    ...systemRuntime,
    folder,
    locations: new BackupLocations({ folder }, systemRuntime.random),
    log: await FakeLog.open(),
    replicas: {
      ...{ content: unused, files: unused, handover: unused },
      wait: (_shard, sequence) => {
        waited.push(sequence);
        return Promise.reject(new KithError("DEADLINE_EXCEEDED", "it was not applied before the deadline"));
      },
    },
  });
  const job = { kind: "write", location: "", backup, shard, slots, minSequence: 7, bytesPerSecond: 0 } as const;
  await expect(worker.run(job, call())).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE", retryable: true });
  expect(waited).toEqual([7]);
  rmSync(folder, { recursive: true });
});
