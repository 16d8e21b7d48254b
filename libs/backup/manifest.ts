import { crc32c, type FormatMark, KithError, refuseNewer, toKithError } from "../base/index.js";
import type { Collection, SlotRange } from "../model/index.js";
import type { FileStore } from "./store/port.js";

/** Of all that is described here, and of the files beside it. 2: parts may be of a replica's files. */
export const backupFormat = 2;
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

/** A part of a replica's file. */
export interface ChunkFile {
  /** Its key, which ends with the hash of its content: see chunkHash. */
  file: string;
  /** As it was written. */
  sizeBytes: number;
}

/** A file of a replica. */
export interface CopiedFile {
  /** Path within the replica's directory: see SnapshotFile. */
  name: string;
  sizeBytes: number;
  crc32c: number;
  /** In order. All but the last have `chunkBytes` of it. */
  chunks: ChunkFile[];
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
  /** What the last operations did, for those who go on from here; missing for a part of files, which hold it. */
  outcomes?: { file: string; sizeBytes: number; crc32c: number };
  /** In order of id; none for a part of files. */
  files: PointsFile[];
  /** The files of the replica, in the order in which they are copied; missing for a part of points. */
  replica?: {
    /** Of its store: storeFormat. */
    format: number;
    files: CopiedFile[];
  };
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

/** What backups of several collections have in common that were begun together. */
export interface BackupGroup {
  name: string;
  /** How many they are. */
  size: number;
}

/** A backup that is whole. */
export interface BackupRecord extends FormatMark {
  id: string;
  collection: BackedCollection;
  startedAtMs: number;
  endedAtMs: number;
  /** The backup whose files it uses as well. */
  base?: string | undefined;
  group?: BackupGroup;
  pointCount: number;
  sizeBytes: number;
  writtenBytes: number;
  /** Without what only the parts' own files tell. */
  parts: (Pick<BackupPart, "shard" | "slots" | "sequence" | "incarnation" | "digest" | "pointCount"> & {
    sizeBytes: number;
    /** Of the part's file. */
    crc32c: number;
    /** Of the store, where the part is of files: storeFormat. */
    storeFormat?: number;
    /** Of the collection's schema, as the shard had it; missing where an earlier release wrote this. */
    schemaVersion?: number;
  })[];
}

/** The files of points and chunks that a part is made of, which other backups may use too: each once, with its size. */
export function sharedFilesOf({ files, replica }: BackupPart): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const { file, sizeBytes } of files) sizes.set(file, sizeBytes);
  for (const { chunks } of replica?.files ?? []) for (const { file, sizeBytes } of chunks) sizes.set(file, sizeBytes);
  return sizes;
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
