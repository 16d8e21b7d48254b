import type { ShardHits, ShardIndexCounts, ShardIndices, ShardSparse } from "../shard-api/index.js";
import { type ByteReader, type ByteWriter, malformed } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";
import {
  readHits,
  readScope,
  readSelect,
  readSparse,
  writeHits,
  writeScope,
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

/** scope | field | u32 k | selection | vector */
export const sparseCodec: LinkCodec<ShardSparse, ShardHits> = {
  type: 13,
  writeRequest: (to, request) => {
    writeScope(to, request);
    to.text(request.field);
    to.u32(request.k);
    writeSelect(to, request.select);
    writeSparse(to, request.vector);
  },
  readRequest: (from) => ({
    ...readScope(from),
    field: from.text(),
    k: from.u32(),
    select: readSelect(from),
    vector: readSparse(from),
  }),
  writeAnswer: writeHits,
  readAnswer: readHits,
};
