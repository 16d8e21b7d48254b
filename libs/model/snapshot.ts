/** Of the store of a replica; see docs/format.md for what it covers. */
export const storeFormat = 2;

/** What a replica needs of a copy. */
export interface SnapshotWanted {
  /** Of the log that it follows: a replica with another past is no help. */
  incarnation: string;
  /** The copy must have applied this sequence: the log can be read from behind it. */
  minSequence: number;
  /** It is to hold which points records have changed as well: they go on in the copy. */
  withChanges?: boolean;
  /** The files of store and indexes will do in the place of entries; who gives the snapshot may not be able to. */
  takesFiles?: boolean;
  /** Goes on with a snapshot that broke off, where it is still held: NOT_FOUND where it is not. */
  resume?: SnapshotPlace;
}

/** How far a snapshot has come. */
export interface SnapshotPlace {
  /** Of the snapshot. */
  id: string;
  /** The last key that has come; empty where files come. */
  afterKey: Uint8Array;
  /** Where files come: what comes next. */
  file?: FilePlace;
}

/** A place in the files of a snapshot. */
export interface FilePlace {
  /** Position of the file in the manifest. */
  file: number;
  /** In bytes. */
  offset: number;
}

export interface SnapshotFile {
  /** Path within the replica's directory: "db/000012.ldb", "index-dense-0/manifest.json". */
  name: string;
  sizeBytes: number;
}

/** A part of a file of a snapshot. Those of a file come in order, and files in that of the manifest. */
export interface SnapshotBlock extends FilePlace {
  data: Uint8Array;
  /** CRC-32C of the file up to the end of `data`. */
  crc32c: number;
}

export interface SnapshotManifest {
  /** Of the store; see storeFormat. */
  format: number;
  incarnation: string;
  /** Applied. */
  sequence: number;
  pointCount: number;
  /** Whether it holds which points records have changed. */
  withChanges?: boolean;
  /** Of this snapshot, by which it can be asked for again for some time; "" where it cannot. */
  id: string;
  /** About what keys and values take, or files, in bytes; 0 where that is not known. */
  sizeBytes: number;
  /** Where it is of files: all of them, in the order in which they come. They hold which points records have changed, too. */
  files?: readonly SnapshotFile[];
}

/** Entries of a replica's store as they lie there: each value ends with its own checksum. Aligned. */
export interface SnapshotChunk {
  keys: Uint8Array[];
  values: Uint8Array[];
}

/** A replica's content as of one moment, to be read as often as needed. */
export interface TakenSnapshot {
  manifest: Omit<SnapshotManifest, "id">;
  /** All entries in order of key, or those behind a key. */
  chunks: (after?: Uint8Array) => AsyncIterable<SnapshotChunk>;
  /** In their place where the manifest names files: all of these, or what follows a place. */
  blocks?: (from?: FilePlace) => AsyncIterable<SnapshotBlock>;
  /** Never rejects. */
  close: () => Promise<void>;
}

/** A replica's content as of one moment, to be read once. */
export interface Snapshot {
  manifest: SnapshotManifest;
  /** In order of key. Rejects where it breaks off: what has come by then is no copy. */
  chunks: AsyncIterable<SnapshotChunk>;
  /** In their place where the manifest names files. */
  blocks?: AsyncIterable<SnapshotBlock>;
  /** Lets go of what the snapshot holds, read to the end or not. Never rejects. */
  close: () => Promise<void>;
}
