import { mkdir } from "node:fs/promises";
import { ClassicLevel } from "classic-level";
import { KithError, toKithError } from "../../base/index.js";

export type LogDatabase = ClassicLevel<Uint8Array, Uint8Array>;
export type OpenDatabase = (directory: string) => Promise<LogDatabase>;

/** Records are up to 1 MiB: LevelDB's defaults (4 MiB write buffer, 2 MiB files) would hold only a few each. */
const writeBufferBytes = 16 * 1024 * 1024;
const fileBytes = 16 * 1024 * 1024;

/**
 * Opens the database; FAILED_PRECONDITION when another process has it, CORRUPT_DATA when LevelDB cannot read it.
 * Records are mostly vectors, which Snappy does not shrink: compression is off.
 */
export async function openLogDatabase(directory: string): Promise<LogDatabase> {
  await mkdir(directory, { recursive: true });
  const database: LogDatabase = new ClassicLevel<Uint8Array, Uint8Array>(directory, {
    keyEncoding: "view",
    valueEncoding: "view",
    compression: false,
    writeBufferSize: writeBufferBytes,
    maxFileSize: fileBytes,
  });
  try {
    await database.open();
  } catch (error) {
    throw databaseError(error, directory);
  }
  return database;
}

function codesOf(error: unknown): { codes: string[]; text: string } {
  const codes: string[] = [];
  const texts: string[] = [];
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = (at as NodeJS.ErrnoException).code;
    if (code !== undefined) codes.push(code);
    texts.push(at.message);
  }
  return { codes, text: texts.join(": ") };
}

/** What LevelDB threw, as a KithError. */
export function databaseError(error: unknown, directory: string): KithError {
  if (error instanceof KithError) return error;
  const { codes, text } = codesOf(error);
  if (codes.includes("LEVEL_LOCKED")) {
    return new KithError(
      "FAILED_PRECONDITION",
      `the directory ${directory} is in use by another process; stop it or give this one another directory`,
      { cause: error, details: { directory } },
    );
  }
  if (codes.includes("ENOSPC") || /No space left|Disk quota exceeded/i.test(text)) {
    return new KithError("DISK_FULL", `the disk of ${directory} is full; free space and try again`, {
      cause: error,
      details: { directory },
    });
  }
  if (codes.includes("LEVEL_CORRUPTION")) {
    return new KithError("CORRUPT_DATA", `the database in ${directory} is damaged: ${text}`, {
      cause: error,
      details: { directory },
    });
  }
  const other = toKithError(error);
  return other.code === "INTERNAL"
    ? new KithError("INTERNAL", `the database in ${directory} failed: ${text}`, { cause: error })
    : other;
}
