import { expect, test } from "vitest";
import { type Deferred, deferred } from "../../base/index.js";
import { GroupCommit, type PendingRecord } from "./commit.js";
import { ShardLog } from "./shard-log.js";

const [busy, other] = [1, 2].map(
  (id) =>
    new ShardLog(`log ${id}`, { id, incarnation: "", firstSequence: 1, trimmedBytes: 0 }, { count: 1, timeMs: 1 }),
) as [ShardLog, ShardLog];

/** A disk that writes when it is told to. */
class Disk {
  readonly batches: { records: readonly PendingRecord[]; done: Deferred<void> }[] = [];
  readonly commit = new GroupCommit(async (records) => {
    const done = deferred<void>();
    this.batches.push({ records, done });
    await done.promise;
    return records.map((_, i) => i + 1);
  });
  #next = 0;

  append(log: ShardLog, signal?: AbortSignal): Promise<unknown> {
    return this.commit.append(log, Buffer.from("x"), { messageId: `${this.#next++}`, ...(signal && { signal }) });
  }
  async writing(batch: number): Promise<void> {
    await expect.poll(() => this.batches.length).toBe(batch + 1);
  }
  /** Lets the batch in hand end. */
  end(batch: number): void {
    this.batches[batch]?.done.resolve();
  }
}

test("is drained after the batch in flight and what was queued, however much comes later", async () => {
  const disk = new Disk();
  const first = disk.append(other);
  await disk.writing(0);
  const second = disk.append(other);
  let drained = false;
  const waiting = disk.commit.drained().then(() => {
    drained = true;
  });
  disk.end(0);
  await first;
  await disk.writing(1);
  expect(drained).toBe(false);
  const later = disk.append(busy);
  disk.end(1);
  await second;
  await disk.writing(2);
  await waiting;
  disk.end(2);
  await later;
  await disk.commit.drained();
});

test("is drained when what was queued is withdrawn", async () => {
  const disk = new Disk();
  const abort = new AbortController();
  const withdrawn = disk.append(busy, abort.signal);
  const waiting = disk.commit.drained();
  abort.abort();
  await expect(withdrawn).rejects.toMatchObject({ code: "CANCELLED" });
  await waiting;
  expect(disk.batches).toEqual([]);
});
