import { KithError } from "../../../libs/base/index.js";
import {
  type Collection,
  isSparse,
  type SparseField,
  sparseFieldOf,
  sparseOf,
  sparseToBytes,
} from "../../../libs/model/index.js";
import { bytesToFloats, type pb } from "../../../libs/wire/index.js";

/** Sparse vectors of one field for all points of a batch. */
export interface SparseBatchColumn {
  field: SparseField;
  /** One for each point, as they are stored. */
  vectors: Uint8Array[];
}

/** The vectors of points by name that are of sparse fields, in the order of their names. UNKNOWN_VECTOR, and what sparseOf refuses. */
export function sparseColumns(
  collection: Collection,
  names: readonly string[],
  points: readonly Pick<pb.Point, "vectors">[],
  where: (i: number) => string,
): SparseBatchColumn[] {
  return names
    .filter((name) => isSparse(collection, name))
    .map((name) => ({
      field: sparseFieldOf(collection, name),
      vectors: points.map(({ vectors }, i) => {
        const { indices = [], values = [] } = vectors[name] ?? {};
        return sparseToBytes(sparseOf(indices, values, () => where(i), name));
      }),
    }));
}

/** INVALID_ARGUMENT for a vector with indices that is of a dense field. */
export function refuseIndices({ indices }: pb.Vector, name: string, where: () => string): void {
  if (indices.length === 0) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${where()}: the vector "${name}" has indices, and its field is dense: give all values, without indices`,
    { details: { field: name } },
  );
}

/** The sparse columns of an UpsertColumnsRequest, for so many points. */
export function sparseColumnsOf(
  collection: Collection,
  columns: readonly pb.SparseVectorColumn[],
  count: number,
  rowAt: (row: number) => string,
): SparseBatchColumn[] {
  const names = new Set<string>();
  return columns.map(({ name, offsets, indices, values }) => {
    const field = sparseFieldOf(collection, name);
    if (names.has(name)) throw wrong(name, "stands twice in the request");
    names.add(name);
    for (const [what, bytes] of Object.entries({ offsets, indices, values })) {
      if (bytes.length % 4 !== 0) throw wrong(name, `has ${bytes.length} bytes of ${what}, which is no multiple of 4`);
    }
    const starts = toWords(offsets);
    const all = toWords(indices);
    const floats = bytesToFloats(values);
    if (starts.length !== count + 1) {
      throw wrong(name, `has ${starts.length} offsets for ${count} ids; give one more than there are ids`);
    }
    if (all.length !== floats.length) throw wrong(name, `has ${all.length} indices and ${floats.length} values`);
    if (
      starts[0] !== 0 ||
      starts[count] !== all.length ||
      starts.some((start, i) => i > 0 && start < before(starts, i))
    ) {
      throw wrong(name, "has offsets that do not ascend from 0 to the number of its entries");
    }
    const vectors = Array.from({ length: count }, (_, row) => {
      const [from, to] = [starts[row] as number, starts[row + 1] as number];
      return sparseToBytes(sparseOf(all.subarray(from, to), floats.subarray(from, to), () => rowAt(row), name));
    });
    return { field, vectors };
  });
}

function before(starts: Uint32Array, i: number): number {
  return starts[i - 1] as number;
}

function toWords(bytes: Uint8Array): Uint32Array {
  const floats = bytesToFloats(bytes);
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

function wrong(name: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `the sparse column "${name}" ${what}`, { details: { field: name } });
}
