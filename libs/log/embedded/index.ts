import type { Log } from "../port.js";
import { EmbeddedLog, type EmbeddedLogOptions } from "./log.js";

/**
 * Opens the log that needs no other software: all logs of the process in one LevelDB, every append fsynced.
 * Rejects with FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when it is damaged.
 */
export function openEmbeddedLog(options: EmbeddedLogOptions): Promise<Log> {
  return EmbeddedLog.open(options);
}
