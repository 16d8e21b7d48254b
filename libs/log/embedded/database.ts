import type { ClassicLevel } from "classic-level";
import { openLevel } from "../../base/index.js";

export type LogDatabase = ClassicLevel<Uint8Array, Uint8Array>;
export type OpenDatabase = (directory: string) => Promise<LogDatabase>;

/** Records are up to 1 MiB: LevelDB's defaults (4 MiB write buffer, 2 MiB files) would hold only a few each. */
const defaultWriteBufferBytes = 8 * 1024 * 1024;
const fileBytes = 16 * 1024 * 1024;
/** Records are read in order, and seldom twice. */
const cacheBytes = 1024 * 1024;

/**
 * Opens the database; FAILED_PRECONDITION when another process has it, CORRUPT_DATA when LevelDB cannot read it.
 * Records are mostly vectors, which Snappy does not shrink: compression is off.
 */
export function openLogDatabase(
  directory: string,
  writeBufferBytes: number = defaultWriteBufferBytes,
): Promise<LogDatabase> {
  return openLevel<Uint8Array, Uint8Array>(directory, {
    keyEncoding: "view",
    valueEncoding: "view",
    compression: false,
    writeBufferSize: writeBufferBytes,
    maxFileSize: fileBytes,
    cacheSize: cacheBytes,
  });
}
