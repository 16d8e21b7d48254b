import { KithError } from "../base/index.js";
import type { pb } from "../wire/index.js";
import type { ReadConsistency, Token } from "./types.js";

/**
 * What this client has written to and read from one collection: the highest sequence per shard. Reads send it, so that they
 * see the client's own writes and never go back in time, whichever replica answers. The wire form is built once per change, not once per read.
 */
export class Session {
  readonly #sequences = new Map<number, number>();
  #collectionId = "";
  #wire: pb.Consistency | undefined;

  /** Takes in the token of a write or a read. */
  merge(token: pb.Token | undefined): void {
    if (token === undefined) return;
    if (token.collectionId !== this.#collectionId) {
      this.clear();
      this.#collectionId = token.collectionId;
    }
    for (const { shard, sequence } of token.shards) {
      if (sequence <= (this.#sequences.get(shard) ?? 0)) continue;
      this.#sequences.set(shard, sequence);
      this.#wire = undefined;
    }
  }

  /** The collection is gone, or another one has its name: sequences of the old one mean nothing any more. */
  clear(): void {
    this.#sequences.clear();
    this.#collectionId = "";
    this.#wire = undefined;
  }

  get token(): Token {
    return { collectionId: this.#collectionId, shards: Object.fromEntries(this.#sequences) };
  }

  /** What a read sends for the consistency that its caller wants. */
  consistency(wanted: ReadConsistency = "session"): pb.Consistency | undefined {
    if (wanted === "session") {
      if (this.#sequences.size === 0) return undefined;
      this.#wire ??= { level: { $case: "atLeast", value: tokenToWire(this.token) } };
      return this.#wire;
    }
    if (wanted === "none") return undefined;
    if (wanted === "linearizable") return { level: { $case: "linearizable", value: true } };
    if (typeof wanted === "object" && typeof wanted.atLeast?.shards === "object") {
      return { level: { $case: "atLeast", value: tokenToWire(wanted.atLeast) } };
    }
    throw new KithError(
      "INVALID_ARGUMENT",
      `the consistency ${JSON.stringify(wanted)} is unknown; use "session", "none", "linearizable" or {atLeast: token}`,
    );
  }
}

export function tokenFromWire(token: pb.Token | undefined): Token {
  return {
    collectionId: token?.collectionId ?? "",
    shards: Object.fromEntries((token?.shards ?? []).map(({ shard, sequence }) => [shard, sequence])),
  };
}

function tokenToWire({ collectionId, shards: sequences }: Token): pb.Token {
  const shards = Object.entries(sequences).map(([key, sequence]) => {
    const shard = Number(key);
    if (!Number.isInteger(shard) || shard < 0 || !Number.isSafeInteger(sequence) || sequence < 0) {
      throw new KithError(
        "INVALID_TOKEN",
        `the token has ${JSON.stringify(key)}: ${JSON.stringify(sequence)}; it maps shard numbers to log sequences, as writes return it`,
      );
    }
    return { shard, sequence };
  });
  return { shards, collectionId };
}
