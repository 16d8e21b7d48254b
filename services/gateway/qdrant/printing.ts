import { pb } from "../../../libs/wire/index.js";
import { type Ask, describe } from "./api.js";
import { printId } from "./ids.js";
import { wantsVectors } from "./selection.js";
import { noShardKeys, shardKeyField, type ShardKeys, shardKeysIn, withoutKey } from "./shard-keys.js";
import { JsonText, type Reply, shortest } from "./values.js";
import { type Normalized, printVectors } from "./vectors.js";

/** How the points of one answer are printed. */
export interface Printing {
  readonly payload: boolean;
  readonly vectors: boolean;
  readonly isNormalized: Normalized;
  readonly shardKeys: ShardKeys;
}

/**
 * Fields that compare directions give their vectors with a length of 1, as Qdrant stores them; Kith keeps what was written. Where points have their shard
 * keys in their payloads, `select` is made to bring it.
 */
export async function printingOf(ask: Ask, select: pb.Select, collection?: string): Promise<Printing> {
  const { payload } = select;
  const vectors = wantsVectors(select);
  const plain = { payload, vectors, isNormalized: () => false, shardKeys: noShardKeys };
  if (!payload && !vectors) return plain;
  const described = await describe(ask, collection);
  const shardKeys = shardKeysIn(described);
  if (shardKeys.isHidden) {
    if (!payload || select.include.length > 0) select.include.push(shardKeyField);
    select.payload = true;
  }
  if (!vectors) return { ...plain, shardKeys };
  const fields = described.vectors.filter(({ metric }) => metric === pb.Metric.COSINE);
  const cosine = new Set(fields.map(({ name }) => name));
  return { payload, vectors, isNormalized: (field) => cosine.has(field), shardKeys };
}

const utf8 = new TextDecoder();
const empty = new JsonText("{}");

function payloadOf(bytes: Uint8Array, { payload, shardKeys }: Printing): { payload?: Reply; shard_key?: Reply } {
  if (!shardKeys.isHidden) return payload ? { payload: bytes.length === 0 ? empty : new JsonText(bytes) } : {};
  const { payload: text, key } = withoutKey(bytes.length === 0 ? "{}" : utf8.decode(bytes), shardKeys);
  return { ...(payload && { payload: new JsonText(text) }), ...(key !== undefined && { shard_key: key }) };
}

function vectorOf(
  vectors: { readonly [name: string]: pb.Vector },
  { vectors: isWanted, isNormalized }: Printing,
): Reply | undefined {
  return isWanted ? printVectors(vectors, isNormalized) : undefined;
}

export function printRecord(point: pb.Point, printing: Printing, order?: number): Reply {
  return {
    id: printId(point.id),
    ...payloadOf(point.payload, printing),
    vector: vectorOf(point.vectors, printing),
    order_value: order,
  };
}

export function printScored(point: pb.ScoredPoint, printing: Printing): Reply {
  return {
    id: printId(point.id),
    version: point.version,
    score: shortest(point.score ?? 0),
    ...payloadOf(point.payload, printing),
    vector: vectorOf(point.vectors, printing),
    order_value: point.order,
  };
}
