import { combineSimilarities, examplesOf } from "../../query/index.js";
import { matches, parseFilter, StoredFilterPoint } from "../../filter/index.js";
import {
  compareIds,
  type Filter,
  type IdKey,
  idMapKey,
  isJsonObject,
  type JsonObject,
  mergeIntoPayload,
  parseJson,
  parsePath,
  printJson,
  removeFromPayload,
  sparseDot,
  sparseFromBytes,
  type SparseScorer,
  type SparseVector,
} from "../../model/index.js";
import { partKind } from "../../storage/index.js";
import { filterFromWire, filterToWire, floatsToBytes, type ipb, pb } from "../../wire/index.js";
import { addHash, formatDigest, partHash, partSeed, pointHash } from "../../hash/index.js";
import { distanceOf } from "./exact-index.fixture.js";

type Mutation = NonNullable<ipb.Operation["mutation"]>;

interface Versioned<T> {
  version: number;
  value: T;
}

export interface ModelPoint {
  id: IdKey;
  version: number;
  /** JSON text; "" for none. */
  payload: Versioned<string>;
  vectors: Map<string, Versioned<Float32Array>>;
  /** As they are stored. */
  sparse: Map<string, Versioned<Uint8Array>>;
  expiresAtMs: number;
}

interface Outcome {
  affected: number;
  failures: { index: number; code: string }[];
}

/** The encoded form of a filter in its text. */
export function filterBytes(text: string): Uint8Array {
  return text === "" ? new Uint8Array(0) : pb.Filter.encode(filterToWire(parseFilter(text))).finish();
}

/** A shard's points in a Map: each operation is evaluated by itself, point by point. */
export class Model {
  readonly points = new Map<string, ModelPoint>();
  readonly done = new Map<string, Outcome>();
  sequence = 0;

  apply(operations: readonly ipb.Operation[], appendedAtMs: number): void {
    this.sequence++;
    for (const { operationId, mutation } of operations) {
      const key = idMapKey(operationId);
      if (this.done.has(key) || mutation === undefined) continue;
      this.done.set(key, this.#evaluate(mutation, appendedAtMs));
    }
  }

  sorted(): ModelPoint[] {
    return [...this.points.values()].sort((a, b) => compareIds(a.id, b.id));
  }

  nearest(name: string, vector: Float32Array, k: number): { id: string; version: number; payload: string }[] {
    const found = this.sorted().flatMap((point) => {
      const own = point.vectors.get(name)?.value;
      return own === undefined ? [] : [{ point, distance: Math.fround(distanceOf("l2", vector, own)) }];
    });
    // Sorted by id before, and sorting is stable: ties stay in order of id.
    found.sort((a, b) => a.distance - b.distance);
    return found.slice(0, k).map(({ point: { id, version, payload } }) => {
      return { id: idMapKey(id), version, payload: payload.value };
    });
  }

  /** All points with an index in common with the vector, the best first. */
  common(name: string, vector: SparseVector): { id: string; version: number; score: number }[] {
    const found = this.sorted().flatMap(({ id, version, sparse }) => {
      const bytes = sparse.get(name)?.value;
      const own = bytes && sparseFromBytes(bytes);
      if (own === undefined || !own.indices.some((index) => vector.indices.includes(index))) return [];
      return [{ id: idMapKey(id), version, score: Math.fround(sparseDot(own, vector)) + 0 }];
    });
    return found.sort((a, b) => b.score - a.score);
  }

  /** All points with a vector of the field, by a score of several products, the best first. */
  scored(name: string, scorer: SparseScorer): { id: string; version: number; score: number }[] {
    const found = this.sorted().flatMap(({ id, version, sparse }) => {
      const bytes = sparse.get(name)?.value;
      if (bytes === undefined) return [];
      const own = sparseFromBytes(bytes);
      const products = examplesOf(scorer).map((example) => Math.fround(sparseDot(example, own)));
      return [{ id: idMapKey(id), version, score: Math.fround(combineSimilarities(scorer, products)) + 0 }];
    });
    return found.sort((a, b) => b.score - a.score);
  }

  matching(filter: Filter): ModelPoint[] {
    return this.sorted().filter((point) => matches(filter, filterPoint(point)));
  }

  /** As docs/format.md says. */
  digest(): string {
    let digest = 0n;
    for (const { id, version, payload, vectors, sparse, expiresAtMs } of this.points.values()) {
      const hashes = [...vectors]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, part]) => {
          return { hash: partHash(partSeed(partKind.vector, name, part.version), floatsToBytes(part.value)) };
        });
      if (payload.value !== "") {
        hashes.push({ hash: partHash(partSeed(partKind.payload, "", payload.version), Buffer.from(payload.value)) });
      }
      for (const [name, part] of [...sparse].sort(([a], [b]) => (a < b ? -1 : 1))) {
        hashes.push({ hash: partHash(partSeed(partKind.sparse, name, part.version), part.value) });
      }
      digest = addHash(digest, pointHash(id, version, expiresAtMs || undefined, hashes));
    }
    return formatDigest(digest);
  }

  #evaluate(mutation: Mutation, nowMs: number): Outcome {
    if (mutation.$case === "changeSchema") throw new Error("the model knows no changes of the schema");
    if (mutation.$case === "restricted") throw new Error("the model knows no restricted writes");
    if (mutation.$case === "adopt") throw new Error("the model knows no points of other shards");
    if (mutation.$case === "seal") return { affected: 0, failures: [] };
    if (mutation.$case === "truncate") {
      const affected = [...this.points.values()].filter((point) => !isOver(point, nowMs)).length;
      this.points.clear();
      return { affected, failures: [] };
    }
    if (mutation.$case === "delete")
      return this.#each(mutation.value.ids, nowMs, (point, id) => this.#remove(id, point !== undefined));
    if (mutation.$case === "upsert") {
      const { mode, ids, vectors, payloads } = mutation.value;
      return this.#each(ids, nowMs, (point, id, index) => {
        return refusedBy(mode, point) ?? this.#put(id, index, vectors, [], payloads[index], 0);
      });
    }
    const { target } = mutation.value;
    const expected = target?.expectedVersions ?? [];
    const onlyIf = target === undefined || target.onlyIf.length === 0 ? undefined : decoded(target.onlyIf);
    const allowed = (point: ModelPoint | undefined, version: number, index: number): string | undefined => {
      if ((expected[index] ?? 0) !== 0 && expected[index] !== version) return "VERSION_MISMATCH";
      if (onlyIf !== undefined && (point === undefined || !matches(onlyIf, filterPoint(point))))
        return "CONDITION_FAILED";
      return undefined;
    };
    const ids = target?.ids ?? [];
    const byFilter = target !== undefined && target.filter.length > 0;
    const chosen = byFilter
      ? this.matching(decoded(target.filter))
          .filter((point) => !isOver(point, nowMs))
          .map(({ id }) => id)
      : ids;
    const outcome = this.#each(chosen, nowMs, (point, id, index) => {
      if (mutation.$case === "put") {
        const { mode, vectors, sparse, payloads, expiresAtMs } = mutation.value;
        const refused = refusedBy(mode, point) ?? allowed(point, point?.version ?? 0, index);
        return refused ?? this.#put(id, index, vectors, sparse, payloads[index], expiresAtMs[index] ?? 0);
      }
      if (mutation.$case === "remove") {
        const refused = allowed(point, this.points.get(idMapKey(id))?.version ?? 0, index);
        return refused ?? this.#remove(id, point !== undefined);
      }
      if (point === undefined) return "POINT_NOT_FOUND";
      const refused = allowed(point, point.version, index);
      if (refused !== undefined) return refused;
      this.#change(point, mutation, index);
      point.version = this.sequence;
      return undefined;
    });
    return byFilter ? { affected: outcome.affected, failures: [] } : outcome;
  }

  #change(point: ModelPoint, mutation: Mutation, index: number): void {
    const version = this.sequence;
    switch (mutation.$case) {
      case "setPayload": {
        const payload = objectOf(point.payload.value);
        const { path, payload: values } = mutation.value;
        mergeIntoPayload(payload, path === "" ? undefined : parsePath(path), objectOf(Buffer.from(values).toString()));
        point.payload = { version, value: textOf(payload) };
        return;
      }
      case "overwritePayload":
        point.payload = { version, value: Buffer.from(mutation.value.payload).toString() };
        return;
      case "deletePayload": {
        const payload = objectOf(point.payload.value);
        for (const path of mutation.value.paths) removeFromPayload(payload, parsePath(path));
        point.payload = { version, value: textOf(payload) };
        return;
      }
      case "clearPayload":
        point.payload = { version, value: "" };
        return;
      case "updateVectors":
        for (const [name, value] of rowsOf(mutation.value.vectors, index)) point.vectors.set(name, { version, value });
        for (const [name, value] of sparseRowsOf(mutation.value.sparse, index))
          point.sparse.set(name, { version, value });
        return;
      case "deleteVectors":
        for (const name of mutation.value.fields) {
          point.vectors.delete(name);
          point.sparse.delete(name);
        }
        return;
      case "setExpiry":
        point.expiresAtMs = mutation.value.expiresAtMs;
        return;
      default:
        throw new Error(`the model does not know ${mutation.$case}`);
    }
  }

  #each(
    ids: readonly IdKey[],
    nowMs: number,
    write: (point: ModelPoint | undefined, id: IdKey, index: number) => string | undefined,
  ): Outcome {
    const outcome: Outcome = { affected: 0, failures: [] };
    for (const [index, id] of ids.entries()) {
      const stored = this.points.get(idMapKey(id));
      const point = stored !== undefined && isOver(stored, nowMs) ? undefined : stored;
      const code = write(point, id, index);
      if (code === "nothing") continue;
      if (code === undefined) outcome.affected++;
      else outcome.failures.push({ index, code });
    }
    return outcome;
  }

  #remove(id: IdKey, isThere: boolean): string | undefined {
    this.points.delete(idMapKey(id));
    return isThere ? undefined : "nothing";
  }

  #put(
    id: IdKey,
    index: number,
    columns: readonly pb.VectorColumn[],
    sparseColumns: readonly ipb.SparseColumn[],
    payload: Uint8Array | undefined,
    expiresAtMs: number,
  ): undefined {
    const version = this.sequence;
    const vectors = rowsOf(columns, index).map(([name, value]): [string, Versioned<Float32Array>] => {
      return [name, { version, value }];
    });
    const text = Buffer.from(payload ?? []).toString();
    this.points.set(idMapKey(id), {
      id,
      version,
      payload: { version, value: text },
      vectors: new Map(vectors),
      sparse: new Map(sparseRowsOf(sparseColumns, index).map(([name, value]) => [name, { version, value }])),
      expiresAtMs,
    });
  }
}

function isOver({ expiresAtMs }: ModelPoint, nowMs: number): boolean {
  return expiresAtMs !== 0 && expiresAtMs <= nowMs;
}

function refusedBy(mode: pb.UpsertMode, point: ModelPoint | undefined): string | undefined {
  if (mode === pb.UpsertMode.INSERT_ONLY && point !== undefined) return "POINT_EXISTS";
  return mode === pb.UpsertMode.UPDATE_ONLY && point === undefined ? "POINT_NOT_FOUND" : undefined;
}

/** Vectors of two dimensions. */
function rowsOf(columns: readonly pb.VectorColumn[], index: number): [string, Float32Array][] {
  return columns.map(({ name, matrix }) => {
    const bytes = Uint8Array.from(matrix).slice(index * 8, index * 8 + 8);
    return [name, new Float32Array(bytes.buffer)];
  });
}

function sparseRowsOf(columns: readonly ipb.SparseColumn[], index: number): [string, Uint8Array][] {
  return columns.map(({ name, vectors }) => [name, Uint8Array.from(vectors[index] ?? [])]);
}

function filterPoint({ id, payload, vectors, sparse }: ModelPoint): StoredFilterPoint {
  const has = (name: string): boolean => vectors.has(name) || sparse.has(name);
  return new StoredFilterPoint(id, Buffer.from(payload.value), { has });
}

function decoded(bytes: Uint8Array): Filter {
  return filterFromWire(pb.Filter.decode(bytes));
}

function objectOf(text: string): JsonObject {
  const value = text === "" ? {} : parseJson(text);
  if (!isJsonObject(value)) throw new Error(`${text} is no object`);
  return value;
}

function textOf(payload: JsonObject): string {
  return Object.keys(payload).length === 0 ? "" : printJson(payload);
}
