/**
 * Holds what comes and goes at a high rate, such as calls in flight, each in a slot that is used again.
 *
 * A Map or Set of such objects would keep the dead ones alive: V8 replaces its table after as many deletions as it has
 * entries, and the old table still refers to what was in it and to the table that followed. Once the collector has
 * moved one of these tables to the old generation, every later one, with all objects in it, survives until the old
 * generation is collected: scavenges then copy nearly everything that was ever in the collection. A Map from a number to
 * a slot of this table has no such cost.
 */
export class Slab<T extends object> {
  readonly #items: (T | undefined)[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#items.length - this.#free.length;
  }

  /** The slot of the item. */
  add(item: T): number {
    const slot = this.#free.pop() ?? this.#items.length;
    this.#items[slot] = item;
    return slot;
  }

  at(slot: number): T | undefined {
    return this.#items[slot];
  }

  /** Of a slot that has an item. */
  remove(slot: number): void {
    this.#items[slot] = undefined;
    this.#free.push(slot);
  }

  /** The items, in no order. They may be removed meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (const item of this.#items) if (item !== undefined) yield item;
  }
}
