import type { LogState } from "../../log/index.js";

/** What a replica has read of its log. */
export interface KnownPast {
  /** "" where it has read nothing. */
  incarnation: string;
  lastApplied: number;
  /** Of the record `lastApplied`, where it is known. */
  lastChecksum: number | undefined;
}

/** Whether the log is, as far as it can tell, the one that the replica has read. */
export async function isPastOf(
  { incarnation, lastApplied, lastChecksum }: KnownPast,
  log: Omit<LogState, "sizeBytes">,
  checksumAt: (sequence: number) => Promise<number | undefined>,
): Promise<boolean> {
  if (incarnation === "") return true;
  if (incarnation !== log.incarnation || lastApplied > log.lastSequence) return false;
  if (lastChecksum === undefined || lastApplied < log.firstSequence) return true;
  const checksum = await checksumAt(lastApplied);
  return checksum === undefined || checksum === lastChecksum;
}
