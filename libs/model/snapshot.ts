/** What a replica needs of a copy. */
export interface SnapshotWanted {
  /** Of the log that it follows: a replica with another past is no help. */
  incarnation: string;
  /** The copy must have applied this sequence: the log can be read from behind it. */
  minSequence: number;
}

export interface SnapshotManifest {
  /** Of the store; see storeFormat. */
  format: number;
  incarnation: string;
  /** Applied. */
  sequence: number;
  pointCount: number;
}

/** Entries of a replica's store as they lie there: each value ends with its own checksum. Aligned. */
export interface SnapshotChunk {
  keys: Uint8Array[];
  values: Uint8Array[];
}

/** A replica's content as of one moment, to be read once. */
export interface Snapshot {
  manifest: SnapshotManifest;
  /** In order of key. Rejects where it breaks off: what has come by then is no copy. */
  chunks: AsyncIterable<SnapshotChunk>;
  /** Lets go of what the snapshot holds, read to the end or not. Never rejects. */
  close: () => Promise<void>;
}
