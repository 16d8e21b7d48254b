import { crc32c, type FormatMark, KithError, refuseNewer, toKithError } from "../base/index.js";
import type { Collection, SlotRange } from "../model/index.js";
import type { FileStore } from "./store/port.js";

/** Of all that is described here, and of the files of points. */
export const backupFormat = 1;
/** The first release that reads the format. */
const backupFormatRelease = "0.2.0";

export const formatMark: FormatMark = { format: backupFormat, release: backupFormatRelease };

/** A file of points: one range of ids of a shard. */
export interface PointsFile {
  /** Its key. */
  file: string;
  sizeBytes: number;
  points: number;
  /** The first id, in hexadecimal; ids up to the next file's first belong to this one. */
  first: string;
  /** Sequence of the shard at which it was written: no point of it changed since, up to the sequence of the part. */
  sequence: number;
  /** Sum of the digests of the points, as hexadecimal text: they sum up to the replica's. */
  digest: string;
}

/** What a backup has of one shard: its state after `sequence`. */
export interface BackupPart extends FormatMark {
  shard: number;
  slots: SlotRange;
  /** Of the shard's log, from behind which the state goes on. */
  incarnation: string;
  sequence: number;
  digestFormat: number;
  /** Of the replica at `sequence`. */
  digest: string;
  pointCount: number;
  /** JSON as the store has it: its schema and its state. */
  schema: string;
  state: string;
  /** What the last operations did, for those who go on from here. */
  outcomes: { file: string; sizeBytes: number; crc32c: number };
  /** In order of id. */
  files: PointsFile[];
  /** Bytes that were written for this part; the other files are of backups before. */
  writtenBytes: number;
}

/** A collection as a backup keeps it. */
export type BackedCollection = Pick<
  Collection,
  | "id"
  | "name"
  | "fields"
  | "sparseFields"
  | "payloadIndexes"
  | "schemaVersion"
  | "replicationFactor"
  | "labels"
  | "strictMode"
  | "recallTarget"
  | "partitionKey"
>;

/** A backup that is whole. */
export interface BackupRecord extends FormatMark {
  id: string;
  collection: BackedCollection;
  startedAtMs: number;
  endedAtMs: number;
  /** The backup whose files it uses as well. */
  base?: string | undefined;
  pointCount: number;
  sizeBytes: number;
  writtenBytes: number;
  /** Without what only the parts' own files tell. */
  parts: (Pick<BackupPart, "shard" | "slots" | "sequence" | "incarnation" | "digest" | "pointCount"> & {
    sizeBytes: number;
    /** Of the part's file. */
    crc32c: number;
  })[];
}

/** A backup that is being written. */
export interface BegunBackup extends FormatMark {
  id: string;
  collectionId: string;
  base?: string | undefined;
}

/** JSON behind a line with its CRC-32C. */
export function encodeJson(value: FormatMark): Buffer {
  const body = Buffer.from(JSON.stringify(value));
  return Buffer.concat([Buffer.from(`KBJ1 ${crc32c(body).toString(16).padStart(8, "0")}\n`), body]);
}

/** CORRUPT_DATA where the file is damaged, FAILED_PRECONDITION where a newer release wrote it. */
export function decodeJson<T extends FormatMark>(file: string, bytes: Buffer): T {
  const match = /^KBJ1 ([0-9a-f]{8})\n/.exec(bytes.subarray(0, 14).toString("latin1"));
  const body = bytes.subarray(14);
  if (match === null || crc32c(body) !== Number.parseInt(match[1] as string, 16)) {
    throw new KithError("CORRUPT_DATA", `the file ${file} of a backup is damaged`, { details: { file } });
  }
  const value = JSON.parse(body.toString()) as T;
  refuseNewer(`the file ${file} of a backup`, value, backupFormat);
  return value;
}

export async function readJson<T extends FormatMark>(store: FileStore, file: string): Promise<T> {
  return decodeJson<T>(file, await store.get(file));
}

/** Undefined where there is none, or where what is there cannot be read: it is written again then. */
export async function findJson<T extends FormatMark>(store: FileStore, file: string): Promise<T | undefined> {
  try {
    return await readJson<T>(store, file);
  } catch (error) {
    const { code } = toKithError(error);
    if (code === "NOT_FOUND" || code === "CORRUPT_DATA") return undefined;
    throw error;
  }
}
