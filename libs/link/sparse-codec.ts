import type { SparseVector } from "../model/index.js";
import type { ShardHits, ShardIndexCounts, ShardIndices, ShardSparse } from "../shard-api/index.js";
import { type ByteReader, type ByteWriter, malformed } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";
import {
  readHits,
  readScope,
  readScorer,
  readSelect,
  readSparse,
  sparse,
  writeHits,
  writeScope,
  writeScorer,
  writeSelect,
  writeSparse,
} from "./scoped-codec.js";

/*
 * How reads of sparse fields cross: scope, selection and hits as in other reads of points.
 */

/** u32 length | that many u32 */
function writeNumbers(to: ByteWriter, numbers: readonly number[]): void {
  to.u32(numbers.length);
  for (const number of numbers) to.u32(number);
}

function readNumbers(from: ByteReader): number[] {
  const count = from.u32();
  if (count * 4 > from.left) throw malformed(`${count} numbers in ${from.left} bytes`);
  return Array.from({ length: count }, () => from.u32());
}

/** u64 min_sequence | field | indices; u64 sequence | u32 points | u32 for each index */
export const indicesCodec: LinkCodec<ShardIndices, ShardIndexCounts> = {
  type: 12,
  writeRequest: (to, { minSequence, field, indices }) => {
    to.u64(minSequence);
    to.text(field);
    writeNumbers(to, indices);
  },
  readRequest: (from) => ({ minSequence: from.u64(), field: from.text(), indices: readNumbers(from) }),
  writeAnswer: (to, { sequence, pointCount, counts }) => {
    to.u64(sequence);
    to.u32(pointCount);
    writeNumbers(to, counts);
  },
  readAnswer: (from) => ({ sequence: from.u64(), pointCount: from.u32(), counts: readNumbers(from) }),
};

const nothing: SparseVector = { indices: new Uint32Array(0), values: new Float32Array(0) };
const flag = { scorer: 1, exact: 2 } as const;

/** scope | field | u32 k | selection | u8 1: a scorer, 2: exact | vector, or scorer */
export const sparseCodec: LinkCodec<ShardSparse, ShardHits> = {
  type: 13,
  writeRequest: (to, request) => {
    writeScope(to, request);
    to.text(request.field);
    to.u32(request.k);
    writeSelect(to, request.select);
    const { scorer, exact } = request;
    to.u8((scorer === undefined ? 0 : flag.scorer) | (exact === true ? flag.exact : 0));
    if (scorer === undefined) writeSparse(to, request.vector);
    else writeScorer(to, sparse, scorer);
  },
  readRequest: (from) => {
    const scope = readScope(from);
    const [field, k, select, flags] = [from.text(), from.u32(), readSelect(from), from.u8()];
    const request = { ...scope, field, k, select, ...((flags & flag.exact) !== 0 && { exact: true }) };
    if ((flags & flag.scorer) === 0) return { ...request, vector: readSparse(from) };
    const scorer = readScorer(from, sparse);
    if (scorer.kind === "nearest") throw malformed("a scorer of one vector, which stands alone");
    return { ...request, vector: nothing, scorer };
  },
  writeAnswer: writeHits,
  readAnswer: readHits,
};
