import { readdir, readFile } from "node:fs/promises";
import { KithError } from "../../libs/base/index.js";

/**
 * File handles that new replicas leave to connections and to the databases that are open: one whose compaction finds none stops.
 * An eighth of what the process may have, within these bounds.
 */
const reserveMin = 32;
const reserveMax = 256;

/** How many file handles the process has, and may have; undefined where the system does not tell (outside of Linux). */
export type CountHandles = () => Promise<{ open: number; limit: number } | undefined>;

/** Of this process, by /proc. */
export async function countHandles(): Promise<{ open: number; limit: number } | undefined> {
  try {
    const limit = Number(/^Max open files\s+(\d+)/m.exec(await readFile("/proc/self/limits", "utf8"))?.[1]);
    return Number.isNaN(limit) ? undefined : { open: (await readdir("/proc/self/fd")).length, limit };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EACCES") return undefined;
    throw error;
  }
}

/** RESOURCE_EXHAUSTED where a replica that is opened now would take handles that others need. */
export async function leaveHandles(count: CountHandles): Promise<void> {
  const handles = await count();
  if (handles === undefined) return;
  const { open, limit } = handles;
  const reserve = Math.min(reserveMax, Math.max(reserveMin, Math.floor(limit / 8)));
  if (limit - open > reserve) return;
  throw new KithError(
    "RESOURCE_EXHAUSTED",
    `too many open files: this process has ${open} of at most ${limit}, and keeps ${reserve} for connections and the replicas that it holds; ` +
      "raise the limit (ulimit -n, LimitNOFILE), or delete collections that are not needed",
    { details: { open, limit, reserve } },
  );
}
