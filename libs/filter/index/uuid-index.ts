import type { JsonValue } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import type { Words } from "./bits.js";
import { U32Column } from "./chunks.js";
import { EntryColumn } from "./entries.js";
import { type KeyPacker, OrderedIndex } from "./ordered-index.js";
import { bytesOf, damaged, u32Of } from "./sections.js";
import type { Steps } from "./sorted-entries.js";
import type { FacetCount, Lookup, PayloadIndex } from "./types.js";

/** Keys that are stored in one step. */
const keysPerStep = 4_096;

const canonical = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/;

/** The four words of a UUID in lower case with its hyphens; undefined for any other string. */
function wordsOf(text: string): Uint32Array | undefined {
  if (text.length !== 36 || !canonical.test(text)) return undefined;
  const hex = text.replaceAll("-", "");
  return Uint32Array.from([0, 8, 16, 24], (at) => Number.parseInt(hex.slice(at, at + 8), 16));
}

function textOf(words: Uint32Array): string {
  const hex = [...words].map((word) => word.toString(16).padStart(8, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * Strings that are UUIDs, as 16 bytes and about 6 of order: where most values differ, that is half of what a dictionary would
 * take. Other strings, also UUIDs in upper case, are not held: conditions compare the text.
 */
export class UuidIndex extends OrderedIndex<Uint32Array> implements PayloadIndex {
  readonly kind = "uuid";
  readonly #columns = [0, 1, 2, 3].map(() => new EntryColumn(() => new U32Column()));

  protected get columnBytes(): number {
    return this.#columns.reduce((sum, column) => sum + column.memoryBytes, 0);
  }

  protected compare(a: number, b: number): number {
    for (const column of this.#columns) {
      const difference = column.get(a) - column.get(b);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  protected compareKey(entry: number, key: Uint32Array): number {
    for (let i = 0; i < 4; i++) {
      const difference = (this.#columns[i] as EntryColumn).get(entry) - (key[i] as number);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  protected keyOf(entry: number): Uint32Array {
    return Uint32Array.from(this.#columns, (column) => column.get(entry));
  }

  protected setKey(entry: number, key: Uint32Array): void {
    for (const [i, column] of this.#columns.entries()) column.set(entry, key[i] as number);
  }

  protected keyFor(value: JsonValue): Uint32Array | "foreign" | undefined {
    return typeof value === "string" ? wordsOf(value) : "foreign";
  }

  protected isOneOf(keys: readonly Uint32Array[]): (entry: number) => boolean {
    const set = new Set(keys.map((key) => key.join()));
    return (entry) => set.has(this.keyOf(entry).join());
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    if (condition.kind !== "match") return undefined;
    const { match } = condition;
    const values =
      match.kind === "value"
        ? [match.value]
        : match.kind === "any" || match.kind === "except"
          ? match.values
          : undefined;
    if (values === undefined || !values.every((value) => typeof value === "string")) return undefined;
    const keys = [...new Set(values)].map(wordsOf).filter((key) => key !== undefined);
    const allHeld = keys.length === new Set(values).size;
    if (match.kind === "except") return this.noneOf(keys, allHeld);
    return this.anyOf(keys, allHeld || this.unheld.count === 0 ? undefined : this.unheld);
  }

  protected readonly keySections = 1;

  protected keyPacker(): KeyPacker {
    const found: number[] = [];
    return {
      add: (entry) => {
        for (const column of this.#columns) found.push(column.get(entry));
      },
      *pack(positions): Steps<Uint8Array[]> {
        const words = new Uint32Array(positions.length * 4);
        for (let i = 0; i < positions.length; i++) {
          for (let j = 0; j < 4; j++) words[4 * i + j] = found[4 * (positions[i] as number) + j] as number;
          if (i % keysPerStep === keysPerStep - 1) yield;
        }
        return [bytesOf(words)];
      },
    };
  }

  protected *unpackKeys([section]: readonly Uint8Array[], count: number): Steps<(i: number) => Uint32Array> {
    const words = u32Of(section as Uint8Array);
    if (words.length !== 4 * count) throw damaged(`has ${words.length / 4} keys for ${count} slots`);
    yield;
    return (i) => words.subarray(4 * i, 4 * i + 4);
  }

  *facet(mask?: Words): Steps<FacetCount[]> {
    const counts = new Map<string, number>();
    yield* this.eachKey(mask, (entry) => {
      const text = textOf(this.keyOf(entry));
      counts.set(text, (counts.get(text) ?? 0) + 1);
    });
    return [...counts].map(([value, count]) => ({ value, count }));
  }
}
