import { assert, type Random } from "../../base/index.js";
import { partHash, partSeed, pointHash } from "../../hash/index.js";
import type { IdKey } from "../../model/index.js";
import { type Part, type PartKind, partKind, PointStore, type StoreOptions } from "../../storage/index.js";
import { storeDirectory } from "../replica/layout.js";
import {
  decodeSchema,
  fromJson,
  type StoreIdentity,
  type StoreState,
  storeFormat,
  storeFormatRelease,
  toJson,
  vectorFieldsOf,
} from "./schema.js";

/** A point with all that it held, as it was read out of a replica. */
export interface RefilledPoint {
  id: IdKey;
  version: number;
  /** Milliseconds since the Unix epoch; undefined where the point does not expire. */
  expiresAtMs: number | undefined;
  /** In order of kind and name. Without bytes: all that is known of a part whose field was dropped. */
  parts: readonly (
    | { kind: number; field: number; name: string; version: number; bytes: Uint8Array }
    | (Omit<Part, "kind"> & { kind: number; bytes?: undefined })
  )[];
}

/** What a replica held at one sequence. */
export interface Refill {
  collectionId: string;
  shard: number;
  incarnation: string;
  /** As they were stored. */
  schema: Uint8Array;
  state: Uint8Array;
  outcomes: Iterable<{ sequence: number; body: Uint8Array }>;
  points: AsyncIterable<readonly RefilledPoint[]>;
}

/** Makes a replica's directory of what one held before: it opens, and goes on from there. The directory must be empty. */
export async function refillStore(
  directory: string,
  refill: Refill,
  random: Random,
  options: Partial<StoreOptions> = {},
): Promise<void> {
  const store = await PointStore.open(storeDirectory(directory), options);
  try {
    const schema = decodeSchema(refill.schema);
    const live = new Set(vectorFieldsOf(schema).map(({ number }) => number));
    let slotEnd = 0;
    for await (const points of refill.points) {
      const batch = store.batch();
      for (const { id, version, expiresAtMs, parts } of points) {
        const stored = parts.map((part): Part => {
          const kind = part.kind as PartKind;
          const { field, version: written, bytes } = part;
          if (bytes === undefined) return { kind, field, version: written, length: part.length, hash: part.hash };
          const hash = partHash(partSeed(kind, part.name, written), bytes);
          if (kind === partKind.payload) batch.putPayload(id, written, bytes);
          else if (live.has(field) && kind === partKind.sparse) batch.putSparse(field, id, written, bytes);
          else if (live.has(field)) {
            assert(kind === partKind.vector || kind === partKind.multi, `a point has a part of the kind ${kind}`);
            batch.putVector(field, id, written, bytes, kind);
          }
          return { kind, field, version: written, length: kind === partKind.vector ? 0 : bytes.length, hash };
        });
        const contentHash = pointHash(id, version, expiresAtMs, stored);
        batch.putHead(id, { version, slot: slotEnd++, expiresAtMs, contentHash, parts: stored });
      }
      await store.write(batch);
    }
    const batch = store.batch();
    for (const { sequence, body } of refill.outcomes) batch.putOutcomes(sequence, body);
    const identity: StoreIdentity = {
      ...{ format: storeFormat, release: storeFormatRelease, storeId: random.uuid() },
      ...{ collectionId: refill.collectionId, shard: refill.shard, incarnation: refill.incarnation },
    };
    batch.putMeta("identity", toJson(identity));
    batch.putMeta("schema", refill.schema);
    batch.putMeta("state", toJson({ ...fromJson<StoreState>(refill.state), slotEnd }));
    await store.write(batch);
  } finally {
    await store.close();
  }
}
