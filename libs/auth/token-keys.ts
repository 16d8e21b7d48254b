import type { JSONWebKeySet, JWTVerifyGetKey } from "jose";
import { type Clock, KithError, toKithError } from "../base/index.js";

/** How long keys are taken before they are read again, and the least time between two reads for a key that is not among them. */
const refreshMs = 300_000;
const cooldownMs = 10_000;

/**
 * The public keys of who signs tokens, read again when they are old, and when a token names a key that is not among them: a key that is new is
 * found within seconds. Where they cannot be read, those of before stay good for a time: some may have been taken back.
 */
export class TokenKeys {
  readonly #load: () => Promise<unknown>;
  readonly #clock: Clock;
  readonly #makeSet: (keys: JSONWebKeySet) => JWTVerifyGetKey;
  readonly #onFailure: (error: KithError) => void;
  #find: JWTVerifyGetKey | undefined;
  readonly #staleMs: number;
  /** Monotonic; of the last attempt, and of the last one that gave keys. */
  #readAtMs = Number.NEGATIVE_INFINITY;
  #foundAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  /**
   * @param load gives a JSON Web Key Set
   * @param makeSet finds the key of a token in a set: `createLocalJWKSet` of jose
   * @param staleMs how long keys stay good that should have been read again, and could not be
   * @param onFailure told where keys cannot be read
   */
  constructor(
    load: () => Promise<unknown>,
    clock: Clock,
    makeSet: (keys: JSONWebKeySet) => JWTVerifyGetKey,
    staleMs: number,
    onFailure: (error: KithError) => void,
  ) {
    this.#load = load;
    this.#clock = clock;
    this.#makeSet = makeSet;
    this.#staleMs = staleMs;
    this.#onFailure = onFailure;
  }

  /** INVALID_CONFIG where what is read is no set of public keys. */
  async start(): Promise<void> {
    await this.#read();
  }

  /** For `jwtVerify`. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.#ageMs() > (this.#areStale() ? cooldownMs : refreshMs)) await this.#refresh();
    try {
      return await this.#found(header, token);
    } catch (error) {
      // Another key than it knows: there may be new ones.
      if (this.#ageMs() < cooldownMs) throw error;
      await this.#refresh();
      return this.#found(header, token);
    }
  };

  #found: JWTVerifyGetKey = (header, token) => {
    if (this.#find === undefined || this.#areStale()) {
      throw new KithError("UNAUTHENTICATED", "the keys of tokens could not be read, and those of before are too old");
    }
    return this.#find(header, token);
  };

  #areStale(): boolean {
    return this.#clock.monotonicMs() - this.#foundAtMs > refreshMs + this.#staleMs;
  }

  #ageMs(): number {
    return this.#clock.monotonicMs() - this.#readAtMs;
  }

  /** Never rejects. */
  #refresh(): Promise<void> {
    this.#reading ??= this.#read()
      .catch((error: unknown) => this.#onFailure(toKithError(error)))
      .finally(() => {
        this.#reading = undefined;
      });
    return this.#reading;
  }

  async #read(): Promise<void> {
    this.#readAtMs = this.#clock.monotonicMs();
    this.#find = this.#makeSet(publicKeysOf(await this.#load()));
    this.#foundAtMs = this.#clock.monotonicMs();
  }
}

/** A secret in the set would let whoever can read the set sign tokens: it is refused as a whole. */
function publicKeysOf(value: unknown): JSONWebKeySet {
  const { keys } = (value ?? {}) as { keys?: unknown };
  const isPublic = (key: unknown): boolean => {
    const { kty, d } = (key ?? {}) as { kty?: unknown; d?: unknown };
    return typeof kty === "string" && kty !== "oct" && d === undefined;
  };
  if (Array.isArray(keys) && keys.length > 0 && keys.every(isPublic)) return value as JSONWebKeySet;
  throw new KithError("INVALID_CONFIG", "the keys of tokens are no JSON Web Key Set of public keys alone");
}
