import { abortReason, KithError, type Random, refuseNewer } from "../../base/index.js";
import type { Log } from "../../log/index.js";
import type { ShardId, Snapshot, SnapshotManifest } from "../../model/index.js";
import { StoreCopy } from "../../storage/index.js";
import { counterOf } from "../../telemetry/index.js";
import type { ReplicaFault } from "../replica/faults.js";
import { writeIncarnation } from "../replica/identity.js";
import { copyDirectory, keepContent, replaceContent } from "../replica/layout.js";
import type { Alarm, Peers } from "../replica/options.js";
import { isPastOf, type KnownPast } from "./known-past.js";
import { decodeSchema, storeFormat, storeFormatRelease, type StoreIdentity, toJson } from "./schema.js";
import { unfit } from "./snapshot.js";

const copied = counterOf("kith.replica.copied");

export interface CopyOptions {
  log: Log;
  random: Random;
  name: ShardId;
  directory: string;
  signal: AbortSignal;
  onAlarm(alarm: Alarm): void;
  onProgress(text: string): void;
}

/** Of which log a copy is, and up to where. */
export interface PeerCopy {
  incarnation: string;
  sequence: number;
}

/**
 * Puts what another replica has in the place of a replica's content, and tells of which log it is and up to where.
 * Undefined, and nothing is changed, where the log that the replica knows is back.
 */
export async function copyPeer(
  peers: Peers,
  fault: ReplicaFault,
  known: KnownPast | undefined,
  options: CopyOptions,
): Promise<PeerCopy | undefined> {
  const { log, name, signal } = options;
  const { incarnation, firstSequence, lastSequence } = await log.state(name);
  const isSamePast =
    known !== undefined &&
    (await isPastOf(known, { incarnation, firstSequence, lastSequence }, (at) => log.checksum(name, at)));
  if (fault.kind === "log_rewound" && isSamePast) return undefined;
  const snapshot = await peers.fetch(
    { incarnation, minSequence: Math.max(fault.copyMinSequence, firstSequence - 1) },
    signal,
  );
  try {
    const { sequence, pointCount } = snapshot.manifest;
    // Beyond what was written meanwhile it would be of a past that the log has lost.
    const end = (await log.state(name)).lastSequence;
    if (sequence > end) throw unfit(`${snapshot.from} has applied ${sequence}, and the log ends at ${end}`);
    const what = `the replica of ${snapshot.from}: ${pointCount} points as of record ${sequence}`;
    options.onAlarm({ kind: "copy_started", message: `this replica copies ${what}` });
    const onBytes = (sizeBytes: number): void => {
      options.onProgress(`it copies ${what}; ${Math.round(sizeBytes / 2 ** 20)} MiB so far`);
    };
    const kept = await install(snapshot, options, !isSamePast, onBytes);
    copied.add(1);
    const keptText =
      kept === undefined ? "" : `; what it held before was moved to ${kept}: delete it when it is not missed`;
    options.onAlarm({ kind: "copied", message: `this replica has copied ${what}${keptText}` });
    return { incarnation, sequence };
  } finally {
    await snapshot.close();
  }
}

/**
 * Nothing is replaced before all of the snapshot has come and is on the disk. A process that dies in between leaves the
 * old content, or a whole copy: see endCopy. Gives the directory in which the old content was kept.
 */
async function install(
  { manifest, chunks }: Snapshot,
  { directory, name, random, signal }: CopyOptions,
  keepsOld: boolean,
  onBytes: (sizeBytes: number) => void,
): Promise<string | undefined> {
  checkManifest(manifest);
  const copy = await StoreCopy.create(copyDirectory(directory));
  const { incarnation, pointCount } = manifest;
  try {
    for await (const chunk of chunks) {
      await copy.add(chunk);
      onBytes(copy.sizeBytes);
      if (signal.aborted) break;
    }
    if (signal.aborted) throw abortReason(signal);
    const identity: StoreIdentity = {
      format: storeFormat,
      release: storeFormatRelease,
      storeId: random.uuid(),
      ...name,
      incarnation,
    };
    await copy.finish(toJson(identity), pointCount, (schema) =>
      decodeSchema(schema).fields.map(({ number }) => number),
    );
  } catch (error) {
    await copy.discard();
    throw error;
  }
  const kept = keepsOld ? await keepContent(directory) : undefined;
  await writeIncarnation(directory, incarnation);
  await replaceContent(directory);
  return kept;
}

/** A copy is taken as it is: one of an older format would have to be migrated first, by the node that has it. */
function checkManifest({ format }: SnapshotManifest): void {
  refuseNewer("the copy", { format }, storeFormat);
  if (format === storeFormat) return;
  throw new KithError(
    "FAILED_PRECONDITION",
    `the copy was written by an older release (format ${format}), and this one copies format ${storeFormat}: start this release on the node that gives it too`,
    { details: { format, formatWanted: storeFormat } },
  );
}
