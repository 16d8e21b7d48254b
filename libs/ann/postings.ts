import { type Cancellation, deferred, type Deferred, KithError, limits, withAbort } from "../base/index.js";
import { checkArray } from "./arrays.js";
import { openChannel } from "./channel.js";
import { toKithFailure } from "./failures.js";
import { type FileKeys, fileKeyOf, noFileKey } from "./file-keys.js";
import { native } from "./native.js";

/** How an index of postings weighs what rows and queries have in common. */
export type PostingsOptions =
  /** Sum of the products of values: the dot product of sparse vectors. */
  | { kind: "values" }
  /** BM25F over the fields of a text, of which there are 1 to 8: `b` says how much the length of a field counts, 0 to 1. */
  | { kind: "text"; k1: number; fields: readonly { b: number; weight: number }[] };

/** Rows of an index of postings. Row i has the terms from `offsets[i]` to before `offsets[i + 1]`, each of them once. */
export interface PostingRows {
  slots: Uint32Array;
  /** One more than there are rows; from 0. */
  offsets: Uint32Array;
  terms: Uint32Array;
  /** Of a text: for each term, how often it stands in each field. */
  counts?: Uint32Array;
  /** Of values: one for each term. */
  values?: Float32Array;
  /** Of a text: for each row, the tokens of each field. */
  lengths?: Uint32Array;
}

/** What rows of a clause must have: one of its terms, none of them, or whatever they have of them. */
export type ClauseKind = "should" | "must" | "mustNot";

export interface PostingsQuery {
  clauses: readonly ClauseKind[];
  /** Each term once in a clause; terms of "mustNot" add nothing. */
  terms: readonly { term: number; weight: number; clause: number }[];
  /** Of a text: the mean length of each field, over the collection. */
  averages?: readonly number[];
}

export interface PostingsSearchOptions {
  /** Results wanted, 1..10 000. */
  k: number;
  /** As of a search of vectors. */
  filter?: Uint8Array;
  slots?: Uint32Array;
  signal?: Cancellation;
}

export interface PostingsResult {
  /** Best first; ties by slot. */
  slots: Uint32Array;
  /** Negated scores. */
  distances: Float32Array;
  /** Rows that were scored, blocks that were read, and postings of all terms of the query. */
  scoredRows: number;
  decodedBlocks: number;
  postings: number;
  queueUs: number;
  searchUs: number;
}

export interface PostingsStats {
  rowCount: number;
  aliveCount: number;
  segmentCount: number;
  memoryBytes: number;
  /** Tokens of the rows alive, by field. */
  lengths: number[];
}

/** More segments than this make additions wait for the merges. */
const segmentsMax = 48;
const fieldsMax = 8;
const kinds: Readonly<Record<ClauseKind, number>> = { should: 0, must: 1, mustNot: 2 };
const nothing = new Uint32Array(0);

/**
 * An inverted index: rows by slot, each with terms (u32) and what these are worth there. Rows are found from the return of `add` to
 * that of `remove`; a search sees the state of the moment in which it was asked for. Merges run on a thread of their own.
 */
export class PostingsIndex {
  readonly #fields: number;
  readonly #id: number;
  readonly #channel = openChannel();
  #closed: Promise<void> | undefined;
  #inFlight = 0;
  #idle: Deferred<void> | undefined;

  private constructor(fields: number, id: number) {
    this.#fields = fields;
    this.#id = id;
  }

  static create(options: PostingsOptions): PostingsIndex {
    openChannel();
    const { fields, numbers } = wordsOf(options);
    return new PostingsIndex(fields, native().postingsCreate(fields, numbers));
  }

  /** What `save` wrote. Rejects with CORRUPT_DATA where the file is not the one that was saved. */
  static async load(options: PostingsOptions, path: string, sum: FileSum, keys?: FileKeys): Promise<PostingsIndex> {
    const { fields, numbers } = wordsOf(options);
    const key = fileKeyOf(keys, sum.key, `the file ${path}`);
    let id = -1;
    await openChannel().operate(
      (ticket) => {
        native().postingsLoad(ticket, fields, numbers, path, sum.bytes, sum.crc, key);
        return false;
      },
      undefined,
      (ticket) => {
        id = native().postingsTake(ticket);
      },
    );
    return new PostingsIndex(fields, id);
  }

  /** All rows or none: INVALID_ARGUMENT for a slot that is alive already. Resolves when more may come. */
  add({ slots, offsets, terms, counts, values, lengths }: PostingRows): Promise<void> {
    this.#assertOpen();
    const fault = new Uint32Array(1);
    const worth = (this.#fields === 0 ? values : counts) ?? nothing;
    const code = native().postingsAdd(this.#id, slots, offsets, terms, worth, lengths ?? nothing, fault);
    if (code !== native().layout.failure.none) {
      const slot = slots[fault[0] ?? 0] ?? 0;
      throw new KithError("INVALID_ARGUMENT", `slot ${slot} is alive already or twice in the batch; remove it first`);
    }
    if (this.stats().segmentCount <= segmentsMax) return Promise.resolve();
    return this.#settled(segmentsMax);
  }

  /** Slots without a row are passed over. */
  remove(slots: Uint32Array): void {
    this.#assertOpen();
    native().postingsRemove(this.#id, slots);
  }

  /** How many rows alive have each of the terms. */
  termCounts(terms: Uint32Array): Float64Array {
    this.#assertOpen();
    const out = new Float64Array(terms.length);
    native().postingsCounts(this.#id, terms, out);
    return out;
  }

  async search(query: PostingsQuery, options: PostingsSearchOptions): Promise<PostingsResult> {
    this.#assertOpen();
    const { k, filter, slots, signal } = options;
    if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `k is ${k}; it must be a whole number from 1 to ${limits.shardResults}`,
      );
    }
    if (filter !== undefined) checkArray("filter", filter, "Uint8Array");
    if (slots !== undefined) checkArray("slots", slots, "Uint32Array");
    const words = Uint32Array.of(
      query.clauses.length,
      ...query.clauses.map((kind) => kinds[kind]),
      ...query.terms.flatMap(({ term, clause }) => [term, clause]),
    );
    const weights = Float32Array.from(query.terms, ({ weight }) => weight);
    const averages = Float32Array.from(query.averages ?? []);
    const scope = filter ?? slots ?? nothing;
    const scopeKind = filter !== undefined ? 1 : slots !== undefined ? 2 : 0;
    this.#inFlight++;
    const onEnd = (): void => {
      if (--this.#inFlight === 0) this.#idle?.resolve();
    };
    const result = await this.#channel.searchBy({ explain: true, signal, onEnd }, (ticket) => {
      native().postingsSearch(this.#id, ticket, k, words, weights, averages, scopeKind, scope);
    });
    const { explanation } = result;
    return {
      slots: result.slots,
      distances: result.distances,
      scoredRows: result.computed,
      decodedBlocks: explanation?.visitedRows ?? 0,
      postings: result.allowedRows ?? 0,
      queueUs: result.queueUs,
      searchUs: result.searchUs,
    };
  }

  stats(): PostingsStats {
    this.#assertOpen();
    const out = new Float64Array(4 + fieldsMax);
    native().postingsStats(this.#id, out);
    const [rowCount = 0, aliveCount = 0, segmentCount = 0, memoryBytes = 0, ...lengths] = out;
    return { rowCount, aliveCount, segmentCount, memoryBytes, lengths: lengths.slice(0, this.#fields) };
  }

  /** Resolves when no segments are left that should be merged. */
  flush(signal?: AbortSignal): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(closedError());
    return withAbort(this.#settled(0), signal);
  }

  async #settled(segments: number): Promise<void> {
    await this.#channel.operate((ticket) => {
      native().postingsSettled(this.#id, ticket, segments);
      return false;
    });
  }

  /** Writes the state of the call's moment into a new file, encrypted where there are keys. */
  async save(path: string, keys?: FileKeys): Promise<FileSum> {
    this.#assertOpen();
    const fileKey = keys?.createFileKey();
    const text = await this.#channel.operate((ticket) => {
      native().postingsSave(this.#id, ticket, path, fileKey?.key ?? noFileKey);
      return false;
    });
    return { ...(JSON.parse(text) as FileSum), ...(fileKey && { key: fileKey.wrapped }) };
  }

  /** Searches under way end first. */
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
      native().postingsClose(this.#id, ticket);
      return false;
    });
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw closedError();
  }
}

/** Of a file, to find out whether it is still the same. */
export interface FileSum {
  bytes: number;
  crc: number;
  /** Of an encrypted file: its key, wrapped. */
  key?: string;
}

function wordsOf(options: PostingsOptions): { fields: number; numbers: Float32Array } {
  if (options.kind === "values") return { fields: 0, numbers: Float32Array.of(0) };
  const { k1, fields } = options;
  if (fields.length < 1 || fields.length > fieldsMax) {
    throw new KithError("INVALID_ARGUMENT", `a text has ${fields.length} fields; give 1 to ${fieldsMax}`);
  }
  return { fields: fields.length, numbers: Float32Array.of(k1, ...fields.flatMap(({ b, weight }) => [b, weight])) };
}

function closedError(): KithError {
  return toKithFailure(native().layout.failure, native().layout.failure.closed, "the index is closed");
}
