import type { Cancellation } from "../base/index.js";

/** How two vectors are compared. Distances are always "smaller is nearer". */
export type Metric = "cosine" | "dot" | "l2";

/** How an element of a vector is stored in the arena. */
export type Datatype = "f32" | "f16" | "bf16" | "i8" | "i4" | "pq16" | "pq32" | "binary" | "pq64";

export interface IndexOptions {
  dimension: number;
  /**
   * cosine: distance 1 − cos(a, b), in [0, 2] (vectors are normalised once when they are stored);
   * dot: distance −⟨a, b⟩; l2: SQUARED euclidean distance.
   */
  metric: Metric;
  datatype: Datatype;
  /**
   * A folder, in which the vectors are kept as they were given too: in a file without a name, which the system keeps as much of in memory as there is room for.
   * Results are scored by them, whatever the datatype. `memory:` in its place: in memory, and nowhere on the disk. Empty or missing: nowhere,
   * which cannot be with product codes (pq16, pq32, pq64): their graph is linked by it.
   */
  givenFolder?: string;
  /** Links per node above the base layer (HNSW M); the base layer has 2·M. */
  m: number;
  /** Beam width while building (HNSW efConstruction). */
  efConstruction: number;
  /**
   * Below this many rows no graph is built: the exact scan is faster and perfect. Default: measured, see bench/ann. A graph of up to eight times as many
   * is scanned too where fewer than this differ.
   */
  graphThreshold?: number;
  /** `add` resolves late (back-pressure) while more rows than this wait for the graph. */
  tailRowsMax?: number;
}

export interface SearchOptions {
  /** Results wanted, 1..10 000. */
  k: number;
  /** Beam width of this query; raised to k where smaller. */
  ef: number;
  /** Scan all alive rows instead of the graph. */
  exact?: boolean;
  /**
   * Bit s set = slot s is allowed. Little-endian bit order: slot s is bit (s & 7) of byte (s >> 3). Slots beyond it are not allowed. It is not to be
   * changed before the search has ended.
   */
  filter?: Uint8Array;
  /** Rows that are scored as they were given, where that is kept; at least k. Missing: what is usual for the datatype. */
  scored?: number;
  /** Score by codes, though the vectors are kept as they were given. */
  codesOnly?: boolean;
  /** Scan exactly these slots (dead and unknown ones are skipped). Excludes `filter`. */
  slots?: Uint32Array;
  /** Whether the result tells how it was come by. */
  explain?: boolean;
  /** Aborting ends the native search early; the promise rejects with CANCELLED or DEADLINE_EXCEEDED. */
  signal?: Cancellation;
}

/** How a search came by its result. */
export interface SearchExplanation {
  /**
   * "two_hop_walk": a walk over the rows that the filter allows, through the others; "walk_then_scan": a walk that cost more than it
   * should was given up for a scan.
   */
  plan: "walk" | "two_hop_walk" | "scan" | "walk_then_scan";
  /** Rows of the graph whose links were followed. */
  visitedRows: number;
  /** Rows whose distance was computed on the walk, and by a scan (that of the tail, too, which is not in the graph yet). */
  walkedRows: number;
  scannedRows: number;
  /**
   * Where there was a choice, because of a filter or of removed rows: rows that might be returned, and what walk and scan were
   * thought to cost; a walk by two hops, where that was thought to be the cheapest. It is still not taken where the surroundings of the
   * query have too few of the allowed rows.
   */
  decision: { allowedRows: number; walkUs: number; scanUs: number; twoHopsUs?: number } | undefined;
  /** Why, in words, where the numbers above do not say it. */
  reason?: string;
}

export interface SearchResult {
  /** Slots, nearest first; ties by slot. Length ≤ k. */
  slots: Uint32Array;
  /** Distances aligned with `slots`. */
  distances: Float32Array;
  /** Rows whose distance was computed. */
  computed: number;
  /** "graph", "scan" (exact), or "graph+scan" (graph and the exact scan of the tail not yet in it). */
  plan: "graph" | "scan" | "graph+scan";
  /** Microseconds in the queue of the pool, and in the search itself. */
  queueUs: number;
  searchUs: number;
  /** Where the search was asked to explain. */
  explanation?: SearchExplanation;
}

export interface IndexStats {
  /** Rows added, alive or dead. */
  rowCount: number;
  aliveCount: number;
  /** Rows in the graph; the rest is the tail, scanned exactly. */
  graphRowCount: number;
  tailRowCount: number;
  /** Bytes by part. */
  arenaBytes: number;
  graphBytes: number;
  otherBytes: number;
  /** Vectors as they were given, beside the codes. */
  givenBytes: number;
  /** Where these are: in a mapped file, or in memory; undefined where they are not kept. */
  givenIn: "file" | "memory" | undefined;
  hugePages: boolean;
  /** The SIMD kernels in use: "avx512", "avx2", "neon", "portable". */
  simd: string;
}

/**
 * One native index: an HNSW graph (usearch `index_gt`) over an arena of vectors. A row is addressed by a caller-given
 * `slot` (u32, unique among alive rows). Searches run on a process-wide thread pool; additions are ordered and go
 * through one writer thread of this index. All vectors come in as little-endian f32.
 */
export interface VectorIndex {
  readonly options: Readonly<Required<IndexOptions>>;
  /**
   * Stores the vectors (row-major matrix, `slots.length` × dimension) and makes them searchable at once; they enter
   * the graph in the background, in order. Resolves when the tail is below `tailRowsMax` again.
   * The caller has checked that every number is finite and, for cosine, that no vector is zero; a row that breaks this
   * throws INVALID_ARGUMENT and none of the batch is added.
   */
  add(slots: Uint32Array, vectors: Float32Array): Promise<void>;
  /**
   * Marks slots dead: not returned by searches that start afterwards. A search under way returns what was alive when it
   * began, so it sees a point that is overwritten (new slot added, then old slot removed) in one version or the other.
   * Unknown slots are ignored.
   */
  remove(slots: Uint32Array): void;
  search(query: Float32Array, options: SearchOptions): Promise<SearchResult>;
  /** Distances are exact for f32; the vector as stored (decoded to f32; normalised for cosine), or undefined. */
  get(slot: number): Float32Array | undefined;
  /** Resolves when every row added before this call is in the graph. */
  flush(signal?: AbortSignal): Promise<void>;
  /**
   * Writes the index to `directory` (created if need be), atomically under kill -9: new files, fsync, manifest rename,
   * fsync of the directory. `sequence` and `extra` (≤ 64 KiB) come back from `load`. Searches and the writer go on meanwhile.
   * Resolves with the bytes of all files of the index, and of those that this save wrote: rows that the last save into the
   * same directory wrote are not written again. Rejects with DISK_FULL, or RESOURCE_EXHAUSTED without memory or file handles.
   */
  save(
    directory: string,
    manifest: { sequence: number; extra?: Record<string, string | number> },
  ): Promise<{ bytes: number; writtenBytes?: number }>;
  stats(): IndexStats;
  /** Ends the writer and frees memory; searches in flight end first. */
  close(): Promise<void>;
}

export interface LoadedIndex {
  index: VectorIndex;
  sequence: number;
  extra: Record<string, string | number>;
}
