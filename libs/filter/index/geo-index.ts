import type { GeoPoint, JsonValue } from "../../model/index.js";
import { type GeoCondition, geoPointOf, geoTest } from "../geo.js";
import type { ValueCondition } from "../matches.js";
import { setBit, type Words } from "./bits.js";
import { F64Column, U32Column } from "./chunks.js";
import { EntryColumn } from "./entries.js";
import { cellOf, cellsOf } from "./geo-cells.js";
import { type KeyPacker, OrderedIndex } from "./ordered-index.js";
import { bytesOf, damaged, f64Of } from "./sections.js";
import type { Probe, Steps } from "./sorted-entries.js";
import type { Lookup, PayloadIndex } from "./types.js";

/** Points, in the order of their cells: 20 bytes a point and about 6 of order. Areas are decided exactly. */
export class GeoIndex extends OrderedIndex<GeoPoint> implements PayloadIndex {
  readonly kind = "geo";
  readonly #lats = new EntryColumn(() => new F64Column());
  readonly #lons = new EntryColumn(() => new F64Column());
  readonly #cells = new EntryColumn(() => new U32Column());

  protected get columnBytes(): number {
    return this.#lats.memoryBytes + this.#lons.memoryBytes + this.#cells.memoryBytes;
  }

  protected compare(a: number, b: number): number {
    return (
      this.#cells.get(a) - this.#cells.get(b) ||
      this.#lats.get(a) - this.#lats.get(b) ||
      this.#lons.get(a) - this.#lons.get(b)
    );
  }

  protected compareKey(entry: number, key: GeoPoint): number {
    return (
      this.#cells.get(entry) - cellOf(key.lat, key.lon) ||
      this.#lats.get(entry) - key.lat ||
      this.#lons.get(entry) - key.lon
    );
  }

  protected keyOf(entry: number): GeoPoint {
    return { lat: this.#lats.get(entry), lon: this.#lons.get(entry) };
  }

  protected setKey(entry: number, { lat, lon }: GeoPoint): void {
    this.#lats.set(entry, lat);
    this.#lons.set(entry, lon);
    this.#cells.set(entry, cellOf(lat, lon));
  }

  protected isOneOf(keys: readonly GeoPoint[]): (entry: number) => boolean {
    return (entry) => keys.some((key) => this.compareKey(entry, key) === 0);
  }

  protected keyFor(value: JsonValue): GeoPoint | "foreign" {
    return geoPointOf(value) ?? "foreign";
  }

  protected readonly keySections = 1;

  protected keyPacker(): KeyPacker {
    const found: number[] = [];
    return {
      add: (entry) => found.push(this.#lats.get(entry), this.#lons.get(entry)),
      *pack(positions): Steps<Uint8Array[]> {
        const degrees = new Float64Array(positions.length * 2);
        for (let i = 0; i < positions.length; i++) {
          const at = 2 * (positions[i] as number);
          degrees[2 * i] = found[at] as number;
          degrees[2 * i + 1] = found[at + 1] as number;
          if (i % keysPerStep === keysPerStep - 1) yield;
        }
        return [bytesOf(degrees)];
      },
    };
  }

  protected *unpackKeys([section]: readonly Uint8Array[], count: number): Steps<(i: number) => GeoPoint> {
    const degrees = f64Of(section as Uint8Array);
    if (degrees.length !== 2 * count) throw damaged(`has ${degrees.length / 2} points for ${count} slots`);
    yield;
    return (i) => ({ lat: degrees[2 * i] as number, lon: degrees[2 * i + 1] as number });
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    if (condition.kind !== "geoRadius" && condition.kind !== "geoBox" && condition.kind !== "geoPolygon")
      return undefined;
    return this.#area(condition);
  }

  #area(condition: GeoCondition): Lookup {
    const ranges = cellsOf(condition).map(({ first, last }): [Probe, Probe] => [
      (entry) => (this.#cells.get(entry) < first ? -1 : 1),
      (entry) => (this.#cells.get(entry) <= last ? -1 : 1),
    ]);
    const within = geoTest(condition);
    const isWithin = (entry: number): boolean => within(this.#lats.get(entry), this.#lons.get(entry));
    const mark = function* (this: GeoIndex, words: Words): Steps<void> {
      const end = words.length << 5;
      const visit = (run: Uint32Array, first: number, last: number): void => {
        for (let i = first; i < last; i++) {
          const entry = run[i] as number;
          if (!isWithin(entry)) continue;
          const slot = this.entries.slotOf(entry);
          if (slot < end) setBit(words, slot);
        }
      };
      for (const [from, to] of ranges) {
        yield* this.order.scan(from, to, (entry) => this.after(entry), visit, geoBlocksPerStep);
        yield;
      }
    };
    const sum = ranges.reduce((total, [from, to]) => total + this.countBetween(from, to), 0);
    return {
      estimate: sum,
      sure: true,
      mark: mark.bind(this),
      has: (slot) => this.entries.some(slot, isWithin),
    };
  }
}

/** Points that are stored in one step. */
const keysPerStep = 4_096;
/** The test of a point costs as much as that of ten numbers. */
const geoBlocksPerStep = 4;
