import { KithError } from "../base/index.js";
import type { IdKey } from "../model/index.js";
import { scan } from "./database.js";
import { Head, type PartKind, partKind } from "./head.js";
import { headRange, type KeyRange, outcomeRange, outcomeSequence } from "./keys.js";
import { checkedBody, corrupt, versionBytes } from "./values.js";
import { StoreView } from "./view.js";

/** A part of a point as it is stored, without its checksum. */
export interface StoredPart {
  id: IdKey;
  /** Sequence of the record that wrote it. */
  version: number;
  bytes: Uint8Array;
}

/** The points of a store as of one moment, in order of id; what is written meanwhile is not seen. Close it. */
export class StoreExport extends StoreView {
  /** All heads in order of id. */
  async *heads(): AsyncGenerator<{ ids: IdKey[]; heads: Head[] }> {
    for await (const entries of scan(this.database, this.directory, headRange, this.snapshot)) {
      const ids: IdKey[] = [];
      const heads: Head[] = [];
      for (const [key, value] of entries) {
        ids.push(key.subarray(1));
        heads.push(new Head(key, value));
      }
      yield { ids, heads };
    }
  }

  /** The parts of one kind and field that points from `first` to `last` have, in order of id. CORRUPT_DATA where one is damaged. */
  async *parts(kind: PartKind, field: number, first: IdKey, last: IdKey): AsyncGenerator<StoredPart[]> {
    const prefix = kind === partKind.payload ? [kind] : [kind, field];
    for await (const entries of scan(this.database, this.directory, rangeOf(prefix, first, last), this.snapshot)) {
      yield entries.map(([key, value]) => {
        const body = checkedBody(key, value);
        const length = body.length - versionBytes;
        if (length < 0) throw corrupt(key, `is no part of a point: its body has ${body.length} bytes`);
        const id = key.subarray(prefix.length);
        // A payload has its version before it, a vector behind it.
        if (kind === partKind.payload) {
          return { id, version: body.readUIntLE(0, versionBytes), bytes: body.subarray(versionBytes) };
        }
        if (kind === partKind.vector || kind === partKind.sparse || kind === partKind.multi) {
          return { id, version: body.readUIntLE(length, versionBytes), bytes: body.subarray(0, length) };
        }
        throw new KithError("UNIMPLEMENTED", `parts of the kind ${kind} cannot be read out yet`);
      });
    }
  }

  /** What the operations of each remembered record did, oldest first. */
  async *outcomes(): AsyncGenerator<{ sequence: number; body: Uint8Array }> {
    for await (const entries of scan(this.database, this.directory, outcomeRange, this.snapshot)) {
      for (const [key, value] of entries) yield { sequence: outcomeSequence(key), body: checkedBody(key, value) };
    }
  }
}

/** The keys from one id to another, both with it. */
function rangeOf(prefix: readonly number[], first: IdKey, last: IdKey): KeyRange {
  // The next key in LevelDB's order of bytes is the key itself with a zero behind it.
  return {
    gte: Buffer.concat([Buffer.from(prefix), first]),
    lt: Buffer.concat([Buffer.from(prefix), last, Buffer.from([0])]),
  };
}
