export interface DuplicateWindow {
  /** Most message ids remembered per log. */
  count: number;
  /** How long a message id is remembered, in milliseconds. */
  timeMs: number;
}

interface Remembered {
  messageId: string;
  sequence: number;
  timeMs: number;
}

/** The message ids of one log's latest records, oldest first. */
export class RecentMessages {
  readonly #window: DuplicateWindow;
  readonly #sequences = new Map<string, number>();
  #order: Remembered[] = [];
  #head = 0;

  constructor(window: DuplicateWindow) {
    this.#window = window;
  }

  sequenceOf(messageId: string): number | undefined {
    return this.#sequences.get(messageId);
  }

  add(messageId: string, sequence: number, timeMs: number): void {
    this.#sequences.set(messageId, sequence);
    this.#order.push({ messageId, sequence, timeMs });
  }

  /** Forgets what is beyond the window and says which sequences that were, so that the disk can forget them too. */
  expire(nowMs: number): number[] {
    const forgotten: number[] = [];
    for (let oldest = this.#order[this.#head]; oldest !== undefined; oldest = this.#order[this.#head]) {
      const tooMany = this.#order.length - this.#head > this.#window.count;
      if (!tooMany && nowMs - oldest.timeMs <= this.#window.timeMs) break;
      this.#head++;
      forgotten.push(oldest.sequence);
      if (this.#sequences.get(oldest.messageId) === oldest.sequence) this.#sequences.delete(oldest.messageId);
    }
    if (this.#head > 1_024 && this.#head * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
    return forgotten;
  }
}
