import { SeededRandom } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import { distance, type Matrix, rowOf } from "../lib/data.js";

/** Rows around which regions lie: a region is what is nearest to one of them. */
const regionCount = 10;

/** The five fields that the payloads have an index on. */
export const indexedFields: readonly [string, pb.PayloadIndexKind][] = [
  ["share", pb.PayloadIndexKind.INTEGER],
  ["region", pb.PayloadIndexKind.KEYWORD],
  ["year", pb.PayloadIndexKind.INTEGER],
  ["rating", pb.PayloadIndexKind.FLOAT],
  ["genre", pb.PayloadIndexKind.KEYWORD],
];

/** The payloads of the rows, by chance from a seed, but for the region, which follows from the vectors. */
export class Payloads {
  readonly #stored: Uint8Array[] = [];
  /** In 0..9 999 by chance: what is below 1 000 is a tenth of the rows, near to any query as others are. */
  readonly shares: Uint16Array;
  readonly regions: Uint8Array;
  readonly #pivots: Float32Array[];

  constructor(base: Matrix, seed: number) {
    const random = new SeededRandom(seed);
    this.#pivots = Array.from({ length: regionCount }, () => rowOf(base, Math.floor(random.float() * base.rowCount)));
    this.shares = new Uint16Array(base.rowCount);
    this.regions = new Uint8Array(base.rowCount);
    for (let row = 0; row < base.rowCount; row++) {
      const share = Math.floor(random.float() * 10_000);
      const region = this.nearestRegion(rowOf(base, row));
      this.shares[row] = share;
      this.regions[row] = region;
      const payload = {
        share,
        region: `region ${region}`,
        year: 1900 + Math.floor(random.float() * 125),
        rating: Math.floor(random.float() * 1_000_000) / 100_000 + 0.000_001,
        genre: `genre ${Math.floor(random.float() * 200)}`,
        title: `the story of row ${row}`,
      };
      this.#stored.push(Buffer.from(JSON.stringify(payload)));
    }
  }

  at(row: number): Uint8Array {
    return this.#stored[row] as Uint8Array;
  }

  nearestRegion(vector: Float32Array): number {
    return this.#region(vector, (a, b) => a < b);
  }

  /** The region whose middle is farthest from the vector. */
  farthestRegion(vector: Float32Array): number {
    return this.#region(vector, (a, b) => a > b);
  }

  #region(vector: Float32Array, isBetter: (a: number, b: number) => boolean): number {
    let best = 0;
    let bestDistance = distance("l2", vector, this.#pivots[0] as Float32Array);
    for (let region = 1; region < regionCount; region++) {
      const other = distance("l2", vector, this.#pivots[region] as Float32Array);
      if (!isBetter(other, bestDistance)) continue;
      best = region;
      bestDistance = other;
    }
    return best;
  }
}
