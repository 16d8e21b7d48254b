import type { pb } from "../../libs/wire/index.js";

/**
 * What a client knows of a write. "failed": it was refused before anything could come of it, and nothing of it may ever be seen.
 * "unknown": whether it took effect, its client was not told.
 */
export type Outcome = "ok" | "failed" | "unknown";

export interface WriteEntry {
  readonly kind: "write";
  readonly client: string;
  /** Idempotency key: from it and the collection follow the ids of its operations. */
  readonly key: string;
  readonly collection: string;
  readonly what: string;
  readonly ack: "log" | "applied" | "all";
  readonly startMs: number;
  endMs: number;
  outcome: Outcome;
  /** Of the answer. */
  token: pb.Token | undefined;
  /** Points that were written, where the answer tells. */
  affected: number | undefined;
  /** Codes of the refused items, sorted. */
  errors: string[] | undefined;
}

/** A read with its answer; those that failed are not kept. */
export interface ReadEntry {
  readonly kind: "read";
  readonly client: string;
  readonly collection: string;
  readonly startMs: number;
  /** What it was asked to see at least. */
  readonly atLeast: pb.Token | undefined;
  /** What was read. */
  readonly token: pb.Token;
  readonly answer: ReadContent;
}

export type ReadContent =
  | { readonly kind: "get"; readonly ids: readonly number[]; readonly points: readonly pb.Point[] }
  | { readonly kind: "scroll"; readonly points: readonly pb.Point[] }
  | { readonly kind: "count"; readonly filter: string; readonly count: number }
  | {
      readonly kind: "query";
      readonly vector: Float32Array;
      readonly limit: number;
      readonly filter: string;
      readonly points: readonly pb.ScoredPoint[];
    };

/** Creations and deletions of collections. */
export interface SchemaEntry {
  readonly kind: "create" | "drop";
  readonly client: string;
  readonly collection: string;
  readonly startMs: number;
  endMs: number;
  outcome: Outcome;
  /** Of the collection that was created. */
  collectionId: string;
}

export type Entry = WriteEntry | ReadEntry | SchemaEntry;
