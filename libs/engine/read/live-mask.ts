import { assert } from "../../base/index.js";
import { countBits, type PointTest, SlotSet, type Words } from "../../filter/index.js";
import type { MaskMaking, SlotMask } from "./mask.js";

/** The slots that pass a filter, kept up to date by whoever changes slots. */
export class LiveMask implements SlotMask {
  readonly test: PointTest;
  /** Whether the test looks at more than id and payload. */
  readonly needsHeads: boolean;
  count = 0;
  #words: Words = new Uint32Array(0);
  #bytes = new Uint8Array(0);
  /** Whether somebody has them, so that the next change is to leave them as they are. */
  #isShared = false;
  /** Batches since it was used last, and those who use it now. */
  idleBatches = 0;
  users = 0;
  /** While the mask is made: slots that changed since it began, which are right already. */
  #touched: SlotSet | undefined = new SlotSet();
  #making: MaskMaking | undefined;

  constructor(test: PointTest, needsHeads: boolean) {
    this.test = test;
    this.needsHeads = needsHeads;
  }

  get making(): MaskMaking {
    assert(this.#making !== undefined, "a mask is used before it is made");
    return this.#making;
  }

  /** As they are now: a change makes others. */
  get words(): Words {
    this.#isShared = true;
    return this.#words;
  }

  /** As they are now: a change makes others. */
  get bytes(): Uint8Array {
    this.#isShared = true;
    return this.#bytes;
  }

  get memoryBytes(): number {
    return this.#bytes.byteLength;
  }

  /** Of a slot that changes: whether it passes from now on. */
  put(slot: number, passes: boolean): void {
    this.#touched?.add(slot);
    if (passes) this.set(slot);
    else this.#clear(slot);
  }

  /** No point is left; `alive`: the slots of before. */
  empty(alive: Words): void {
    this.#touched?.addAll(alive);
    this.#own(this.#words.length).fill(0);
    this.count = 0;
  }

  /** Whether the slot changed since the making began. */
  isTouched(slot: number): boolean {
    return this.#touched?.has(slot) === true;
  }

  has(slot: number): boolean {
    return (((this.#words[slot >>> 5] ?? 0) >>> (slot & 31)) & 1) === 1;
  }

  set(slot: number): void {
    if (this.has(slot)) return;
    const at = slot >>> 5;
    const words = this.#own(at + 1);
    words[at] = (words[at] as number) | (1 << (slot & 31));
    this.count++;
  }

  /** Takes in slots that pass, but for those that changed since the making began. */
  setAll(words: Words): void {
    const own = this.#own(words.length);
    const touched = this.#touched?.words ?? new Uint32Array(0);
    for (let i = 0; i < words.length; i++) {
      own[i] = (own[i] as number) | ((words[i] as number) & ~(touched[i] ?? 0));
    }
    this.count = countBits(own);
  }

  /** Ends the making. */
  made(making: MaskMaking): void {
    this.#touched = undefined;
    this.#making = making;
  }

  #clear(slot: number): void {
    if (!this.has(slot)) return;
    const at = slot >>> 5;
    const words = this.#own(at + 1);
    words[at] = (words[at] as number) & ~(1 << (slot & 31));
    this.count--;
  }

  /** The words, at least so many, of which nobody else has any. */
  #own(length: number): Words {
    const known = this.#words;
    if (length <= known.length && !this.#isShared) return known;
    const size = length <= known.length ? known.length : Math.max(length, Math.ceil(known.length * 1.25));
    this.#words = new Uint32Array(size);
    this.#words.set(known);
    this.#bytes = new Uint8Array(this.#words.buffer);
    this.#isShared = false;
    return this.#words;
  }
}
