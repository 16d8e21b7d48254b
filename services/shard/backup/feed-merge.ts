import type { BackupCall, MergeJob, MergePlace } from "../../../libs/backup/index.js";
import { abortReason, backoffMs, type KithError, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import { Handover, type HandoverPart } from "../../../libs/engine/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ShardId } from "../../../libs/model/index.js";
import { encodeRecord } from "../../../libs/wire/index.js";

/** A log that takes nothing is tried again so often before the work is given up, to be begun again where it stands. */
const appendAttempts = 8;
const appendBackoff = { initialMs: 50, maxMs: 2_000 };

interface MergeSource extends Runtime {
  log: Log;
  replicas: {
    handover(replica: ShardId, reader: Handover, signal: AbortSignal): Promise<HandoverPart | undefined>;
  };
}

/**
 * Appends what a replica holds to the log of the shard that its own is merged into, part by part and in order, until that is all: its own log is sealed, and
 * read to the end.
 */
export async function feedMerge(job: MergeJob, source: MergeSource, call: BackupCall): Promise<{ place: MergePlace }> {
  const { replicas } = source;
  const reader = new Handover(job.slots, job.place);
  const done = { points: 0, bytes: 0 };
  for (let number = 0; ; ) {
    if (call.signal.aborted) throw abortReason(call.signal);
    const part = await replicas.handover(job.shard, reader, call.signal);
    if (part !== undefined) {
      const data = recordOf({ ...part, part: number }, job, source.clock.nowMs());
      await append(data, `merge-${job.into}-${job.shard.shard}-${job.term}-${number}`, job, source, call.signal);
      number++;
      done.points += part.points.length;
      done.bytes += data.length;
    }
    const { place } = reader;
    if (place === undefined) continue;
    call.onProgress({ ...done, place });
    if (part?.isWhole === true) return { place };
  }
}

function recordOf(part: HandoverPart & { part: number }, job: MergeJob, appendedAtMs: number): Uint8Array {
  const { shard, slots, shardCount, term, epoch } = job;
  const value = { ...part, ...slots, shard: shard.shard, shardCount, term };
  const operation = { operationId: new Uint8Array(0), traceparent: "", mutation: { $case: "adopt" as const, value } };
  return encodeRecord({ epoch, appendedAtMs, operations: [operation] });
}

/** The same again is the same record, where the outcome is unknown. */
async function append(
  data: Uint8Array,
  messageId: string,
  { shard, into }: MergeJob,
  { log, clock, random }: MergeSource,
  signal: AbortSignal,
): Promise<void> {
  const name = { collectionId: shard.collectionId, shard: into };
  let last: KithError | undefined;
  for (let attempt = 0; attempt < appendAttempts; attempt++) {
    try {
      await log.append(name, data, { messageId, signal });
      return;
    } catch (error) {
      last = toKithError(error);
      // The outcome of one that took too long is unknown.
      const isWorthIt = last.retryable || last.code === "DEADLINE_EXCEEDED";
      if (signal.aborted || !isWorthIt) throw last;
      await sleep(clock, backoffMs(attempt, appendBackoff, random), signal);
    }
  }
  throw last ?? abortReason(signal);
}
