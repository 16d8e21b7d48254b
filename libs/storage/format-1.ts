import type { StoredField } from "./bounds.js";
import type { Entry } from "./database.js";
import { Head } from "./head.js";
import { payloadKey, vectorKey } from "./keys.js";
import { checkedBody, corrupt, decodePayload, decodeVector, type Versioned, versionBytes } from "./values.js";

/**
 * What a store of format 1 had otherwise: heads alone. The body of one was
 *
 *     version(6) slot(4) content hash(8) payload length(4) fields(2)
 *
 * where bit n of the fields said that the point has the vector of field n, and all parts had the version of the point.
 */
const formerHeadBytes = 24;

/** A point of a store that is on its way to this format, with all that it holds. */
export interface FormerPoint {
  id: Uint8Array;
  version: number;
  slot: number;
  /** As its head of format 1 gives it; undefined where the head has been rewritten already. */
  contentHash: bigint | undefined;
  /** Empty where there is none. */
  payload: Uint8Array;
  /** Little-endian f32, aligned with the fields asked for; undefined where the point lacks the field. */
  vectors: (Uint8Array | undefined)[];
}

/** A head of either form, before the parts of its point are read. */
interface FormerHead {
  id: Uint8Array;
  version: number;
  slot: number;
  contentHash: bigint | undefined;
  payloadBytes: number;
  hasField: (number: number) => boolean;
}

type GetMany = (keys: Uint8Array[]) => Promise<(Uint8Array | undefined)[]>;

/** The points behind these heads, about `chunkBytes` of content at a time. CORRUPT_DATA where a value is missing, damaged, or of another version. */
export async function* readFormerPoints(
  entries: readonly Entry[],
  fields: readonly StoredField[],
  chunkBytes: number,
  getMany: GetMany,
): AsyncGenerator<FormerPoint[]> {
  let heads: FormerHead[] = [];
  let sizeBytes = 0;
  for (const [i, entry] of entries.entries()) {
    const head = decodeFormerHead(entry);
    heads.push(head);
    sizeBytes += head.payloadBytes;
    for (const { number, dimension } of fields) if (head.hasField(number)) sizeBytes += dimension * 4;
    if (sizeBytes < chunkBytes && i < entries.length - 1) continue;
    yield await readParts(heads, fields, getMany);
    heads = [];
    sizeBytes = 0;
  }
}

function decodeFormerHead([key, value]: Entry): FormerHead {
  const id = key.subarray(1);
  const body = checkedBody(key, value);
  if (body.length !== formerHeadBytes) {
    const head = new Head(key, value);
    const { version, slot, payloadBytes } = head;
    return { id, version, slot, payloadBytes, contentHash: undefined, hasField: (number) => head.hasVector(number) };
  }
  const fields = body.readUInt16LE(22);
  return {
    id,
    version: body.readUIntLE(0, versionBytes),
    slot: body.readUInt32LE(6),
    contentHash: body.readBigUInt64LE(10),
    payloadBytes: body.readUInt32LE(18),
    hasField: (number) => ((fields >> number) & 1) > 0,
  };
}

async function readParts(
  heads: readonly FormerHead[],
  fields: readonly StoredField[],
  getMany: GetMany,
): Promise<FormerPoint[]> {
  const keys: Uint8Array[] = [];
  for (const head of heads) {
    if (head.payloadBytes > 0) keys.push(payloadKey(head.id));
    for (const { number } of fields) if (head.hasField(number)) keys.push(vectorKey(number, head.id));
  }
  const values = await getMany(keys);
  let at = 0;
  const next = <T>(version: number, decode: (key: Uint8Array, value: Uint8Array) => Versioned<T>): T => {
    const key = keys[at] as Uint8Array;
    const value = values[at++];
    if (value === undefined) throw corrupt(key, "is missing; the head of its point names it");
    const part = decode(key, value);
    if (part.version !== version) throw corrupt(key, `has version ${part.version}; its point has ${version}`);
    return part.value;
  };
  return heads.map(({ id, version, slot, contentHash, payloadBytes, hasField }) => {
    const payload = payloadBytes > 0 ? next(version, decodePayload) : new Uint8Array(0);
    const vectors = fields.map(({ number, dimension }) => {
      if (!hasField(number)) return undefined;
      const vector = next(version, (key, value) => decodeVector(key, value, dimension));
      return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
    });
    return { id, version, slot, contentHash, payload, vectors };
  });
}
