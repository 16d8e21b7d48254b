import { KithError } from "../base/index.js";
import type { pb } from "../wire/index.js";
import { shownValue } from "./given.js";
import { onlyKeys } from "./only-keys.js";
import type { ReadConsistency, Token } from "./types/calls.js";

/**
 * What this client has written to and read from one collection: the highest sequence per shard. Reads send it, so that they
 * see the client's own writes and never go back in time, whichever replica answers. The wire form is built once per change, not once per read.
 *
 * The name of a collection may pass to another one while calls are in flight. The epoch rises whenever the session leaves a
 * collection. A call takes it when it starts: by it, what comes late from a collection that was left is told from the first
 * news of another one.
 */
export class Session {
  readonly #sequences = new Map<number, number>();
  #collectionId = "";
  #epoch = 0;
  #wire: pb.Consistency | undefined;

  get epoch(): number {
    return this.#epoch;
  }

  /** "" while nothing is known. */
  get collectionId(): string {
    return this.#collectionId;
  }

  /** Takes in the token of a write that started in `epoch`; what comes late takes no other collection's place. */
  wrote(token: pb.Token | undefined, epoch: number): void {
    if (token === undefined) return;
    if (token.collectionId !== this.#collectionId) {
      if (epoch !== this.#epoch && this.#collectionId !== "") return;
      this.begin(token.collectionId);
    }
    this.#raise(token);
  }

  /**
   * Takes in the token of a read that started in `epoch`. It never takes another collection's place: a read without the
   * session's token may be answered by a router that does not know of the newest collection yet.
   */
  read(token: pb.Token | undefined, epoch: number): void {
    if (token === undefined) return;
    if (token.collectionId !== this.#collectionId) {
      if (epoch !== this.#epoch || this.#collectionId !== "") return;
      this.#collectionId = token.collectionId;
    }
    this.#raise(token);
  }

  /** The answer of a read that starts now, once its token is taken in. */
  async reading<T extends { token: pb.Token | undefined }>(answer: Promise<T>): Promise<T> {
    const { epoch } = this;
    const response = await answer;
    this.read(response.token, epoch);
    return response;
  }

  /** The collection with this id has the name now. */
  begin(collectionId: string): void {
    if (collectionId !== this.#collectionId) this.#leaveFor(collectionId);
  }

  /** The collection that a call of `epoch` was about is gone, or another one has its name. */
  clear(epoch: number): void {
    if (epoch === this.#epoch) this.#leaveFor("");
  }

  #leaveFor(collectionId: string): void {
    this.#epoch++;
    this.#sequences.clear();
    this.#collectionId = collectionId;
    this.#wire = undefined;
  }

  #raise({ shards }: pb.Token): void {
    for (const { shard, sequence } of shards) {
      if (sequence <= (this.#sequences.get(shard) ?? 0)) continue;
      this.#sequences.set(shard, sequence);
      this.#wire = undefined;
    }
  }

  get token(): Token {
    return { collectionId: this.#collectionId, shards: Object.fromEntries(this.#sequences) };
  }

  /** The token on the wire; undefined while nothing is known. */
  get written(): pb.Token | undefined {
    return this.#sequences.size === 0 ? undefined : tokenToWire(this.token);
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
    if (typeof wanted === "object" && typeof (wanted as typeof wanted | null)?.atLeast?.shards === "object") {
      onlyKeys(wanted, ["atLeast"], "consistency");
      return { level: { $case: "atLeast", value: tokenToWire(wanted.atLeast) } };
    }
    throw new KithError(
      "INVALID_ARGUMENT",
      `the consistency ${shownValue(wanted)} is unknown; use "session", "none", "linearizable" or {atLeast: token}`,
    );
  }
}

/**
 * For a run of several calls, which must not go over to another collection of the same name: the id of the collection that it is
 * about, given what is known of it ("": nothing yet) and the token of the next answer. COLLECTION_NOT_FOUND where that is of another one.
 */
export function sameCollection(name: string, collectionId: string, token: pb.Token | undefined): string {
  if (token === undefined || token.collectionId === collectionId) return collectionId;
  if (collectionId === "") return token.collectionId;
  throw new KithError(
    "COLLECTION_NOT_FOUND",
    `the collection "${name}" was deleted and made anew meanwhile: this began with ${collectionId}, and ${token.collectionId} answered now; begin again`,
    { details: { collection: name, collectionId, found: token.collectionId } },
  );
}

export function tokenFromWire(token: pb.Token | undefined): Token {
  return {
    collectionId: token?.collectionId ?? "",
    shards: Object.fromEntries((token?.shards ?? []).map(({ shard, sequence }) => [shard, sequence])),
  };
}

export function tokenToWire({ collectionId, shards: sequences }: Token): pb.Token {
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
