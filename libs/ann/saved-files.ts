/** Some rows in a file of their own, `rows-<save>.bin`, in the order of the rows. It is never changed. */
export interface RowsPart {
  /** The save that wrote it. */
  save: string;
  rowCount: number;
  bytes: number;
  crc: number;
  /** Of an encrypted file: its key, wrapped. */
  key?: string;
}

/** What native code says of the files that it wrote (native/saved_index.h). */
export interface SavedFiles {
  rowCount: number;
  aliveCount: number;
  graphRowCount: number;
  entryRow: number;
  checkedRowCount: number;
  mapped: boolean;
  /** How the rows are written, and with which fit of the codec: rows of one generation can be appended to. */
  code: number;
  generation: number;
  offsets: boolean;
  scaleBits: number;
  clippedCount: number;
  graphBytes: number;
  graphCrc: number;
  metaBytes: number;
  metaCrc: number;
  /** Of format 1 alone: i8 rows whose codes were not final, with the vectors as they were given. */
  originals: boolean;
}
