import { KithError } from "../../../libs/base/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** Bytes of points that one answer may be put together of. */
const answerBytesMax = 64 * 1024 * 1024;

/** What was read for one answer so far. */
export interface Gathering {
  /** BATCH_TOO_LARGE where it is too much for one answer. */
  add(points: readonly Pick<pb.Point, "payload" | "vectors">[]): void;
  release(): void;
}

/** Bytes of answers that are put together of several ones of the router: those have left its hands, and are in nobody else's yet. */
export class GatheredBytes {
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** Of one answer, until that is written or has failed. */
  begin(): Gathering {
    let own = 0;
    return {
      add: (points) => {
        let more = 0;
        for (const { payload, vectors } of points) {
          more += payload.length;
          for (const { values, indices } of Object.values(vectors)) more += 4 * (values.length + indices.length);
        }
        own += more;
        this.#bytes += more;
        if (own <= answerBytesMax) return;
        throw new KithError(
          "BATCH_TOO_LARGE",
          `the answer has more than ${answerBytesMax} bytes; ask for fewer points at a time, or without payloads and vectors`,
          { details: { max: answerBytesMax } },
        );
      },
      release: () => {
        this.#bytes -= own;
        own = 0;
      },
    };
  }
}
