/** What became of slots while searches run that look for them in several steps; what no search can ask for any more is forgotten. */
export class RecentChanges {
  #now = 0;
  /** By slot, when it was removed, or encoded, last; oldest first. */
  readonly #removed = new Map<number, number>();
  readonly #encoded = new Map<number, number>();
  /** When the searches began that are under way. */
  readonly #begun = new Map<number, number>();

  /** A search begins: gives its moment, by which it asks, and ends. */
  begin(): number {
    this.#begun.set(this.#now, (this.#begun.get(this.#now) ?? 0) + 1);
    return this.#now;
  }

  end(begun: number): void {
    const left = (this.#begun.get(begun) ?? 1) - 1;
    if (left > 0) return void this.#begun.set(begun, left);
    this.#begun.delete(begun);
    // Moments ascend, so the first is the oldest.
    const [oldest = this.#now] = this.#begun.keys();
    for (const changes of [this.#removed, this.#encoded]) {
      for (const [slot, at] of changes) {
        if (at > oldest) break;
        changes.delete(slot);
      }
    }
  }

  removed(slots: Uint32Array): void {
    this.#note(this.#removed, slots);
  }

  encoded(slots: Uint32Array): void {
    this.#note(this.#encoded, slots);
  }

  wasRemoved(slot: number, since: number): boolean {
    return (this.#removed.get(slot) ?? 0) > since;
  }

  encodedSince(since: number): number[] {
    const slots: number[] = [];
    for (const [slot, at] of this.#encoded) if (at > since) slots.push(slot);
    return slots;
  }

  #note(changes: Map<number, number>, slots: Uint32Array): void {
    if (this.#begun.size === 0) return;
    this.#now++;
    for (const slot of slots) {
      changes.delete(slot);
      changes.set(slot, this.#now);
    }
  }
}
