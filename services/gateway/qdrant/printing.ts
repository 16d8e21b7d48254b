import { pb } from "../../../libs/wire/index.js";
import { type Ask, describe } from "./api.js";
import { printId } from "./ids.js";
import { wantsVectors } from "./selection.js";
import { JsonText, type Reply } from "./values.js";
import { type Normalized, printVectors } from "./vectors.js";

/** How the points of one answer are printed. */
export interface Printing {
  readonly select: pb.Select;
  readonly isNormalized: Normalized;
}

/** Fields that compare directions give their vectors with a length of 1, as Qdrant stores them; Kith keeps what was written. */
export async function printingOf(ask: Ask, select: pb.Select, collection?: string): Promise<Printing> {
  if (!wantsVectors(select)) return { select, isNormalized: () => false };
  const { vectors } = await describe(ask, collection);
  const cosine = new Set(vectors.filter(({ metric }) => metric === pb.Metric.COSINE).map(({ name }) => name));
  return { select, isNormalized: (field) => cosine.has(field) };
}

const utf8 = new TextDecoder();
const empty = new JsonText("{}");

function payloadOf(payload: Uint8Array, { select }: Printing): Reply | undefined {
  if (!select.payload) return undefined;
  return payload.length === 0 ? empty : new JsonText(utf8.decode(payload));
}

function vectorOf(
  vectors: { readonly [name: string]: pb.Vector },
  { select, isNormalized }: Printing,
): Reply | undefined {
  return wantsVectors(select) ? printVectors(vectors, isNormalized) : undefined;
}

export function printRecord(point: pb.Point, printing: Printing, order?: number): Reply {
  return {
    id: printId(point.id),
    payload: payloadOf(point.payload, printing),
    vector: vectorOf(point.vectors, printing),
    order_value: order,
  };
}

export function printScored(point: pb.ScoredPoint, printing: Printing): Reply {
  return {
    id: printId(point.id),
    version: point.version,
    score: point.score ?? 0,
    payload: payloadOf(point.payload, printing),
    vector: vectorOf(point.vectors, printing),
    order_value: point.order,
  };
}
