import type { Clock } from "../../base/index.js";
import type { UnindexedCondition } from "../../filter/index.js";
import type { PayloadIndex, PayloadIndexKind, UnindexedField } from "../../model/index.js";

/** Fields without an index that are remembered; the one that was asked for the least makes room. */
const fieldsMax = 64;

interface Use {
  count: number;
  sinceMs: number;
}

/**
 * What filters, facets and orders ask of payload indexes: how often each answers, and which fields lack one. Counted by each replica from its opening on, in
 * memory.
 */
export class IndexUsage {
  readonly #clock: Clock;
  /** By path of the index. */
  #uses = new Map<string, Use>();
  readonly #unindexed = new Map<string, { kinds: readonly PayloadIndexKind[]; count: number }>();

  constructor(clock: Clock, indexes: readonly PayloadIndex[]) {
    this.#clock = clock;
    this.changeIndexes(indexes);
  }

  /** From now on there are these indexes. */
  changeIndexes(indexes: readonly PayloadIndex[]): void {
    const sinceMs = this.#clock.nowMs();
    this.#uses = new Map(indexes.map(({ path }) => [path, this.#uses.get(path) ?? { count: 0, sinceMs }]));
    // Which kinds there are may have changed: what is asked for still is counted anew.
    this.#unindexed.clear();
  }

  /** A filter with these conditions on fields was asked for. */
  filtered(conditions: readonly UnindexedCondition[], indexes: readonly PayloadIndex[]): void {
    for (const { path, kinds } of conditions) {
      if (indexes.some((index) => index.path === path && kinds.includes(index.kind))) this.used(path);
      else this.#lacked(path, kinds);
    }
  }

  /** The index answered something. */
  used(path: string): void {
    const use = this.#uses.get(path);
    if (use !== undefined) use.count++;
  }

  of(path: string): Use {
    return this.#uses.get(path) ?? { count: 0, sinceMs: this.#clock.nowMs() };
  }

  /** Fields that filters asked for and no index answers, most often first. */
  unindexed(): UnindexedField[] {
    const fields = Array.from(this.#unindexed, ([path, { kinds, count }]) => ({ path, kinds: [...kinds], count }));
    return fields.sort((a, b) => b.count - a.count || (a.path < b.path ? -1 : 1));
  }

  #lacked(path: string, kinds: readonly PayloadIndexKind[]): void {
    const known = this.#unindexed.get(path);
    if (known !== undefined) {
      known.count++;
      known.kinds = kinds;
      return;
    }
    if (this.#unindexed.size >= fieldsMax) {
      const rarest = [...this.#unindexed].reduce((a, b) => (b[1].count < a[1].count ? b : a));
      this.#unindexed.delete(rarest[0]);
    }
    this.#unindexed.set(path, { kinds, count: 1 });
  }
}
