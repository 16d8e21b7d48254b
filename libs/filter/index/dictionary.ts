import { Arena } from "./arena.js";
import { U32Column } from "./chunks.js";
import { beginning, ending, type Probe, SortedEntries, type Steps } from "./sorted-entries.js";

/** The table is split so that no growth looks at more than a 64th of the strings at once. */
const tableParts = 64;
const firstPartLength = 8;

/**
 * Strings and their numbers (from 0, dense, given out again), how often each is in use, and their order by code units. A string of
 * ASCII takes its length and about 30 bytes, outside of JavaScript's heap: a Map and an array took 90, which the garbage
 * collector had to look at again and again.
 */
export class Dictionary {
  readonly #arena = new Arena((number, at) => this.#places.set(number, at));
  readonly #places = new U32Column();
  readonly #counts = new U32Column();
  /** Open addressing; number and 1, or 0 for a free place. */
  readonly #tables: Uint32Array[] = Array.from({ length: tableParts }, () => new Uint32Array(firstPartLength));
  readonly #sizes = new Uint32Array(tableParts);
  readonly #order = new SortedEntries((a, b) => this.#compare(a, b));
  readonly #free: number[] = [];
  #end = 0;

  /** Strings in use. */
  get size(): number {
    return this.#order.size;
  }

  /** Above the highest number in use. */
  get end(): number {
    return this.#end;
  }

  get memoryBytes(): number {
    let tables = 0;
    for (const table of this.#tables) tables += table.byteLength;
    const columns = this.#places.memoryBytes + this.#counts.memoryBytes;
    return this.#arena.memoryBytes + columns + tables + this.#order.memoryBytes + this.#free.length * 8;
  }

  /** The number of a string, in use so many times more. */
  use(text: string, times = 1): number {
    const hash = hashOf(text);
    const found = this.#find(text, hash);
    if (found !== undefined) {
      this.#counts.set(found, this.#counts.get(found) + times);
      return found;
    }
    const number = this.#free.pop() ?? this.#end++;
    this.#places.set(number, this.#store(number, text));
    this.#counts.set(number, times);
    this.#enter(number, hash);
    this.#order.insert(number);
    return number;
  }

  /** Ends one use of a string; after the last its number is free. */
  release(number: number): void {
    const count = this.#counts.get(number) - 1;
    this.#counts.set(number, count);
    if (count > 0) return;
    this.#order.remove(number);
    this.#leave(number);
    this.#arena.drop(this.#places.get(number));
    this.#places.set(number, 0);
    this.#free.push(number);
  }

  /** The number of a string that is in use. */
  find(text: string): number | undefined {
    return this.#find(text, hashOf(text));
  }

  count(number: number): number {
    return this.#counts.get(number);
  }

  text(number: number): string {
    const at = this.#places.get(number);
    const bytes = this.#arena.bytes(at);
    const start = this.#arena.start(at);
    const end = start + this.#arena.length(at);
    const content = Buffer.from(bytes.buffer, start + 1, end - start - 1);
    return content.toString(bytes[start] === narrow ? "latin1" : "utf16le");
  }

  /** Numbers of the strings that begin with this one, in their order. */
  *withPrefix(prefix: string, visit: (number: number) => void): Steps<void> {
    const from: Probe = (number) => this.#compareText(number, prefix);
    const to: Probe = (number) => (this.text(number).startsWith(prefix) ? -1 : this.#compareText(number, prefix));
    yield* this.#scan(from, prefix === "" ? ending : to, visit);
  }

  /** Numbers of all strings in their order. */
  *all(visit: (number: number) => void): Steps<void> {
    yield* this.#scan(beginning, ending, visit);
  }

  /** Strings that begin with this one: how many there are, and how often they are in use if all are so equally. */
  prefixEstimate(prefix: string, uses: number): number {
    const low = this.#order.rank((number) => this.#compareText(number, prefix));
    const high = this.#order.rank((number) =>
      this.text(number).startsWith(prefix) ? -1 : this.#compareText(number, prefix),
    );
    return this.size === 0 ? 0 : (uses * (high - low)) / this.size;
  }

  *#scan(from: Probe, to: Probe, visit: (number: number) => void): Steps<void> {
    const after = (number: number): Probe => {
      const text = this.text(number);
      return (other) => (this.#compareText(other, text) > 0 ? 1 : -1);
    };
    yield* this.#order.scan(from, to, after, (run, first, end) => {
      for (let i = first; i < end; i++) visit(run[i] as number);
    });
  }

  #store(number: number, text: string): number {
    let wide = false;
    for (let i = 0; i < text.length && !wide; i++) wide = text.charCodeAt(i) > 0xff;
    // One byte says the width; wide characters begin at an odd offset, which costs nothing that matters.
    const length = 1 + text.length * (wide ? 2 : 1);
    const at = this.#arena.allocate(number, length);
    const bytes = this.#arena.bytes(at);
    let to = this.#arena.start(at);
    bytes[to++] = wide ? broad : narrow;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      bytes[to++] = code & 0xff;
      if (wide) bytes[to++] = code >>> 8;
    }
    return at;
  }

  #compare(a: number, b: number): number {
    const [atA, atB] = [this.#places.get(a), this.#places.get(b)];
    const [bytesA, bytesB] = [this.#arena.bytes(atA), this.#arena.bytes(atB)];
    const [startA, startB] = [this.#arena.start(atA), this.#arena.start(atB)];
    const [wideA, wideB] = [bytesA[startA] as number, bytesB[startB] as number];
    const lengthA = (this.#arena.length(atA) - 1) >>> wideA;
    const lengthB = (this.#arena.length(atB) - 1) >>> wideB;
    const shared = Math.min(lengthA, lengthB);
    for (let i = 0; i < shared; i++) {
      const difference = unitAt(bytesA, startA, wideA, i) - unitAt(bytesB, startB, wideB, i);
      if (difference !== 0) return difference;
    }
    return lengthA - lengthB;
  }

  /** By code units, as JavaScript compares strings. */
  #compareText(number: number, text: string): number {
    const at = this.#places.get(number);
    const bytes = this.#arena.bytes(at);
    const start = this.#arena.start(at);
    const wide = bytes[start] as number;
    const length = (this.#arena.length(at) - 1) >>> wide;
    const shared = Math.min(length, text.length);
    for (let i = 0; i < shared; i++) {
      const difference = unitAt(bytes, start, wide, i) - text.charCodeAt(i);
      if (difference !== 0) return difference;
    }
    return length - text.length;
  }

  #find(text: string, hash: number): number | undefined {
    const table = this.#tables[hash % tableParts] as Uint32Array;
    const mask = table.length - 1;
    for (let at = (hash >>> 6) & mask; ; at = (at + 1) & mask) {
      const entry = table[at] as number;
      if (entry === 0) return undefined;
      if (this.#compareText(entry - 1, text) === 0) return entry - 1;
    }
  }

  #enter(number: number, hash: number): void {
    const part = hash % tableParts;
    let table = this.#tables[part] as Uint32Array;
    const size = ((this.#sizes[part] as number) += 1);
    if (size * 4 > table.length * 3) {
      const old = table;
      table = new Uint32Array(old.length * 2);
      this.#tables[part] = table;
      for (const entry of old) if (entry !== 0) place(table, entry, hashOf(this.text(entry - 1)));
    }
    place(table, number + 1, hash);
  }

  /** Closes the gap, so that no search ends at it too early. */
  #leave(number: number): void {
    const hash = hashOf(this.text(number));
    const part = hash % tableParts;
    const table = this.#tables[part] as Uint32Array;
    const mask = table.length - 1;
    let gap = (hash >>> 6) & mask;
    while (table[gap] !== number + 1) gap = (gap + 1) & mask;
    (this.#sizes[part] as number) -= 1;
    for (let at = (gap + 1) & mask; table[at] !== 0; at = (at + 1) & mask) {
      const home = (hashOf(this.text((table[at] as number) - 1)) >>> 6) & mask;
      // It may move where its home is not between the gap and its place.
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      table[gap] = table[at] as number;
      gap = at;
    }
    table[gap] = 0;
  }
}

/** The first byte of a record: whether a code unit takes one byte or two. */
const narrow = 0;
const broad = 1;

function unitAt(bytes: Uint8Array, start: number, wide: number, i: number): number {
  if (wide === narrow) return bytes[start + 1 + i] as number;
  return (bytes[start + 1 + 2 * i] as number) | ((bytes[start + 2 + 2 * i] as number) << 8);
}

function place(table: Uint32Array, entry: number, hash: number): void {
  const mask = table.length - 1;
  let at = (hash >>> 6) & mask;
  while (table[at] !== 0) at = (at + 1) & mask;
  table[at] = entry;
}

/** FNV-1a over code units, mixed at the end; only in memory. */
function hashOf(text: string): number {
  let hash = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
