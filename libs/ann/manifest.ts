import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { KithError, crc32c } from "../base/index.js";
import { native } from "./native.js";
import type { RowsPart, SavedFiles } from "./saved-files.js";
import type { IndexOptions } from "./types.js";

const fileName = "manifest.json";
const formatVersion = 2;
const extraBytesMax = 64 * 1024;

export interface Manifest {
  format: number;
  options: Required<IndexOptions>;
  sequence: number;
  extra: Record<string, string | number>;
  /** The part of the names of graph and meta that is this save's own: `graph-<save>.bin` and so on. */
  save: string;
  rows: RowsPart[];
  /** The vectors as they were given, where these are kept; missing where a release wrote it that did not know of it. */
  given?: RowsPart[];
  files: SavedFiles;
  /** Of graph and meta, where they are encrypted: their key, wrapped. */
  key?: string;
}

const numberFields = [
  "rowCount",
  "aliveCount",
  "graphRowCount",
  "entryRow",
  "checkedRowCount",
  "code",
  "generation",
  "scaleBits",
  "clippedCount",
  "graphBytes",
  "graphCrc",
  "metaBytes",
  "metaCrc",
] as const;

/** Writes a directory's own entries to disk, so that a rename in it survives a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function checkExtra(extra: Record<string, string | number>): void {
  const sizeBytes = Buffer.byteLength(JSON.stringify(extra));
  if (sizeBytes > extraBytesMax) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `extra takes ${sizeBytes} bytes as JSON; at most ${extraBytesMax} are kept`,
      {
        details: { sizeBytes, limitBytes: extraBytesMax },
      },
    );
  }
}

/** Puts the manifest in place of the old one: from the moment of the rename the new save is the index. */
export async function writeManifest(directory: string, manifest: Omit<Manifest, "format">): Promise<void> {
  const body = JSON.stringify({ format: formatVersion, ...manifest });
  const text = `{"crc32c":${crc32c(Buffer.from(body))},"manifest":${body}}\n`;
  const temporary = join(directory, `${fileName}.tmp`);
  const handle = await open(temporary, "w");
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, join(directory, fileName));
  await syncDirectory(directory);
}

function corrupt(directory: string, what: string, cause?: unknown): KithError {
  return new KithError(
    "CORRUPT_DATA",
    `the manifest in ${directory} ${what}; delete the folder and rebuild the index`,
    {
      details: { directory },
      cause,
    },
  );
}

const saveName = /^[0-9a-f]+$/;

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isKey(value: unknown): boolean {
  return value === undefined || typeof value === "string";
}

function isRowsPart(value: unknown): value is RowsPart {
  if (typeof value !== "object" || value === null) return false;
  const { save, rowCount, bytes, crc, key } = value as Partial<Record<keyof RowsPart, unknown>>;
  return isKey(key) && typeof save === "string" && saveName.test(save) && [rowCount, bytes, crc].every(isCount);
}

function isManifest(value: unknown): value is Manifest {
  if (typeof value !== "object" || value === null) return false;
  const {
    format,
    options,
    sequence,
    extra,
    save,
    rows,
    given = [],
    files,
    key,
  } = value as Partial<Record<keyof Manifest, unknown>>;
  if (format !== formatVersion || typeof sequence !== "number" || typeof save !== "string") return false;
  if (!saveName.test(save) || typeof extra !== "object" || extra === null) return false;
  if (typeof options !== "object" || options === null || typeof files !== "object" || files === null) return false;
  const fields = files as Record<string, unknown>;
  return (
    isKey(key) &&
    Array.isArray(rows) &&
    rows.every(isRowsPart) &&
    Array.isArray(given) &&
    given.every(isRowsPart) &&
    numberFields.every((field) => isCount(fields[field])) &&
    ["mapped", "offsets", "originals"].every((field) => typeof fields[field] === "boolean")
  );
}

/** The manifest of a directory, or undefined where there is none. Throws CORRUPT_DATA. */
export async function readManifest(directory: string): Promise<Manifest | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, fileName), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  // The checksum is over the text itself, so no byte of it is trusted before.
  const parts = /^\{"crc32c":(\d{1,10}),"manifest":(\{.*\})\}\n$/s.exec(text);
  if (parts === null) throw corrupt(directory, "is not a manifest");
  const body = parts[2] ?? "";
  if (crc32c(Buffer.from(body)) !== Number(parts[1])) throw corrupt(directory, "does not match its checksum");
  let manifest: unknown;
  try {
    manifest = JSON.parse(body);
  } catch (error) {
    throw corrupt(directory, "is not JSON", error);
  }
  manifest = fromFirstFormat(manifest);
  if (!isManifest(manifest)) throw corrupt(directory, "has not the fields that this version reads");
  return manifest;
}

interface FirstFormat {
  format: 1;
  options: Record<string, unknown>;
  save: string;
  files: Record<string, unknown> & { calibrated: boolean; rowCount: number; rowsBytes: number; rowsCrc: number };
}

function isFirstFormat(value: unknown): value is FirstFormat {
  const { format, options, files } = (value ?? {}) as Partial<Record<keyof FirstFormat, unknown>>;
  return format === 1 && typeof options === "object" && options !== null && typeof files === "object" && files !== null;
}

/** Format 1 had one file of rows, and i8 rows of one generation. The datatype was called "storage" in its first version. */
function fromFirstFormat(manifest: unknown): unknown {
  if (!isFirstFormat(manifest)) return manifest;
  const { options, files, save } = manifest;
  const datatype = options["datatype"] ?? options["storage"];
  const code = native().layout.code;
  const isI8 = datatype === "i8";
  return {
    ...manifest,
    format: formatVersion,
    options: { ...options, datatype },
    rows: [{ save, rowCount: files.rowCount, bytes: files.rowsBytes, crc: files.rowsCrc }],
    files: {
      checkedRowCount: 0,
      ...files,
      code: code[datatype as keyof typeof code],
      generation: isI8 && files.calibrated ? 1 : 0,
      clippedCount: 0,
      originals: isI8 && !files.calibrated,
    },
  };
}

/** Options that decide how rows and graph look; the others may change between runs. */
const lasting = ["dimension", "metric", "datatype", "m", "efConstruction"] as const;

export function checkOptions(directory: string, manifest: Manifest, wanted: Required<IndexOptions>): void {
  for (const name of lasting) {
    if (manifest.options[name] !== wanted[name]) {
      throw corrupt(directory, `was written with ${name} ${manifest.options[name]}, but ${wanted[name]} is wanted`);
    }
  }
  const [has, wants] = [manifest.options, wanted].map(({ givenFolder }) => (givenFolder ?? "") !== "");
  if (has !== wants) {
    throw corrupt(directory, `was written ${has === true ? "with" : "without"} the vectors as they were given`);
  }
}
