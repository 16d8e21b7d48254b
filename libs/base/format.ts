import { KithError } from "./errors.js";

/** What lies in a directory says of its own form. */
export interface FormatMark {
  format: number;
  /** The first release that reads the format: an older one cannot know it otherwise. */
  release?: string | undefined;
}

/**
 * Refuses what a newer release has written: FAILED_PRECONDITION.
 *
 * @param what begins the message, such as "the log in /data/log"
 * @param formatMax the highest that this release reads
 */
export function refuseNewer(what: string, { format, release }: FormatMark, formatMax: number): void {
  if (format <= formatMax) return;
  const needed = release === undefined ? "the release that wrote it" : `release ${release}`;
  throw new KithError(
    "FAILED_PRECONDITION",
    `${what} was written by a newer release (format ${format}); this release reads up to ${formatMax}: start ${needed} or a later one`,
    { details: { format, formatMax } },
  );
}
