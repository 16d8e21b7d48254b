/** Indexes over payloads. */
import type { PayloadIndex, TextIndexOptions } from "../../model/index.js";
import type { Bm25Input } from "../bm25.js";
import type { CallOptions } from "./calls.js";

/** An index of a field of the payload. */
export type PayloadIndexSpec = PayloadIndex;

export interface PayloadIndexOptions {
  /** A hint: most queries ask for one value of the field. For keywords, integers and UUIDs. */
  isTenant?: boolean;
  /** A hint: most queries ask for a range of the field. For integers, floats and datetimes. Kept and shown; it changes nothing. */
  isPrincipal?: boolean;
  /** For texts; what is missing is the default: words, of any length, in lower case, with phrases. */
  text?: Partial<TextIndexOptions>;
  /** For an index by BM25; what is missing is the default. */
  bm25?: Bm25Input;
}

export interface CreatePayloadIndexOptions extends PayloadIndexOptions, CallOptions {
  /** Resolve when every replica answers by it. Default: when it is part of the schema. */
  wait?: boolean;
}

/** A payload index with what the replicas say of it, summed over the shards. */
export interface PayloadIndexInfo extends PayloadIndexSpec {
  /** Whether every replica answers by it; else it is being built. */
  ready: boolean;
  /** Points with a payload that are in it, and of those the ones with a value of its kind. */
  pointCount: number;
  valuePointCount: number;
  /** Of one replica of each shard. */
  memoryBytes: number;
}
