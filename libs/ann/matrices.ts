import { type Cancellation, deferred, type Deferred, KithError, limits } from "../base/index.js";
import { checkArray } from "./arrays.js";
import { openChannel } from "./channel.js";
import { toKithFailure } from "./failures.js";
import { native } from "./native.js";
import { type FileKeys, fileKeyOf, noFileKey } from "./file-keys.js";
import type { FileSum } from "./postings.js";
import type { Datatype, Metric } from "./types.js";

/** How a matrix becomes one vector: see native/fixed_encoding.h. Its length is repetitions × 2^planes × projected. */
export interface EncodingShape {
  /** 1 to 64. */
  repetitions: number;
  /** 0 to 8. */
  planes: number;
  /** 1 to 512. */
  projected: number;
}

export interface MatrixOptions {
  /** Of each row. */
  dimension: number;
  /** How two rows are compared; see IndexOptions. */
  metric: Metric;
  datatype: Datatype;
  /** Missing: matrices are not encoded. */
  encoding?: EncodingShape;
}

/** Matrices by slot. */
export interface MatrixRows {
  slots: Uint32Array;
  /** Rows of each, 1 to limits.matrixRows. */
  rowCounts: Uint32Array;
  /** All rows of all matrices, one behind the other. */
  vectors: Float32Array;
}

export interface MatrixSearchOptions {
  /** Results wanted, 1..10 001. */
  k: number;
  /** As of a search of vectors. */
  filter?: Uint8Array;
  slots?: Uint32Array;
  signal?: Cancellation;
}

export interface MatrixSearchResult {
  /** Nearest first; ties by slot. */
  slots: Uint32Array;
  /**
   * Of cosine 1 less the sum of the largest similarities, of dot the negated sum of the largest products, of l2 the sum of the least squared distances:
   * so that a score is made of them as of the distance of a vector.
   */
  distances: Float32Array;
  /** Pairs of rows that were compared to find them. */
  computed: number;
  /** Threads that it was cut up for. */
  parts: number;
  queueUs: number;
  searchUs: number;
}

interface MatrixStats {
  matrixCount: number;
  aliveCount: number;
  rowCount: number;
  aliveRowCount: number;
  memoryBytes: number;
}

/** Matrices that are encoded at once: some tens of milliseconds of one thread. */
const encodedAtOnce = 32;
const nothing = new Uint32Array(0);

/**
 * Matrices by slot, compared exactly by MaxSim: the sum, over the rows of a query, of the similarity to the most similar row. Matrices are found from the
 * return of `add` to that of `remove`; a search sees the state of the moment in which it was asked for, and runs on as many threads of the pool as
 * it is worth.
 */
export class MatrixIndex {
  readonly options: Readonly<MatrixOptions>;
  /** Numbers of an encoding; 0 without. */
  readonly encodingDimension: number;
  readonly #id: number;
  readonly #channel = openChannel();
  #closed: Promise<void> | undefined;
  #inFlight = 0;
  #idle: Deferred<void> | undefined;

  private constructor(options: MatrixOptions, id: number) {
    this.options = Object.freeze({ ...options });
    this.#id = id;
    const { encoding } = options;
    this.encodingDimension =
      encoding === undefined ? 0 : encoding.repetitions * 2 ** encoding.planes * encoding.projected;
  }

  static create(options: MatrixOptions): MatrixIndex {
    openChannel();
    return new MatrixIndex(options, native().matricesCreate(wordsOf(options)));
  }

  /** What `save` wrote. Rejects with CORRUPT_DATA where the file is not the one that was saved. */
  static async load(options: MatrixOptions, path: string, sum: FileSum, keys?: FileKeys): Promise<MatrixIndex> {
    const key = fileKeyOf(keys, sum.key, `the file ${path}`);
    let id = -1;
    await openChannel().operate(
      (ticket) => {
        native().matricesLoad(ticket, wordsOf(options), path, sum.bytes, sum.crc, key);
        return false;
      },
      undefined,
      (ticket) => {
        id = native().matricesTake(ticket);
      },
    );
    return new MatrixIndex(options, id);
  }

  /**
   * All matrices or none: INVALID_ARGUMENT for a slot that is alive already, a matrix without rows or with too many, and for rows that are not finite or, for
   * cosine, zero.
   */
  add({ slots, rowCounts, vectors }: MatrixRows): void {
    this.#assertOpen();
    const fault = new Uint32Array(1);
    const code = native().matricesAdd(this.#id, slots, rowCounts, vectors, fault);
    const { failure } = native().layout;
    if (code === failure.none) return;
    const at = fault[0] ?? 0;
    const slot = slots[at] ?? 0;
    const why =
      code === failure.duplicateSlot
        ? "is alive already or twice in the batch; remove it first"
        : `has a matrix of ${rowCounts[at]} rows that cannot be kept: 1 to ${limits.matrixRows} finite rows are, and for cosine none that is zero`;
    throw new KithError("INVALID_ARGUMENT", `slot ${slot} ${why}`, { details: { slot } });
  }

  /** Slots without a matrix are passed over. */
  remove(slots: Uint32Array): void {
    this.#assertOpen();
    native().matricesRemove(this.#id, slots);
  }

  /** `query`: rows of the index's dimension, one behind the other. */
  async search(query: Float32Array, options: MatrixSearchOptions): Promise<MatrixSearchResult> {
    this.#assertOpen();
    const { k, filter, slots, signal } = options;
    if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `k is ${k}; it must be a whole number from 1 to ${limits.shardResults}`,
      );
    }
    this.#checkQuery(query);
    if (filter !== undefined) checkArray("filter", filter, "Uint8Array");
    if (slots !== undefined) checkArray("slots", slots, "Uint32Array");
    const scope = filter ?? slots ?? nothing;
    const scopeKind = filter !== undefined ? 1 : slots !== undefined ? 2 : 0;
    this.#inFlight++;
    const onEnd = (): void => {
      if (--this.#inFlight === 0) this.#idle?.resolve();
    };
    const result = await this.#channel.searchBy({ explain: false, signal, onEnd }, (ticket) => {
      native().matricesSearch(this.#id, ticket, k, query, scopeKind, scope);
    });
    return {
      slots: result.slots,
      distances: result.distances,
      computed: result.computed,
      parts: result.allowedRows ?? 1,
      queueUs: result.queueUs,
      searchUs: result.searchUs,
    };
  }

  /** The encoding of a query, whose products with those of matrices are about what MaxSim gives. */
  encodeQuery(query: Float32Array): Float32Array {
    this.#assertOpen();
    this.#checkQuery(query);
    const out = new Float32Array(this.encodingDimension);
    native().matricesEncodeQuery(this.#id, query, out);
    return out;
  }

  /** The encodings of the matrices of slots, one behind the other; zeros for a slot without one. Made on a thread of their own. */
  async encode(slots: Uint32Array): Promise<Float32Array> {
    this.#assertOpen();
    const out = new Float32Array(slots.length * this.encodingDimension);
    for (let from = 0; from < slots.length; from += encodedAtOnce) {
      const part = slots.subarray(from, from + encodedAtOnce);
      const target = out.subarray(from * this.encodingDimension, (from + part.length) * this.encodingDimension);
      await this.#operate(
        (ticket) => native().matricesEncode(this.#id, ticket, part),
        (ticket) => native().takeNumbers(ticket, target),
      );
    }
    return out;
  }

  stats(): MatrixStats {
    this.#assertOpen();
    const out = new Float64Array(5);
    native().matricesStats(this.#id, out);
    const [matrixCount = 0, aliveCount = 0, rowCount = 0, aliveRowCount = 0, memoryBytes = 0] = out;
    return { matrixCount, aliveCount, rowCount, aliveRowCount, memoryBytes };
  }

  /** Writes the state of the call's moment into a new file, without what is dead. */
  async save(path: string, keys?: FileKeys): Promise<FileSum> {
    this.#assertOpen();
    const fileKey = keys?.createFileKey();
    const key = fileKey?.key ?? noFileKey;
    const text = await this.#operate((ticket) => native().matricesSave(this.#id, ticket, path, key));
    return { ...(JSON.parse(text) as FileSum), ...(fileKey && { key: fileKey.wrapped }) };
  }

  /** What is under way ends first. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) {
      this.#idle = deferred();
      await this.#idle.promise;
    }
    await this.#channel.operate((ticket) => {
      native().matricesClose(this.#id, ticket);
      return false;
    });
  }

  async #operate(start: (ticket: number) => void, onDone?: (ticket: number) => void): Promise<string> {
    this.#inFlight++;
    try {
      return await this.#channel.operate(
        (ticket) => {
          start(ticket);
          return false;
        },
        undefined,
        onDone,
      );
    } finally {
      if (--this.#inFlight === 0) this.#idle?.resolve();
    }
  }

  #checkQuery(query: Float32Array): void {
    checkArray("query", query, "Float32Array");
    const { dimension } = this.options;
    const rows = query.length / dimension;
    if (Number.isInteger(rows) && rows >= 1 && rows <= limits.matrixRows) return;
    throw new KithError(
      "DIMENSION_MISMATCH",
      `the query has ${query.length} components, which are not 1 to ${limits.matrixRows} rows of ${dimension}`,
      { details: { dimension, given: query.length } },
    );
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw closedError();
  }
}

const matrixDatatypes = ["f32", "f16", "bf16", "i8"] as const;

function wordsOf({ dimension, metric, datatype, encoding }: MatrixOptions): Uint32Array {
  const { layout } = native();
  if (!(matrixDatatypes as readonly string[]).includes(datatype)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `matrices are kept in f32, f16, bf16 or i8; ${datatype} is of single vectors`,
    );
  }
  const { repetitions, planes, projected } = encoding ?? { repetitions: 0, planes: 0, projected: 0 };
  return Uint32Array.of(dimension, layout.metric[metric], layout.datatype[datatype], repetitions, planes, projected);
}

function closedError(): KithError {
  return toKithFailure(native().layout.failure, native().layout.failure.closed, "the index is closed");
}
