import { KithError } from "../base/index.js";
import { addHash, formatDigest, partHash, partSeed, pointHash } from "../hash/index.js";
import type { ipb } from "../wire/index.js";

/** A part of a point of a file. */
export interface PointPart {
  column: ipb.BackupColumn;
  /** Sequence of the record that wrote it. */
  version: number;
  bytes: Uint8Array;
}

/** Points that are worked on between two turns of the event loop: some milliseconds. */
const turnPoints = 512;

/** Calls `visit` for each point of a file, with its parts in order; gives way to others now and then. CORRUPT_DATA where columns do not fit. */
export async function forEachPoint(
  points: ipb.BackupPoints,
  visit: (row: number, parts: readonly PointPart[]) => void,
): Promise<void> {
  const { ids, versions, expiresAtMs, columns } = points;
  const count = ids.length;
  const cursors = columns.map((column) => new Cursor(column, versions, count));
  if (versions.length !== count || (expiresAtMs.length !== 0 && expiresAtMs.length !== count)) throw unfit();
  for (let row = 0; row < count; row++) {
    const parts: PointPart[] = [];
    for (const cursor of cursors) {
      const part = cursor.take(row);
      if (part !== undefined) parts.push(part);
    }
    visit(row, parts);
    if (row % turnPoints === turnPoints - 1) await new Promise<void>((resolve) => setImmediate(resolve));
  }
  for (const cursor of cursors) cursor.end();
}

/** Sum of the digests of the points of a file: what the replica had of them. */
export async function digestOf(points: ipb.BackupPoints): Promise<bigint> {
  const { ids, versions, expiresAtMs } = points;
  const seeds = new PartSeeds();
  const ghosts = new Map<number, ipb.BackupGhost[]>();
  for (const ghost of points.ghosts) ghosts.set(ghost.row, [...(ghosts.get(ghost.row) ?? []), ghost]);
  let digest = 0n;
  await forEachPoint(points, (row, parts) => {
    const hashes = parts.map((part) => ({ hash: seeds.hashOf(part, part.version) }));
    for (const { position, hash } of ghosts.get(row) ?? []) {
      hashes.splice(position, 0, { hash: Buffer.from(hash).readBigUInt64LE() });
    }
    const id = ids[row] as Uint8Array;
    digest = addHash(digest, pointHash(id, versions[row] as number, expiresAtMs[row] || undefined, hashes));
  });
  return digest;
}

/** Sum of the digests of points without their versions, which are another collection's own; of those that do not expire. */
export class ContentDigest {
  readonly #seeds = new PartSeeds();
  #sum: bigint;
  points: number;
  expiring: number;

  /** Goes on from what was summed up before. */
  constructor(
    before: { points: number; expiring: number; content: string } = { points: 0, expiring: 0, content: "0" },
  ) {
    this.#sum = BigInt(`0x${before.content}`);
    this.points = before.points;
    this.expiring = before.expiring;
  }

  /** `expiresAtMs`: 0 for a point that does not expire. */
  add(id: Uint8Array, expiresAtMs: number, parts: readonly PointPart[]): void {
    this.points++;
    if (expiresAtMs !== 0) {
      this.expiring++;
      return;
    }
    const hashes = parts.map((part) => ({ hash: this.#seeds.hashOf(part, 0) }));
    this.#sum = addHash(this.#sum, pointHash(id, 0, undefined, hashes));
  }

  get text(): string {
    return formatDigest(this.#sum);
  }
}

/** The seeds of parts: most points of a file have the version of many others. */
class PartSeeds {
  readonly #seeds = new Map<string, Map<number, bigint>>();

  hashOf({ column: { kind, name }, bytes }: PointPart, version: number): bigint {
    const key = `${kind} ${name}`;
    let ofColumn = this.#seeds.get(key);
    if (ofColumn === undefined) this.#seeds.set(key, (ofColumn = new Map<number, bigint>()));
    let seed = ofColumn.get(version);
    if (seed === undefined) ofColumn.set(version, (seed = partSeed(kind, name, version)));
    return partHash(seed, bytes);
  }
}

/** Walks one column beside the points. */
class Cursor {
  readonly #column: ipb.BackupColumn;
  readonly #versions: readonly number[];
  readonly #count: number;
  #at = 0;
  #offset = 0;

  constructor(column: ipb.BackupColumn, versions: readonly number[], pointCount: number) {
    this.#column = column;
    this.#versions = versions;
    this.#count = column.rows.length === 0 ? pointCount : column.rows.length;
    const { lengths, versions: own } = column;
    const isAligned = (list: readonly number[], other: number): boolean =>
      list.length === other || list.length === this.#count;
    if (!isAligned(lengths, 1) || !isAligned(own, 0)) throw unfit();
  }

  /** The part of the point; undefined where it has none. */
  take(row: number): PointPart | undefined {
    const { rows, versions, lengths, data } = this.#column;
    if (this.#at >= this.#count || (rows.length > 0 && rows[this.#at] !== row)) return undefined;
    const length = (lengths.length === 1 ? lengths[0] : lengths[this.#at]) ?? 0;
    const version = (versions.length === 0 ? this.#versions[row] : versions[this.#at]) ?? 0;
    const bytes = data.subarray(this.#offset, this.#offset + length);
    if (bytes.length !== length) throw unfit();
    this.#offset += length;
    this.#at++;
    return { column: this.#column, version, bytes };
  }

  end(): void {
    if (this.#at !== this.#count || this.#offset !== this.#column.data.length) throw unfit();
  }
}

function unfit(): KithError {
  return new KithError("CORRUPT_DATA", "a file of points has columns that do not fit its points");
}
