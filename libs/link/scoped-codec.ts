import { filterFromJson, filterToJson, validateFilter } from "../filter/index.js";
import {
  type Filter,
  type Hit,
  type IdKey,
  isIdKey,
  parseJson,
  printJson,
  type PairOf,
  type ScorerOf,
  type Select,
  sparseFromBytes,
  sparseToBytes,
  type SparseVector,
} from "../model/index.js";
import type {
  OrderPlace,
  ReadExplain,
  ShardFacet,
  ShardFacets,
  ShardHits,
  ShardOrder,
  ShardSample,
  ShardScope,
  ShardSearch,
} from "../shard-api/index.js";
import { bytesToFloats, floatsToBytes } from "../wire/index.js";
import { type ByteReader, type ByteWriter, malformed } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";

/*
 * How reads of those points cross that pass a filter or are named. Filters cross in their JSON form, which is what shards know a
 * filter again by; vectors and columns as in queries (codec.ts).
 */

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The JSON form; "" for none. */
export function filterToText(filter: Filter | undefined): string {
  return filter === undefined ? "" : printJson(filterToJson(filter));
}

export function filterFromText(text: string): Filter | undefined {
  if (text === "") return undefined;
  const filter = filterFromJson(parseJson(text));
  validateFilter(filter);
  return filter;
}

/** u32 length | JSON; length 0: none. */
export function writeFilter(to: ByteWriter, filter: Filter | undefined): void {
  const bytes = filter === undefined ? noBytes : Buffer.from(filterToText(filter));
  to.u32(bytes.length);
  to.bytes(bytes);
}

export function readFilter(from: ByteReader): Filter | undefined {
  return filterFromText(utf8.decode(from.bytes(from.u32())));
}

/** ShardScope: u64 min_sequence | filter | u8 1: ids are named, 2: explain | ids | ids that are left out */
export function writeScope(to: ByteWriter, { minSequence, filter, ids, exclude, explain }: ShardScope): void {
  to.u64(minSequence);
  writeFilter(to, filter);
  to.u8((ids === undefined ? 0 : 1) | (explain === true ? 2 : 0));
  if (ids !== undefined) writeIds(to, ids);
  writeIds(to, exclude);
}

export function readScope(from: ByteReader): ShardScope {
  const minSequence = from.u64();
  const filter = readFilter(from);
  const flags = from.u8();
  const ids = (flags & 1) === 0 ? undefined : readIds(from);
  return { minSequence, filter, ids, exclude: readIds(from), ...((flags & 2) !== 0 && { explain: true }) };
}

/** The JSON form; "" for none. */
export function explainToText(explain: ReadExplain | undefined): string {
  return explain === undefined ? "" : JSON.stringify(explain);
}

/** To be spread into an answer. Nodes of one version of the link wrote it, and nothing is decided by it. */
export function explainFromText(text: string): { explain?: ReadExplain } {
  return text === "" ? {} : { explain: JSON.parse(text) as ReadExplain };
}

/** u32 length | JSON; length 0: none. */
export function writeExplain(to: ByteWriter, explain: ReadExplain | undefined): void {
  const bytes = Buffer.from(explainToText(explain));
  to.u32(bytes.length);
  to.bytes(bytes);
}

export function readExplain(from: ByteReader): { explain?: ReadExplain } {
  return explainFromText(utf8.decode(from.bytes(from.u32())));
}

function writeIds(to: ByteWriter, ids: readonly IdKey[]): void {
  to.u32(ids.length);
  for (const id of ids) {
    to.u16(id.length);
    to.bytes(id);
  }
}

function readIds(from: ByteReader): IdKey[] {
  return list(from, () => {
    const id = from.bytes(from.u16());
    if (!isIdKey(id)) throw malformed(`${id.length} bytes are not the key form of an id`);
    return id;
  });
}

/** u32 count, which cannot be more than there are bytes. */
function list<T>(from: ByteReader, read: () => T): T[] {
  const count = from.u32();
  if (count > from.left) throw malformed(`${count} items in ${from.left} bytes`);
  return Array.from({ length: count }, read);
}

/** u8 1: payload, 2: all vectors | u8 n | n names */
export function writeSelect(to: ByteWriter, { payload, vectors }: Select): void {
  to.u8((payload ? 1 : 0) | (vectors === "all" ? 2 : 0));
  const names = vectors === "all" ? [] : vectors;
  to.u8(names.length);
  for (const name of names) to.text(name);
}

export function readSelect(from: ByteReader): Select {
  const flags = from.u8();
  const names = Array.from({ length: from.u8() }, () => from.text());
  return { payload: (flags & 1) !== 0, vectors: (flags & 2) !== 0 ? "all" : names };
}

function writeVector(to: ByteWriter, vector: Float32Array): void {
  to.align();
  to.u32(vector.length);
  to.bytes(floatsToBytes(vector));
}

function readVector(from: ByteReader): Float32Array {
  from.align();
  return bytesToFloats(from.bytes(4 * from.u32()));
}

/** u32 entries | bytes as they are stored */
export function writeSparse(to: ByteWriter, vector: SparseVector): void {
  to.u32(vector.indices.length);
  to.bytes(sparseToBytes(vector));
}

export function readSparse(from: ByteReader): SparseVector {
  return sparseFromBytes(from.bytes(8 * from.u32()));
}

/** u8 count | of each: name, vector */
export function writeSparseVectors(to: ByteWriter, vectors: ReadonlyMap<string, SparseVector>): void {
  to.u8(vectors.size);
  for (const [name, vector] of vectors) {
    to.text(name);
    writeSparse(to, vector);
  }
}

export function readSparseVectors(from: ByteReader): Map<string, SparseVector> {
  return new Map(Array.from({ length: from.u8() }, () => [from.text(), readSparse(from)]));
}

const scorers = ["nearest", "bestScore", "sumScores", "discover", "context", "weighted"] as const;

/** How one vector of a scorer crosses. */
interface VectorCodec<V> {
  readonly write: (to: ByteWriter, vector: V) => void;
  readonly read: (from: ByteReader) => V;
}

const dense: VectorCodec<Float32Array> = { write: writeVector, read: readVector };
export const sparse: VectorCodec<SparseVector> = { write: writeSparse, read: readSparse };

function writeVectors<V>(to: ByteWriter, { write }: VectorCodec<V>, vectors: readonly V[]): void {
  to.u32(vectors.length);
  for (const vector of vectors) write(to, vector);
}

function writePairs<V>(to: ByteWriter, codec: VectorCodec<V>, pairs: readonly PairOf<V>[]): void {
  writeVectors(
    to,
    codec,
    pairs.flatMap(({ positive, negative }) => [positive, negative]),
  );
}

function readPairs<V>(from: ByteReader, { read }: VectorCodec<V>): PairOf<V>[] {
  const vectors = list(from, () => read(from));
  if (vectors.length % 2 !== 0) throw malformed(`${vectors.length} vectors are no pairs`);
  return Array.from({ length: vectors.length / 2 }, (_, i) => ({
    positive: vectors[2 * i] as V,
    negative: vectors[2 * i + 1] as V,
  }));
}

/** u8 kind | its vectors; numbers that these count are f64 as text */
export function writeScorer<V>(to: ByteWriter, codec: VectorCodec<V>, scorer: ScorerOf<V>): void {
  to.u8(scorers.indexOf(scorer.kind));
  switch (scorer.kind) {
    case "nearest":
      return codec.write(to, scorer.vector);
    case "bestScore":
    case "sumScores":
      writeVectors(to, codec, scorer.positive);
      return writeVectors(to, codec, scorer.negative);
    case "discover":
      codec.write(to, scorer.target);
      return writePairs(to, codec, scorer.pairs);
    case "context":
      return writePairs(to, codec, scorer.pairs);
    case "weighted":
      to.u32(scorer.examples.length);
      for (const { vector, weight } of scorer.examples) {
        to.text(String(weight));
        codec.write(to, vector);
      }
  }
}

export function readScorer<V>(from: ByteReader, codec: VectorCodec<V>): ScorerOf<V> {
  const kind = scorers[from.u8()];
  if (kind === undefined) throw malformed("a score of an unknown kind");
  const readList = (): V[] => list(from, () => codec.read(from));
  switch (kind) {
    case "nearest":
      return { kind, vector: codec.read(from) };
    case "bestScore":
    case "sumScores": {
      const positive = readList();
      return { kind, positive, negative: readList() };
    }
    case "discover":
      return { kind, target: codec.read(from), pairs: readPairs(from, codec) };
    case "context":
      return { kind, pairs: readPairs(from, codec) };
    case "weighted":
      return { kind, examples: list(from, () => ({ weight: Number(from.text()), vector: codec.read(from) })) };
  }
}

/**
 * u64 sequence | of each hit: id, f32 score, u64 version, u8 1: order 2: vectors 4: sparse ones, [f64 order as text], payload, [vectors],
 * [sparse vectors] | explain
 */
export function writeHits(to: ByteWriter, { hits, sequence, explain }: ShardHits): void {
  to.u64(sequence);
  to.u32(hits.length);
  for (const { id, score, version, payload, vectors, sparse, order } of hits) {
    to.u16(id.length);
    to.bytes(id);
    to.f32(score);
    to.u64(version);
    to.u8((order === undefined ? 0 : 1) | (vectors === undefined ? 0 : 2) | (sparse === undefined ? 0 : 4));
    if (order !== undefined) to.text(String(order));
    to.u32(payload.length);
    to.bytes(payload);
    if (vectors !== undefined) {
      to.u8(vectors.size);
      for (const [name, vector] of vectors) {
        to.text(name);
        writeVector(to, vector);
      }
    }
    if (sparse !== undefined) writeSparseVectors(to, sparse);
  }
  writeExplain(to, explain);
}

export function readHits(from: ByteReader): ShardHits {
  const sequence = from.u64();
  const hits = list(from, (): Hit => {
    const id = from.bytes(from.u16());
    if (!isIdKey(id)) throw malformed(`${id.length} bytes are not the key form of an id`);
    const hit: Hit = { id, score: from.f32(), version: from.u64(), payload: noBytes };
    const flags = from.u8();
    if ((flags & 1) !== 0) hit.order = Number(from.text());
    hit.payload = from.bytes(from.u32());
    if ((flags & 2) !== 0) {
      hit.vectors = new Map(Array.from({ length: from.u8() }, () => [from.text(), readVector(from)]));
    }
    if ((flags & 4) !== 0) hit.sparse = readSparseVectors(from);
    return hit;
  });
  return { hits, sequence, ...readExplain(from) };
}

const searchFlag = { exact: 1, scored: 2, recall: 4 } as const;

export const searchCodec: LinkCodec<ShardSearch, ShardHits> = {
  type: 5,
  writeRequest: (to, request) => {
    writeScope(to, request);
    to.text(request.field);
    to.u32(request.k);
    to.u32(request.ef);
    const depth = (request.exact ? searchFlag.exact : 0) | (request.scored === undefined ? 0 : searchFlag.scored);
    to.u8(depth | (request.recallTarget === undefined ? 0 : searchFlag.recall));
    if (request.scored !== undefined) to.u32(request.scored);
    if (request.recallTarget !== undefined) to.text(String(request.recallTarget));
    writeSelect(to, request.select);
    writeScorer(to, dense, request.scorer);
  },
  readRequest: (from) => {
    const scope = readScope(from);
    const [field, k, ef, flags] = [from.text(), from.u32(), from.u32(), from.u8()];
    const scored = (flags & searchFlag.scored) === 0 ? undefined : from.u32();
    const recallTarget = (flags & searchFlag.recall) === 0 ? undefined : Number(from.text());
    const exact = (flags & searchFlag.exact) !== 0;
    const select = readSelect(from);
    const scorer = readScorer(from, dense);
    return { ...scope, field, k, ef, exact, scored, recallTarget, select, scorer };
  },
  writeAnswer: writeHits,
  readAnswer: readHits,
};

export const orderCodec: LinkCodec<ShardOrder, ShardHits> = {
  type: 6,
  writeRequest: (to, request) => {
    writeScope(to, request);
    const { key, direction, startFrom } = request.orderBy;
    to.text(key);
    to.u8(direction === "ascending" ? 0 : 1);
    to.text(startFrom === undefined ? "" : String(startFrom));
    const { after } = request;
    to.u8(after === undefined ? 0 : 1);
    if (after !== undefined) {
      to.text(String(after.value));
      writeIds(to, [after.id]);
    }
    to.u32(request.limit);
    writeSelect(to, request.select);
  },
  readRequest: (from) => {
    const scope = readScope(from);
    const key = from.text();
    const direction = from.u8() === 0 ? "ascending" : "descending";
    const start = from.text();
    const orderBy = { key, direction, ...(start !== "" && { startFrom: Number(start) }) } as const;
    const after = from.u8() === 0 ? {} : { after: readPlace(from) };
    return { ...scope, orderBy, ...after, limit: from.u32(), select: readSelect(from) };
  },
  writeAnswer: writeHits,
  readAnswer: readHits,
};

function readPlace(from: ByteReader): OrderPlace {
  const value = Number(from.text());
  const [id] = readIds(from);
  if (id === undefined) throw malformed("a place in an order without an id");
  return { value, id };
}

export const sampleCodec: LinkCodec<ShardSample, ShardHits> = {
  type: 7,
  writeRequest: (to, request) => {
    writeScope(to, request);
    to.u32(request.limit);
    writeSelect(to, request.select);
  },
  readRequest: (from) => ({ ...readScope(from), limit: from.u32(), select: readSelect(from) }),
  writeAnswer: writeHits,
  readAnswer: readHits,
};

/** Values cross as JSON: u64 sequence | u32 length | list of [value, count] | explain */
export const facetCodec: LinkCodec<ShardFacet, ShardFacets> = {
  type: 8,
  isBulk: true,
  writeRequest: (to, request) => {
    writeScope(to, request);
    to.text(request.key);
    to.u8(request.approximate === true ? 1 : 0);
  },
  readRequest: (from) => ({
    ...readScope(from),
    key: from.text(),
    ...(from.u8() === 1 && { approximate: true }),
  }),
  writeAnswer: (to, { counts, sequence, explain }) => {
    const bytes = Buffer.from(printJson(counts.map(({ value, count }) => [value, count])));
    to.u64(sequence);
    to.u32(bytes.length);
    to.bytes(bytes);
    writeExplain(to, explain);
  },
  readAnswer: (from) => {
    const sequence = from.u64();
    const pairs = parseJson(utf8.decode(from.bytes(from.u32())));
    if (!Array.isArray(pairs)) throw malformed("facets that are no list");
    const counts = pairs.map((pair): ShardFacets["counts"][number] => {
      const [value, count] = Array.isArray(pair) ? pair : [];
      const isValue = ["string", "number", "bigint", "boolean"].includes(typeof value);
      if (!isValue || typeof count !== "number") throw malformed("a facet without value and count");
      return { value: value as string | number | bigint | boolean, count };
    });
    return { counts, sequence, ...readExplain(from) };
  },
};

const noBytes = new Uint8Array(0);
