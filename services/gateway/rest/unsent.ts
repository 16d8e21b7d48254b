import type { ServerResponse } from "node:http";
import { KithError } from "../../../libs/base/index.js";

/** Answers below this size are not counted, in bytes. */
const countedBytesMin = 16 * 1024;

/** Bytes of answers that clients have not taken yet. */
export class UnsentBytes {
  readonly #limitBytes: number;
  #bytes = 0;

  /** Beyond `limitBytes` more are refused. */
  constructor(limitBytes = Infinity) {
    this.#limitBytes = limitBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** RESOURCE_EXHAUSTED where there is no room for so many bytes more; one answer alone always has room. */
  checkRoom(moreBytes: number): void {
    const [unsentBytes, limitBytes] = [this.#bytes, this.#limitBytes];
    if (unsentBytes === 0 || unsentBytes + moreBytes <= limitBytes) return;
    throw new KithError(
      "RESOURCE_EXHAUSTED",
      `clients have not taken ${unsentBytes} bytes of answers yet, and ${limitBytes} are allowed; try again shortly, or ask for fewer results`,
      { details: { unsentBytes, limitBytes }, retryAfterMs: 200 },
    );
  }

  /**
   * Counts an answer until its client has taken it or has left. Before anything is waited for: a client that leaves while its answer is compressed
   * has left when that is done. What this gives takes the size that it has by then.
   */
  count(response: ServerResponse, size: number): (size: number) => void {
    if (size < countedBytesMin) return () => undefined;
    this.checkRoom(size);
    let counted = 0;
    let isOver = false;
    const count = (bytes: number): void => {
      if (isOver) return;
      this.#bytes += bytes - counted;
      counted = bytes;
    };
    response.once("close", () => {
      count(0);
      isOver = true;
    });
    count(size);
    return count;
  }
}
