import type { Clock } from "../../libs/base/index.js";
import type { NodeState } from "../../libs/cluster/index.js";

/** How long nodes have been away, by this process's own monotonic clock from when it has seen that they are. */
export class AwayNodes {
  readonly #clock: Clock;
  readonly #stateOf: (node: string) => NodeState;
  readonly #sinceMs = new Map<string, number>();

  constructor(clock: Clock, stateOf: (node: string) => NodeState) {
    this.#clock = clock;
    this.#stateOf = stateOf;
  }

  /** 0 for one that is there. To be asked often: a node that was there in between counts from then on. */
  ms(node: string): number {
    const state = this.#stateOf(node);
    if (state !== "down" && state !== "removed") {
      this.#sinceMs.delete(node);
      return 0;
    }
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = this.#sinceMs.get(node) ?? nowMs;
    this.#sinceMs.set(node, sinceMs);
    return nowMs - sinceMs;
  }

  /** What was seen counts no more: nobody has looked for a while. */
  forget(): void {
    this.#sinceMs.clear();
  }
}
