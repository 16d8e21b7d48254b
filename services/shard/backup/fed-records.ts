import { createHash } from "node:crypto";
import { KithError, limits } from "../../../libs/base/index.js";
import type { PointPart } from "../../../libs/backup/index.js";
import type { SlotRange } from "../../../libs/model/index.js";
import { hashSlotOf, slotTable } from "../../../libs/sharding/index.js";
import { encodeRecord, type ipb, pb } from "../../../libs/wire/index.js";

/** A record for the log of a shard. */
export interface FedRecord {
  shard: number;
  data: Uint8Array;
  messageId: string;
}

/** Kinds of parts, as in keys of the store. */
const kinds = { vector: 2, payload: 3, sparse: 5, multi: 7 } as const;

/** A vector field of the backup. */
export interface FedField {
  name: string;
  /** Missing for a sparse one. */
  dimension?: number;
}

/** Points of one shard that have vectors of the same fields. */
interface Group {
  shard: number;
  names: readonly string[];
  sparseNames: readonly string[];
  ids: Uint8Array[];
  /** Aligned with `names`. */
  matrices: Uint8Array[][];
  /** Aligned with `sparseNames`: the vectors of the points. */
  sparse: Uint8Array[][];
  /** Bytes of a row, where the field holds matrices; 0 where it holds single vectors. Aligned with `names`, too. */
  rowBytes: readonly number[];
  payloads: Uint8Array[];
  expiresAtMs: number[];
  bytes: number;
}

const none = new Uint8Array(0);
/** Of a point in a record, beside what it holds. */
const pointOverhead = 32;

/** Makes records of points: each goes to the shard that owns its hash slot now. */
export class FedRecords {
  readonly #shards: readonly (SlotRange & { shard: number })[];
  readonly #table: Uint16Array;
  readonly #epoch: number;
  /** Names operations, the same for every attempt. */
  readonly #key: string;
  readonly #groups = new Map<string, Group>();
  #count = 0;

  constructor(target: { epoch: number; shards: (SlotRange & { shard: number })[] }, key: string) {
    this.#shards = target.shards;
    this.#table = slotTable(target.shards);
    this.#epoch = target.epoch;
    this.#key = key;
  }

  /** `fieldOf`: the field of a vector; undefined for one that was dropped. Gives a record when one is full. */
  add(
    id: Uint8Array,
    expiresAtMs: number,
    parts: readonly PointPart[],
    fieldOf: (part: PointPart) => FedField | undefined,
    nowMs: number,
  ): FedRecord | undefined {
    const { shard } = this.#shards[this.#table[hashSlotOf(id)] as number] as { shard: number };
    const vectors: { name: string; bytes: Uint8Array; rowBytes: number }[] = [];
    const sparse: { name: string; bytes: Uint8Array }[] = [];
    let payload: Uint8Array = none;
    for (const part of parts) {
      const { kind } = part.column;
      if (kind === kinds.payload) payload = part.bytes;
      else if (kind === kinds.vector || kind === kinds.multi) {
        const field = fieldOf(part);
        if (field === undefined) continue;
        const rowBytes = kind === kinds.multi ? (field.dimension ?? 0) * 4 : 0;
        vectors.push({ name: field.name, bytes: part.bytes, rowBytes });
      } else if (kind === kinds.sparse) {
        const name = fieldOf(part)?.name;
        if (name !== undefined) sparse.push({ name, bytes: part.bytes });
      } else
        throw new KithError(
          "UNIMPLEMENTED",
          `the backup holds parts of the kind ${kind}, which this release does not restore`,
        );
    }
    const names = vectors.map(({ name }) => name);
    const sparseNames = sparse.map(({ name }) => name);
    const key = JSON.stringify([shard, names, sparseNames]);
    let group = this.#groups.get(key);
    const bare = id.length + payload.length + pointOverhead;
    const size = [...vectors, ...sparse].reduce((sum, { bytes }) => sum + bytes.length, bare);
    let full: FedRecord | undefined;
    if (group !== undefined && group.bytes + size > limits.recordBytes) {
      full = this.#record(group, nowMs);
      group = undefined;
    }
    if (group === undefined) {
      group = {
        ...{ shard, names, sparseNames, ids: [], payloads: [], expiresAtMs: [], bytes: 0 },
        matrices: names.map(() => []),
        rowBytes: vectors.map((vector) => vector.rowBytes),
        sparse: sparseNames.map(() => []),
      };
      this.#groups.set(key, group);
    }
    group.ids.push(id);
    for (const [i, { bytes }] of vectors.entries()) group.matrices[i]?.push(bytes);
    for (const [i, { bytes }] of sparse.entries()) group.sparse[i]?.push(bytes);
    group.payloads.push(payload);
    group.expiresAtMs.push(expiresAtMs);
    group.bytes += size;
    return full;
  }

  /** What is not in a record yet. */
  rest(nowMs: number): FedRecord[] {
    const records = Array.from(this.#groups.values(), (group) => this.#record(group, nowMs));
    this.#groups.clear();
    return records;
  }

  #record(group: Group, nowMs: number): FedRecord {
    const messageId = `${this.#key}-${this.#count++}`;
    const operationId = createHash("sha256").update(messageId).digest().subarray(0, 16);
    const operations = [{ operationId, traceparent: "", mutation: mutationOf(group) }];
    return {
      shard: group.shard,
      data: encodeRecord({ epoch: this.#epoch, appendedAtMs: nowMs, operations }),
      messageId,
    };
  }
}

function mutationOf(group: Group): NonNullable<ipb.Operation["mutation"]> {
  const { ids, names, sparseNames, rowBytes, expiresAtMs } = group;
  const vectors = names.map((name, i): pb.VectorColumn => {
    const matrices = group.matrices[i] ?? [];
    const bytes = rowBytes[i] ?? 0;
    const rows = bytes === 0 ? [] : matrices.map(({ length }) => length / bytes);
    return { name, matrix: Buffer.concat(matrices), rows };
  });
  const payloads = group.payloads.some(({ length }) => length > 0) ? group.payloads : [];
  const mode = pb.UpsertMode.UNSPECIFIED;
  const isPlain = sparseNames.length === 0 && expiresAtMs.every((each) => each === 0);
  if (isPlain) return { $case: "upsert", value: { mode, ids, vectors, payloads } };
  const sparse = sparseNames.map((name, i) => ({ name, vectors: group.sparse[i] ?? [] }));
  const target = { ids, filter: none, expectedVersions: [], onlyIf: none };
  return { $case: "put", value: { mode, target, vectors, sparse, payloads, expiresAtMs } };
}
