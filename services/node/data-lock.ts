import { join } from "node:path";
import { errorChain, KithError, levelError, openLevel } from "../../libs/base/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/**
 * Keeps other processes out of a node's data folder until the lock is closed or this process ends, in whatever way: an empty LevelDB,
 * whose lock the operating system takes back. FAILED_PRECONDITION where another process has it. On a disk that takes no
 * lock (it is full, say) the node starts without one: it may be the node that is to make room.
 */
export async function lockData(data: string, logger: Logger): Promise<{ close(): Promise<void> }> {
  const directory = join(data, "lock");
  try {
    return await openLevel(directory, {});
  } catch (error) {
    const { code, message } = levelError(error, directory);
    if (errorChain(error).codes.includes("LEVEL_LOCKED")) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `the data folder ${data} is in use by another process; end that one, or give this one another folder by the setting data (KITH_DATA)`,
        { cause: error, details: { data } },
      );
    }
    logger.warn(`nothing keeps other processes out of the data folder ${data}: ${message}`, { code });
    return { close: () => Promise.resolve() };
  }
}
