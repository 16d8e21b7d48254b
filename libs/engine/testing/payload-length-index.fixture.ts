import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32c, KithError } from "../../base/index.js";
import type { IdKey } from "../../model/index.js";
import { type Head, partKind, type PointStore } from "../../storage/index.js";
import { payloadOf, type TouchedPoint } from "../apply/write-set.js";
import type { RowChanges } from "../index/changes.js";
import type {
  Checkpoint,
  CheckpointStamp,
  Generation,
  GenerationStats,
  IndexKind,
  Rows,
  UpdatedRows,
  WalkedRows,
} from "../index/derived-index.js";

/** Lengths of payloads in bytes, aligned with the slots. */
export interface LengthRows extends Rows {
  readonly lengths: Uint32Array;
}

/** A kind of index that has nothing to do with vectors: finds points by the length of their payload. */
export class PayloadLengthKind implements IndexKind<LengthRows, PayloadLengths> {
  readonly name = "length";
  readonly label = "payload length";
  readonly holdsVectors = false;

  constructor(readonly key = "0") {}

  versionOf(head: Head): number {
    return Math.max(head.versionOf(partKind.payload, 0) ?? 0, head.payloadBytes > 0 ? head.slotVersion : 0);
  }

  inserted({ insertedSlots, insertedPoints }: RowChanges): LengthRows | undefined {
    const lengths = insertedPoints.map((point) => payloadOf(point).length);
    const covered = lengths.flatMap((length, i) => (length > 0 ? [i] : []));
    return covered.length === 0 ? undefined : this.select(rowsOf(insertedSlots, lengths), covered);
  }

  tombstones({ tombstoneSlots, tombstonePoints }: RowChanges): Uint32Array | undefined {
    const has = ({ before }: TouchedPoint): boolean => before !== undefined && this.versionOf(before) > 0;
    return Uint32Array.from(tombstoneSlots.filter((_, i) => has(tombstonePoints[i] as TouchedPoint)));
  }

  updated({ updatedSlots, updatedPoints }: RowChanges): UpdatedRows<LengthRows> | undefined {
    if (updatedSlots.length === 0) return undefined;
    const lengths = updatedPoints.map((point) => payloadOf(point).length);
    const covered = lengths.flatMap((length, i) => (length > 0 ? [i] : []));
    const rows = covered.length === 0 ? undefined : this.select(rowsOf(updatedSlots, lengths), covered);
    return { slots: Uint32Array.from(updatedSlots), rows };
  }

  async *walk(store: PointStore): AsyncGenerator<WalkedRows<LengthRows>> {
    for await (const { ids, heads } of store.scanHeads()) {
      const payloads = await store.payloads(ids);
      // What was overwritten since the walk began comes with its batch.
      const found = heads.flatMap((head, i) => {
        const payload = payloads[i];
        if (payload === undefined || payload.version !== head.versionOf(partKind.payload, 0)) return [];
        return [{ slot: head.slot, version: this.versionOf(head), length: payload.value.length }];
      });
      const slots = found.map(({ slot }) => slot);
      const lengths = found.map(({ length }) => length);
      yield { rows: rowsOf(slots, lengths), versions: Float64Array.from(found, ({ version }) => version) };
    }
  }

  async *pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncGenerator<LengthRows> {
    const payloads = await store.payloads(ids);
    const lengths = payloads.map((payload) => payload?.value.length ?? 0);
    if (lengths.includes(0)) throw new KithError("CORRUPT_DATA", "a point has lost its payload");
    yield rowsOf(slots, lengths);
  }

  select({ slots, lengths }: LengthRows, positions: readonly number[]): LengthRows {
    const at = (column: Uint32Array): number[] => positions.map((position) => column[position] as number);
    return rowsOf(at(slots), at(lengths));
  }

  create(): PayloadLengths {
    return new PayloadLengths();
  }

  async load(directory: string): Promise<Checkpoint<PayloadLengths> | undefined> {
    let text: string;
    try {
      text = await readFile(join(directory, "lengths.json"), "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    const [checksum, body = ""] = text.split("\n");
    if (Number(checksum) !== crc32c(Buffer.from(body))) throw new KithError("CORRUPT_DATA", "a wrong checksum");
    const { stamp, slots, lengths, rowCount } = JSON.parse(body) as SavedLengths;
    return { generation: new PayloadLengths(rowsOf(slots, lengths), rowCount), stamp };
  }
}

interface SavedLengths {
  stamp: CheckpointStamp;
  slots: number[];
  lengths: number[];
  rowCount: number;
}

export class PayloadLengths implements Generation<LengthRows> {
  readonly #lengths = new Map<number, number>();
  #rowCount = 0;
  #isClosed = false;

  constructor(rows: LengthRows = rowsOf([], []), rowCount = rows.slots.length) {
    for (const [i, slot] of rows.slots.entries()) this.#lengths.set(slot, rows.lengths[i] as number);
    this.#rowCount = rowCount;
  }

  /** Slots of the payloads with this length, ascending. */
  find(lengthBytes: number): number[] {
    const found = [...this.#lengths].filter(([, length]) => length === lengthBytes).map(([slot]) => slot);
    return found.sort((a, b) => a - b);
  }

  add({ slots, lengths }: LengthRows): Promise<void> {
    this.#assertOpen();
    for (const [i, slot] of slots.entries()) {
      if (this.#lengths.has(slot)) throw new KithError("INVALID_ARGUMENT", `slot ${slot} is alive already`);
      this.#lengths.set(slot, lengths[i] as number);
    }
    this.#rowCount += slots.length;
    return Promise.resolve();
  }

  remove(slots: Uint32Array): void {
    this.#assertOpen();
    for (const slot of slots) this.#lengths.delete(slot);
  }

  stats(): GenerationStats {
    const aliveCount = this.#lengths.size;
    return { rowCount: this.#rowCount, aliveCount, unindexedCount: 0, memoryBytes: 16 * aliveCount };
  }

  flush(): Promise<void> {
    this.#assertOpen();
    return Promise.resolve();
  }

  async save(directory: string, stamp: CheckpointStamp): Promise<void> {
    this.#assertOpen();
    const saved: SavedLengths = {
      stamp,
      slots: [...this.#lengths.keys()],
      lengths: [...this.#lengths.values()],
      rowCount: this.#rowCount,
    };
    const body = JSON.stringify(saved);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "lengths.tmp"), `${crc32c(Buffer.from(body))}\n${body}`);
    await rename(join(directory, "lengths.tmp"), join(directory, "lengths.json"));
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return Promise.resolve();
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new KithError("FAILED_PRECONDITION", "the index is closed");
  }
}

function rowsOf(slots: readonly number[], lengths: readonly number[]): LengthRows {
  return { slots: Uint32Array.from(slots), lengths: Uint32Array.from(lengths) };
}
