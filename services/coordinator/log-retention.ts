import { toKithError } from "../../libs/base/index.js";
import type { ClusterSettings } from "../../libs/cluster/index.js";
import type { Log, LogState } from "../../libs/log/index.js";
import type { ShardId } from "../../libs/model/index.js";
import { decodeRecord } from "../../libs/wire/index.js";

export type Retention = Pick<ClusterSettings, "logRetentionMs" | "logRetentionBytes" | "logRetentionRecords">;

/**
 * The first record that the retention keeps; the log's first one where it keeps all. Records are kept that are young enough, up to about so many
 * bytes, and the latest ones always.
 *
 * @param nowMs by the wall clock, as the records tell when they were written
 */
export async function beginOfRetention(
  log: Pick<Log, "read">,
  name: ShardId,
  { firstSequence, lastSequence, sizeBytes }: LogState,
  { logRetentionMs, logRetentionBytes, logRetentionRecords }: Retention,
  nowMs: number,
): Promise<number> {
  const count = lastSequence - firstSequence + 1;
  // Where nothing else may go the log need not be read.
  const latest = lastSequence - Math.max(1, logRetentionRecords) + 1;
  if (count <= 0 || latest <= firstSequence) return firstSequence;
  // By the mean size of a record: where they differ it takes some trims until what is left is about right.
  const excess = Math.max(0, sizeBytes - logRetentionBytes);
  const byBytes = excess === 0 ? firstSequence : firstSequence + Math.floor((excess * count) / sizeBytes);
  const byTime = await firstSince(log, name, firstSequence, latest, nowMs - logRetentionMs);
  return Math.min(latest, Math.max(byBytes, byTime));
}

/** The first of the records `from` to `to` that was written at `sinceMs` or later; `to` where none was. Records come about in order of time. */
async function firstSince(
  log: Pick<Log, "read">,
  name: ShardId,
  from: number,
  to: number,
  sinceMs: number,
): Promise<number> {
  let [low, high] = [from, to];
  // The oldest one first: as a rule it is young enough.
  for (let middle = low; low < high; middle = Math.floor((low + high) / 2)) {
    const writtenMs = await timeOf(log, name, middle);
    // One that cannot be read says nothing: it stays, and so do those behind it.
    if (writtenMs === undefined || writtenMs >= sinceMs) high = middle;
    else low = middle + 1;
  }
  return low;
}

async function timeOf(log: Pick<Log, "read">, name: ShardId, sequence: number): Promise<number | undefined> {
  try {
    const data = await log.read(name, sequence);
    return data && decodeRecord(data).appendedAtMs;
  } catch (error) {
    if (toKithError(error).code === "CORRUPT_DATA") return undefined;
    throw error;
  }
}
