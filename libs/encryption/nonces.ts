import type { Random } from "../base/index.js";

/** Of AES-GCM, in bytes. */
export const nonceBytes = 12;
const prefixBytes = 8;
const countsMax = 2 ** 32;

/**
 * Nonces for one key: 8 random bytes and a counter of 4, with other random bytes when the counter is at its end. Random nonces alone are good for 2^32
 * messages (NIST SP 800-38D); so many of these share their random part, and two parts of a million meet by chance once in 2^25.
 * Also after a restart, or on a copy of the disk, nonces are others.
 */
export class Nonces {
  readonly #random: Random;
  readonly #next = Buffer.alloc(nonceBytes);
  readonly #countsMax: number;
  #count: number;

  /** @param counts how many have the same random bytes; for tests */
  constructor(random: Random, counts = countsMax) {
    this.#random = random;
    this.#countsMax = counts;
    this.#count = counts;
  }

  /** Good until the next one is asked for. */
  next(): Buffer {
    if (this.#count === this.#countsMax) {
      this.#next.set(this.#random.bytes(prefixBytes));
      this.#count = 0;
    }
    this.#next.writeUInt32LE(this.#count++, prefixBytes);
    return this.#next;
  }
}
