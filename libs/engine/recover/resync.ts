import { KithError, refuseNewer, sleep } from "../../base/index.js";
import type { SnapshotManifest, SnapshotWanted } from "../../model/index.js";
import { counterOf } from "../../telemetry/index.js";
import { keepContent, replaceContent } from "../replica/layout.js";
import { writeIncarnation } from "../replica/identity.js";
import type { Peers, PeerSnapshot } from "../replica/options.js";
import { goesOnFrom, isPastOf, type KnownPast } from "./known-past.js";
import { storeFormat, storeFormatRelease } from "./schema.js";
import { unfit } from "./snapshot.js";
import { type CopyOptions, Transfer } from "./transfer.js";

const copied = counterOf("kith.replica.copied");

/** A log that repeats another cluster's is waited for so long, until it has what a copy of there has. */
const aheadMs = 10_000;
const aheadPollMs = 100;

/** What a copy must be, to be of help. */
export interface CopyWanted {
  /** It must have applied this. */
  minSequence: number;
  /** Nothing is copied where the log that the replica has read is back. */
  unlessBack: boolean;
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
  { minSequence, unlessBack }: CopyWanted,
  known: KnownPast | undefined,
  options: CopyOptions,
): Promise<PeerCopy | undefined> {
  const { log, logName: name, follows } = options;
  const state = await log.state(name);
  const { incarnation, firstSequence } = state;
  const isSamePast = known !== undefined && (await isPastOf(known, state, (at) => log.checksum(name, at)));
  if ((unlessBack && isSamePast) || (known !== undefined && goesOnFrom(known, state))) return undefined;
  const wanted = {
    incarnation,
    minSequence: Math.max(minSequence, firstSequence - 1),
    // What takes a part of the points, or encrypts them, needs each by itself.
    ...(follows ? { withChanges: true } : options.store?.keys === undefined && { takesFiles: true }),
  };
  const transfer = await begin(peers, wanted, options);
  try {
    const { from, manifest } = transfer.snapshot;
    const { sequence, pointCount } = manifest;
    const what = `the replica of ${from}: ${pointCount} points as of record ${sequence}`;
    options.onAlarm({ kind: "copy_started", message: `this replica copies ${what}` });
    await transfer.receive((copiedBytes) => {
      options.onProgress(`it copies ${what}; ${Math.round(copiedBytes / 2 ** 20)} MiB so far`, {
        copiedBytes,
        totalBytes: Math.max(manifest.sizeBytes, copiedBytes),
      });
    });
    const kept = await install(transfer, options, !isSamePast);
    copied.add(1);
    const keptText =
      kept === undefined ? "" : `; what it held before was moved to ${kept}: delete it when it is not missed`;
    options.onAlarm({ kind: "copied", message: `this replica has copied ${what}${keptText}` });
    return { incarnation, sequence };
  } finally {
    await transfer.end();
  }
}

/** Goes on with what a process before this one has begun, where that is still possible, else with an empty copy. */
async function begin(peers: Peers, wanted: SnapshotWanted, options: CopyOptions): Promise<Transfer> {
  const resumed = await Transfer.resume(peers, wanted, options);
  if (resumed !== undefined) return resumed;
  const snapshot = await peers.fetch(wanted, options.signal);
  try {
    await checkSnapshot(snapshot, options);
    return await Transfer.begin(peers, wanted, snapshot, options);
  } catch (error) {
    await snapshot.close();
    throw error;
  }
}

async function checkSnapshot(
  { manifest, from, mayBeAhead = false }: PeerSnapshot,
  { log, logName: name, clock, signal }: CopyOptions,
): Promise<void> {
  checkManifest(manifest);
  // Beyond what was written meanwhile it would be of a past that the log has lost.
  let end = (await log.state(name)).lastSequence;
  const untilMs = clock.monotonicMs() + (mayBeAhead ? aheadMs : 0);
  while (manifest.sequence > end && clock.monotonicMs() < untilMs) {
    await sleep(clock, aheadPollMs, signal);
    end = (await log.state(name)).lastSequence;
  }
  if (manifest.sequence > end) throw unfit(`${from} has applied ${manifest.sequence}, and the log ends at ${end}`);
}

/**
 * Nothing is replaced before all of the snapshot has come and is on the disk. A process that dies in between leaves the
 * old content, or a whole copy: see endCopy. Gives the directory in which the old content was kept.
 */
async function install(
  transfer: Transfer,
  { directory, name, follows }: CopyOptions,
  keepsOld: boolean,
): Promise<string | undefined> {
  const { incarnation } = transfer.snapshot.manifest;
  await transfer.finish({
    format: storeFormat,
    release: storeFormatRelease,
    ...name,
    incarnation,
    ...(follows && { follows }),
  });
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
