import { type Clock, KithError } from "../../base/index.js";
import { parsePayload } from "../../filter/index.js";
import type { IdKey, JsonObject } from "../../model/index.js";
import { type Head, partKind, type PointStore } from "../../storage/index.js";
import { payloadBytesOf, type TouchedPoint } from "../apply/write-set.js";
import type { SchemaPayloadIndex } from "../recover/schema.js";
import type { RowChanges } from "./changes.js";
import type { Checkpoint, Generation, IndexKind, UpdatedRows, WalkedRows } from "./derived-index.js";
import type { PayloadRows } from "./payload-generation.js";

/** Payloads that are read back at once, where single points are picked. */
const pickedRows = 128;

/** An index of payloads: it has a row for each point with a payload, whether that has the fields or not. */
export abstract class PayloadRowsKind<G extends Generation<PayloadRows>> implements IndexKind<PayloadRows, G> {
  abstract readonly name: string;
  abstract readonly label: string;
  readonly key: string;
  readonly holdsVectors = false;
  readonly definition: SchemaPayloadIndex;
  protected readonly clock: Clock;

  constructor(definition: SchemaPayloadIndex, clock: Clock, key = String(definition.number)) {
    this.key = key;
    this.definition = definition;
    this.clock = clock;
  }

  versionOf(head: Head): number {
    return Math.max(head.versionOf(partKind.payload, 0) ?? 0, head.payloadBytes > 0 ? head.slotVersion : 0);
  }

  inserted(changes: RowChanges): PayloadRows | undefined {
    return rowsOf(changes, changes.insertedSlots, changes.insertedPoints);
  }

  tombstones({ deadPayloads }: RowChanges): Uint32Array | undefined {
    return deadPayloads.length === 0 ? undefined : deadPayloads;
  }

  updated(changes: RowChanges): UpdatedRows<PayloadRows> | undefined {
    const { updatedSlots, updatedPoints } = changes;
    if (updatedSlots.length === 0) return undefined;
    return { slots: Uint32Array.from(updatedSlots), rows: rowsOf(changes, updatedSlots, updatedPoints) };
  }

  async *walk(store: PointStore): AsyncGenerator<WalkedRows<PayloadRows>> {
    for await (const { slots, versions, payloads } of store.scanPayloads()) {
      yield { rows: { slots, payloads: payloads.map(parsePayload) }, versions };
      // A chunk is about a millisecond of work, and several come from one read.
      await this.#turn();
    }
  }

  async *pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncGenerator<PayloadRows> {
    for (let from = 0; from < ids.length; from += pickedRows) {
      const payloads = (await store.payloads(ids.slice(from, from + pickedRows))).map((payload) => {
        if (payload !== undefined) return parsePayload(payload.value);
        throw new KithError("CORRUPT_DATA", "a point has lost its payload");
      });
      yield { slots: Uint32Array.from(slots.slice(from, from + payloads.length)), payloads };
    }
  }

  select({ slots, payloads }: PayloadRows, positions: readonly number[]): PayloadRows {
    return {
      slots: Uint32Array.from(positions, (position) => slots[position] as number),
      payloads: positions.map((position) => payloads[position] as JsonObject),
    };
  }

  abstract create(): G;
  abstract load(directory: string): Promise<Checkpoint<G> | undefined>;

  #turn(): Promise<void> {
    return new Promise((resolve) => this.clock.soon(resolve));
  }
}

function rowsOf(
  changes: RowChanges,
  slots: readonly number[],
  points: readonly TouchedPoint[],
): PayloadRows | undefined {
  const covered: number[] = [];
  const payloads: JsonObject[] = [];
  for (const [i, point] of points.entries()) {
    if (payloadBytesOf(point) === 0) continue;
    covered.push(slots[i] as number);
    payloads.push(changes.parsed(point));
  }
  return covered.length === 0 ? undefined : { slots: Uint32Array.from(covered), payloads };
}
