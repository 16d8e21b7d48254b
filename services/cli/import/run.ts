import type {
  CollectionHandle,
  Id,
  ItemError,
  JsonObject,
  PointInput,
  UpsertManyResult,
  WriteAck,
} from "../../../libs/client/index.js";
import { type DatasetBatch, rowNumberOf, valueAt } from "../../../libs/datasets/index.js";

export interface RejectedRow {
  /** Row of the input, from 0. */
  row: number;
  id?: Id;
  code: string;
  message: string;
}

export interface ImportRunOptions {
  idOffset: number;
  batchPoints: number;
  inFlight: number;
  ack: WriteAck;
  mode: "upsert" | "insert" | "update";
  deadlineMs: number;
  /** Ctrl-C: no more rows are read, those on the way are waited for. */
  signal: AbortSignal;
  onRejected: (rejected: RejectedRow) => void;
  /** Every row before `nextRow` is settled; `share` of what was read is settled as well. */
  onSettled: (nextRow: number, upserted: number, share: number) => void;
}

/** Feeds batches of a data set to `upsertMany`, and translates its positions back to rows of the file. */
export class ImportRun {
  readonly #batches: AsyncIterator<DatasetBatch>;
  readonly #options: ImportRunOptions;
  /** Batches of which some row is not settled; bounded by what `upsertMany` keeps in flight. */
  readonly #open: { firstIndex: number; batch: DatasetBatch }[] = [];
  #nextIndex = 0;
  /** Where reading goes on when everything that was handed out is settled. */
  #endRow: number;
  #upserted = 0;
  /** The input was read to its end, rather than left at Ctrl-C. */
  finished = false;

  constructor(batches: AsyncIterator<DatasetBatch>, firstRow: number, options: ImportRunOptions) {
    this.#batches = batches;
    this.#endRow = firstRow;
    this.#options = options;
  }

  async run(collection: Pick<CollectionHandle, "upsertMany">): Promise<UpsertManyResult> {
    const { ack, mode, batchPoints, inFlight, deadlineMs, onSettled } = this.#options;
    return collection.upsertMany(this.#points(), {
      ack,
      mode,
      batchPoints,
      inFlight,
      deadlineMs,
      onProgress: ({ upserted }) => {
        this.#upserted = upserted;
      },
      onItemError: (error) => this.#reject(error),
      onBatch: ({ resumeIndex }) =>
        onSettled(this.#settle(resumeIndex), this.#upserted, resumeIndex / Math.max(1, this.#nextIndex)),
    });
  }

  async *#points(): AsyncGenerator<PointInput<JsonObject>, void, undefined> {
    const { signal } = this.#options;
    try {
      while (!signal.aborted) {
        const next = await this.#batches.next();
        if (next.done) {
          this.finished = true;
          return;
        }
        const batch = next.value;
        this.#open.push({ firstIndex: this.#nextIndex, batch });
        this.#nextIndex += batch.rowCount;
        for (let row = 0; row < batch.rowCount; row++) yield this.#point(batch, row);
      }
    } catch (error) {
      // Ctrl-C while the input was waited for is a clean end as well.
      if (!signal.aborted) throw error;
    }
  }

  #point(batch: DatasetBatch, row: number): PointInput<JsonObject> {
    const point: PointInput<JsonObject> = { id: this.#idOf(batch, row) };
    for (const column of batch.columns) {
      const { name } = column;
      const vector = valueAt(column, row);
      if (name === "") point.vector = vector;
      else point.vectors = { ...point.vectors, [name]: vector };
    }
    for (const { name, rows } of batch.sparse ?? []) {
      const vector = rows[row];
      if (vector !== undefined) point.sparse = { ...point.sparse, [name]: vector };
    }
    const payload = batch.payloads?.[row];
    if (payload !== undefined) point.payload = Buffer.from(payload);
    const expiresAt = batch.expiresAtMs?.[row];
    if (expiresAt !== undefined) point.expiresAt = expiresAt;
    return point;
  }

  #idOf(batch: DatasetBatch, row: number): Id {
    return batch.ids?.[row] ?? rowNumberOf(batch, row) + this.#options.idOffset;
  }

  #reject({ index, code, message }: ItemError): void {
    const found = this.#open.findLast(({ firstIndex }) => firstIndex <= index);
    if (found === undefined) return;
    const row = index - found.firstIndex;
    this.#options.onRejected({ row: rowNumberOf(found.batch, row), id: this.#idOf(found.batch, row), code, message });
  }

  /** The row before which everything is settled when all positions before `resumeIndex` are. */
  #settle(resumeIndex: number): number {
    for (let first = this.#open[0]; first !== undefined; first = this.#open[0]) {
      const { firstIndex, batch } = first;
      if (firstIndex + batch.rowCount > resumeIndex) return Math.max(this.#endRow, this.#rowOf(first, resumeIndex));
      this.#endRow = batch.endRow;
      this.#open.shift();
    }
    return this.#endRow;
  }

  #rowOf({ firstIndex, batch }: { firstIndex: number; batch: DatasetBatch }, index: number): number {
    return index <= firstIndex ? batch.firstRow : rowNumberOf(batch, index - firstIndex);
  }
}
