import type { SlotRange } from "../../model/index.js";

/** Records up to `through` were applied by a shard that had these hash slots. */
interface LineageSpan extends SlotRange {
  through: number;
}

/**
 * What a replica has of the shards that its own came from: what their operations did is remembered, and was about all of their hash slots.
 * Ascending. Beside the state, because it changes with a split alone.
 */
export type Lineage = readonly LineageSpan[];

/** With what a copy has of a shard with these slots, as of a sequence. */
export function extended(lineage: Lineage, { firstSlot, lastSlot }: SlotRange, through: number): Lineage {
  return [...lineage, { through, firstSlot, lastSlot }];
}

/** The hash slots that a remembered operation was about; undefined for those of the shard itself. */
export function slotsAt(lineage: Lineage, sequence: number): SlotRange | undefined {
  const span = lineage.find(({ through }) => sequence <= through);
  return span && { firstSlot: span.firstSlot, lastSlot: span.lastSlot };
}

export function encodeLineage(lineage: Lineage): Uint8Array {
  return Buffer.from(JSON.stringify(lineage));
}

/** The checksum was verified, so the JSON is what encodeLineage wrote. */
export function decodeLineage(body: Uint8Array | undefined): Lineage {
  return body === undefined ? [] : (JSON.parse(Buffer.from(body).toString()) as Lineage);
}
