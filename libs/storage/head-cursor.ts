import type { Entry } from "./database.js";
import { Head, type PartKind, partKind } from "./head.js";
import { corrupt } from "./values.js";

/** Walks the heads beside a walk through one part of the points: both are in order of id. */
export class HeadCursor {
  readonly #chunks: AsyncGenerator<Entry[]>;
  readonly #kind: PartKind;
  readonly #field: number;
  #entries: Entry[] = [];
  #at = 0;

  constructor(chunks: AsyncGenerator<Entry[]>, kind: PartKind, field: number) {
    this.#chunks = chunks;
    this.#kind = kind;
    this.#field = field;
  }

  /** The head of the point whose part has this key, if it is in the chunk at hand; points without the part are passed over. */
  find(part: Uint8Array): Head | undefined {
    // Behind the family byte, and for vectors the field's, both keys end with the id.
    const idAt = this.#kind === partKind.payload ? 1 : 2;
    while (this.#at < this.#entries.length) {
      const [key, value] = this.#entries[this.#at++] as Entry;
      const order = Buffer.compare(key.subarray(1), part.subarray(idAt));
      if (order > 0) throw corrupt(part, "belongs to no point");
      const head = new Head(key, value);
      const has = this.#has(head);
      if (order < 0 && has) throw this.#missing(key);
      if (order < 0) continue;
      if (!has) throw corrupt(part, "is not named by the head of its point");
      return head;
    }
    return undefined;
  }

  async findFurther(part: Uint8Array): Promise<Head> {
    for (;;) {
      if (!(await this.#advance())) throw corrupt(part, "belongs to no point");
      const head = this.find(part);
      if (head !== undefined) return head;
    }
  }

  /** Checks that no further point names such a part. */
  async expectNone(): Promise<void> {
    do {
      for (const [key, value] of this.#entries.slice(this.#at)) {
        if (this.#has(new Head(key, value))) throw this.#missing(key);
      }
    } while (await this.#advance());
  }

  async close(): Promise<void> {
    await this.#chunks.return(undefined);
  }

  #has(head: Head): boolean {
    return this.#kind === partKind.payload ? head.payloadBytes > 0 : head.hasVector(this.#field);
  }

  #missing(key: Uint8Array): Error {
    const part = this.#kind === partKind.payload ? "payload" : `vector of field ${this.#field}`;
    return corrupt(key, `names a ${part} that is missing`);
  }

  async #advance(): Promise<boolean> {
    const next = await this.#chunks.next();
    this.#entries = next.done === true ? [] : next.value;
    this.#at = 0;
    return next.done !== true;
  }
}
