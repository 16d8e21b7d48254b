import type { PointStore, StoredField } from "../../storage/index.js";
import type { ChangeWants, PointChange, PointImage, SeenChange, SeenRecord } from "./change-feed.js";
import type { Turns } from "./turns.js";
import { exists, payloadOf, type TouchedPoint, vectorOf, type WriteSet } from "./write-set.js";

/** `point`: undefined where it is about all points. */
interface NotedChange {
  point: TouchedPoint | undefined;
  change: PointChange;
}

const noId = new Uint8Array(0);

/** How the points were that a record may change. */
interface Former {
  stored: boolean;
  existed: boolean;
}

/** Notes what each record of a batch changes, while it is evaluated. */
export class ChangeNotes {
  readonly #writeSet: WriteSet;
  readonly #former = new Map<TouchedPoint, Former>();
  /** Of the batch. */
  count = 0;

  constructor(writeSet: WriteSet) {
    this.#writeSet = writeSet;
  }

  /** Before a record is evaluated, with the points that it names. `nowMs`: of the record. */
  before(points: readonly TouchedPoint[][], nowMs: number): void {
    this.#former.clear();
    for (const each of points) for (const point of each) this.#note(point, nowMs);
  }

  #note(point: TouchedPoint, nowMs: number): void {
    if (!this.#former.has(point)) this.#former.set(point, { stored: point.live, existed: exists(point, nowMs) });
  }

  /**
   * After it was evaluated: which points it has changed, in the order in which it names them. `isAlone`: the batch is this record, and the points
   * that a filter has chosen are among those of the batch. `isTruncated`: it has deleted all points, which is one change, and then written these.
   */
  async after(sequence: number, isAlone: boolean, isTruncated: boolean, turns: Turns): Promise<NotedChange[]> {
    if (isAlone) {
      for (const point of this.#writeSet.points.values()) {
        // What a filter has chosen was there.
        if (!this.#former.has(point)) this.#former.set(point, { stored: point.before !== undefined, existed: true });
        if (turns.isDue()) await turns.pass();
      }
    }
    const changes: NotedChange[] = [];
    if (isTruncated) changes.push({ point: undefined, change: { kind: "truncate", id: noId } });
    for (const [point, { stored, existed }] of this.#former) {
      if (turns.isDue()) await turns.pass();
      const { id } = point;
      if (point.live) {
        if (point.version === sequence)
          changes.push({ point, change: { kind: existed && !isTruncated ? "update" : "insert", id } });
      } else if (stored && !isTruncated) changes.push({ point, change: { kind: "delete", id } });
    }
    this.count += changes.length;
    return changes;
  }
}

/** The changes of a record with what the points were and are. The record is a batch by itself: what is stored is what was before. */
export async function seenChanges(
  sequence: number,
  noted: readonly NotedChange[],
  wants: ChangeWants,
  writeSet: WriteSet,
  store: PointStore,
  fields: readonly StoredField[],
): Promise<SeenRecord> {
  const touched = noted.flatMap(({ point }) => (point === undefined ? [] : [point]));
  const stored = touched.filter(({ before }) => before !== undefined);
  const images = new Map<TouchedPoint, PointImage>();
  if (wants.before) {
    const read = await store.read(
      stored.map(({ id }) => id),
      { payload: true, fields: wants.vectors ? fields : [] },
    );
    for (const [i, record] of read.entries()) {
      const point = stored[i];
      if (record === undefined || point === undefined) continue;
      const vectors = new Map<number, Uint8Array>();
      for (const [at, vector] of record.vectors.entries()) {
        const number = fields[at]?.number;
        if (vector === undefined || number === undefined) continue;
        vectors.set(number, new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength));
      }
      images.set(point, { version: record.head.version, payload: record.payload, vectors });
    }
  }
  await writeSet.load(
    touched.filter(({ live }) => live),
    { payload: true, vectors: wants.vectors },
    fields,
  );
  const changes = noted.map(({ point, change }): SeenChange => {
    const before = change.kind === "insert" || point === undefined ? undefined : images.get(point);
    return { ...change, before, after: point?.live === true ? imageOf(point, wants, fields) : undefined };
  });
  return { sequence, changes };
}

function imageOf(point: TouchedPoint, wants: ChangeWants, fields: readonly StoredField[]): PointImage {
  const vectors = new Map<number, Uint8Array>();
  if (wants.vectors) {
    for (const { number } of fields) {
      const bytes = vectorOf(point, number);
      // A copy: what it is a view of is the record, or a buffer of a hundred points.
      if (bytes !== undefined) vectors.set(number, Uint8Array.from(bytes));
    }
  }
  return { version: point.version, payload: Uint8Array.from(payloadOf(point)), vectors };
}
