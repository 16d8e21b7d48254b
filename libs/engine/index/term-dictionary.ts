import { editDistance } from "../../text/index.js";

/** Bytes of a term besides its text: an entry of the map and one of the list. */
const entryBytes = 64;
/** Terms that are looked at before others may run. */
const stepTerms = 20_000;

/** The terms of an index, numbered from 0 in the order in which they came. */
export class TermDictionary {
  readonly #numbers = new Map<string, number>();
  readonly #terms: string[] = [];
  #textBytes = 0;

  /** Terms in the order of their numbers. */
  static of(terms: Iterable<string>): TermDictionary {
    const dictionary = new TermDictionary();
    for (const term of terms) dictionary.add(term);
    return dictionary;
  }

  get memoryBytes(): number {
    return this.#textBytes + this.#terms.length * entryBytes;
  }

  get terms(): readonly string[] {
    return this.#terms;
  }

  add(term: string): number {
    let number = this.#numbers.get(term);
    if (number === undefined) {
      number = this.#terms.push(term) - 1;
      this.#numbers.set(term, number);
      this.#textBytes += term.length;
    }
    return number;
  }

  find(term: string): number | undefined {
    return this.#numbers.get(term);
  }

  /** Terms that begin so, or are so near; in steps between which terms may come. */
  *matching(kind: "prefix" | "fuzzy", text: string, distance: number): Generator<undefined, string[], undefined> {
    const found: string[] = [];
    for (let i = 0; i < this.#terms.length; i++) {
      if (i % stepTerms === stepTerms - 1) yield;
      const term = this.#terms[i] as string;
      if (kind === "prefix" ? term.startsWith(text) : editDistance(text, term, distance) <= distance) found.push(term);
    }
    return found;
  }
}
