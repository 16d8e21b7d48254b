import { type Bounds, type Integer, JsonFloat, type JsonValue, type MatchList } from "../../model/index.js";
import { datetimeMicros } from "../datetime.js";
import type { ValueCondition } from "../matches.js";
import type { Words } from "./bits.js";
import { F64Column } from "./chunks.js";
import { EntryColumn } from "./entries.js";
import { type KeyPacker, OrderedIndex } from "./ordered-index.js";
import { bytesOf, damaged, f64Of } from "./sections.js";
import { beginning, ending, type Probe, type Steps } from "./sorted-entries.js";
import type { FacetCount, Lookup, OrderedPage, PageOptions, PayloadIndex } from "./types.js";

/** Keys that are stored in one step. */
const keysPerStep = 8_192;

/**
 * Integers, floats or datetimes (microseconds), as doubles in order: 8 bytes a value and about 6 of order. What a double does
 * not hold exactly (integers beyond 2^53, datetimes beyond the year 2255) is not held: such slots may match and must be checked.
 */
export class NumberIndex extends OrderedIndex<number> implements PayloadIndex {
  readonly kind: "integer" | "float" | "datetime";
  readonly #keys = new EntryColumn(() => new F64Column());

  constructor(kind: "integer" | "float" | "datetime") {
    super();
    this.kind = kind;
  }

  protected get columnBytes(): number {
    return this.#keys.memoryBytes;
  }

  protected compare(a: number, b: number): number {
    return compareNumbers(this.#keys.get(a), this.#keys.get(b));
  }

  protected compareKey(entry: number, key: number): number {
    return compareNumbers(this.#keys.get(entry), key);
  }

  protected keyOf(entry: number): number {
    return this.#keys.get(entry);
  }

  protected setKey(entry: number, key: number): void {
    this.#keys.set(entry, key);
  }

  protected keyFor(value: JsonValue): number | "foreign" | undefined {
    if (this.kind === "datetime") {
      const micros = typeof value === "string" ? datetimeMicros(value) : undefined;
      if (micros === undefined) return "foreign";
      return typeof micros === "number" ? micros : undefined;
    }
    // Plus zero: both zeros are one key.
    if (typeof value === "number") return this.kind === "float" || Number.isInteger(value) ? value + 0 : undefined;
    if (typeof value === "bigint") return undefined;
    if (value instanceof JsonFloat) return this.kind === "float" ? value.value + 0 : undefined;
    return "foreign";
  }

  protected isOneOf(keys: readonly number[]): (entry: number) => boolean {
    const set = new Set(keys);
    return (entry) => set.has(this.#keys.get(entry));
  }

  protected readonly keySections = 1;

  protected keyPacker(): KeyPacker {
    const found: number[] = [];
    return {
      add: (entry) => found.push(this.#keys.get(entry)),
      *pack(positions): Steps<Uint8Array[]> {
        const keys = new Float64Array(positions.length);
        for (let i = 0; i < keys.length; i++) {
          keys[i] = found[positions[i] as number] as number;
          if (i % keysPerStep === keysPerStep - 1) yield;
        }
        return [bytesOf(keys)];
      },
    };
  }

  protected *unpackKeys([section]: readonly Uint8Array[], count: number): Steps<(i: number) => number> {
    const keys = f64Of(section as Uint8Array);
    if (keys.length !== count) throw damaged(`has ${keys.length} keys for ${count} slots`);
    yield;
    return (i) => keys[i] as number;
  }

  page(options: PageOptions<number>): OrderedPage<number> {
    return this.pageOf(options);
  }

  *facet(mask?: Words): Steps<FacetCount[]> {
    const counts = new Map<number, number>();
    yield* this.eachKey(mask, (entry) => {
      const key = this.#keys.get(entry);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    });
    return [...counts].map(([value, count]) => ({ value, count }));
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    const { kind } = condition;
    if (kind === "range" ? this.kind !== "datetime" : kind === "datetimeRange" && this.kind === "datetime") {
      return this.#range((condition as { range: Bounds<Integer> }).range);
    }
    if (kind !== "match" || this.kind === "datetime") return undefined;
    const { match } = condition;
    switch (match.kind) {
      case "value":
        return typeof match.value === "string" || typeof match.value === "boolean"
          ? undefined
          : this.#oneOf([match.value]);
      case "any":
        return isIntegers(match.values) ? this.#oneOf(match.values) : undefined;
      case "except": {
        // A float index does not know 1 from 1.0.
        if (this.kind !== "integer" || !isIntegers(match.values)) return undefined;
        const keys = heldOf(match.values);
        return this.noneOf(keys, keys.length === match.values.length);
      }
      default:
        return undefined;
    }
  }

  #oneOf(values: readonly Integer[]): Lookup {
    const keys = [...new Set(heldOf(values))];
    const maybe = keys.length === values.length || this.unheld.count === 0 ? undefined : this.unheld;
    return this.anyOf(keys, maybe, this.kind === "integer");
  }

  #range({ gt, gte, lt, lte }: Bounds<Integer>): Lookup {
    const isBelow = (key: number): boolean => (gt !== undefined && !(key > gt)) || (gte !== undefined && !(key >= gte));
    const isWithin = (key: number): boolean => (lt === undefined || key < lt) && (lte === undefined || key <= lte);
    const from: Probe = (entry) => (isBelow(this.#keys.get(entry)) ? -1 : 1);
    const to: Probe = (entry) => (isWithin(this.#keys.get(entry)) ? -1 : 1);
    return this.between(
      gt === undefined && gte === undefined ? beginning : from,
      lt === undefined && lte === undefined ? ending : to,
      this.unheld.count === 0 ? undefined : this.unheld,
    );
  }
}

function compareNumbers(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** An empty list has no type: it is one of integers as well. */
export function isIntegers(values: MatchList): values is readonly Integer[] {
  return typeof values[0] !== "string";
}

function heldOf(values: readonly Integer[]): number[] {
  return values.filter((value) => typeof value === "number").map((value) => value + 0);
}
