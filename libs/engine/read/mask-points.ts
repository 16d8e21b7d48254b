import { type FilterPoint, StoredFilterPoint } from "../../filter/index.js";
import type { Head } from "../../storage/index.js";
import { type Schema, vectorFieldsOf } from "../recover/schema.js";
import type { MaskSource } from "./mask.js";

/** A stored point as a test wants it. */
interface TestedPoint {
  point: FilterPoint;
  /** Of the point, or of its payload where that alone was read. */
  version: number;
  /** Of its payload. */
  bytes: number;
}

/** Names of the fields that a point has a vector of. */
export function vectorsOf(schema: Schema, head: Head): { has(name: string): boolean } {
  const fields = vectorFieldsOf(schema);
  return { has: (name) => fields.some((field) => field.name === name && head.hasVector(field.number)) };
}

/** The points of these slots; undefined where the store has none. */
export async function readPoints(
  { store, slots: table, schema }: MaskSource,
  needsHeads: boolean,
  slots: Uint32Array,
): Promise<(TestedPoint | undefined)[]> {
  const ids = Array.from(slots, (slot) => table.idOf(slot));
  if (needsHeads) {
    const records = await store.read(ids, { payload: true, fields: [] });
    return records.map(
      (record) =>
        record && {
          point: new StoredFilterPoint(record.id, record.payload, vectorsOf(schema, record.head)),
          version: record.head.version,
          bytes: record.payload.length,
        },
    );
  }
  const isRead = Array.from(slots, (slot) => table.hasPayload(slot));
  const wanted = ids.filter((_, i) => isRead[i] === true);
  const payloads = wanted.length === 0 ? [] : await store.payloads(wanted);
  let at = 0;
  return ids.map((id, i) => {
    if (isRead[i] !== true) return { point: new StoredFilterPoint(id, noBytes, noVectors), version: 0, bytes: 0 };
    const payload = payloads[at++];
    if (payload === undefined) return undefined;
    const { value, version } = payload;
    return { point: new StoredFilterPoint(id, value, noVectors), version, bytes: value.length };
  });
}

const noBytes = new Uint8Array(0);
const noVectors = new Set<string>();
