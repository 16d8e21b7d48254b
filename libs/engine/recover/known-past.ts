import type { LogState } from "../../log/index.js";

/** What a replica has read of its log. */
export interface KnownPast {
  /** "" where it has read nothing. */
  incarnation: string;
  lastApplied: number;
  /** Of the record `lastApplied`, where it is known. */
  lastChecksum: number | undefined;
}

type Log = Omit<LogState, "sizeBytes">;

/** Whether the log is, as far as it can tell, the one that the replica has read, or goes on from what it has read. */
export async function isPastOf(
  known: KnownPast,
  log: Log,
  checksumAt: (sequence: number) => Promise<number | undefined>,
): Promise<boolean> {
  const { incarnation, lastApplied, lastChecksum } = known;
  if (incarnation === "" || goesOnFrom(known, log) || isBehindMend(known, log)) return true;
  if (incarnation !== log.incarnation || lastApplied > log.lastSequence) return false;
  if (lastChecksum === undefined || lastApplied < log.firstSequence) return true;
  const checksum = await checksumAt(lastApplied);
  return checksum === undefined || checksum === lastChecksum;
}

/** Whether the log was mended so that its first record follows what the replica has applied. */
export function goesOnFrom({ incarnation, lastApplied, lastChecksum }: KnownPast, log: Log): boolean {
  const { continues, firstSequence } = log;
  if (continues === undefined || incarnation !== continues.incarnation) return false;
  if (lastApplied !== continues.sequence || firstSequence !== continues.first) return false;
  // Nothing has to be taken up where it is the same log and none of its records are passed over.
  if (incarnation === log.incarnation && continues.first === lastApplied + 1) return false;
  return lastChecksum === undefined || continues.checksum === undefined || lastChecksum === continues.checksum;
}

/** Whether another replica had more than this one when another log took the place of its own. */
export function isBehindMend({ incarnation, lastApplied }: KnownPast, { continues, incarnation: own }: Log): boolean {
  return (
    continues !== undefined &&
    own !== incarnation &&
    continues.incarnation === incarnation &&
    lastApplied < continues.first - 1
  );
}
