import { KithError, limits } from "../base/index.js";
import type { ByteReader } from "./byte-reader.js";
import type { DatasetBatch, ReadDatasetOptions } from "./types.js";

/** Vectors of one batch take at most this many bytes as f32, so that long vectors do not make huge batches. */
export const batchMatrixBytes = 4 * 1024 * 1024;

type Element = "f32" | "f64" | "u8";
export const elementBytes: Record<Element, number> = { f32: 4, f64: 8, u8: 1 };

/** Rows of a batch of the given dimension. */
export function batchRowsFor(dimension: number, options: ReadDatasetOptions): number {
  const wanted = options.batchRows ?? 1000;
  return Math.max(1, Math.min(wanted, Math.floor(batchMatrixBytes / (dimension * 4))));
}

export function checkDimension(reader: ByteReader, dimension: number, offset: number, where: string): void {
  if (dimension >= 1 && dimension <= limits.dimensionMax) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${reader.name}, byte ${offset}: ${where} has dimension ${dimension}, outside of 1..${limits.dimensionMax}; is the format right?`,
    { details: { file: reader.name, offset, dimension } },
  );
}

/** Copies elements of a file, little-endian and at any alignment, to f32. */
export function decodeElements(element: Element, bytes: Uint8Array, out: Float32Array, at: number): void {
  if (element === "u8") {
    out.set(bytes, at);
    return;
  }
  const count = bytes.length / elementBytes[element];
  // A typed array can look at the bytes in place where they are aligned (every machine that Node runs on is little-endian).
  if (bytes.byteOffset % elementBytes[element] === 0) {
    const { buffer, byteOffset } = bytes;
    out.set(
      element === "f32" ? new Float32Array(buffer, byteOffset, count) : new Float64Array(buffer, byteOffset, count),
      at,
    );
    return;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < count; i++) {
    out[at + i] = element === "f32" ? view.getFloat32(i * 4, true) : view.getFloat64(i * 8, true);
  }
}

function batchOf(dimension: number, matrix: Float32Array, firstRow: number): DatasetBatch {
  const rowCount = matrix.length / dimension;
  return { rowCount, columns: [{ name: "", dimension, matrix }], firstRow, endRow: firstRow + rowCount };
}

/** fvecs and bvecs: each row is a little-endian int32 dimension and the elements. */
export async function* readVecs(
  reader: ByteReader,
  element: "f32" | "u8",
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const first = await reader.take(4, "a dimension");
  if (first === undefined) return;
  const dimension = new DataView(first.buffer).getInt32(0, true);
  checkDimension(reader, dimension, 0, "row 0");
  const dataBytes = dimension * elementBytes[element];
  const rowBytes = 4 + dataBytes;

  // The first dimension is taken already: what is read from here on are rows shifted by four bytes, [elements, next dimension].
  let row = 0;
  const skip = options.skipRows ?? 0;
  let pending = true;
  if (skip > 0) {
    const passed = await reader.skip(skip * rowBytes - 4);
    if (passed < skip * rowBytes - 4) {
      if ((passed + 4) % rowBytes !== 0) throw reader.truncated(rowBytes, (passed + 4) % rowBytes, "a row");
      return;
    }
    row = skip;
    pending = false;
  }
  const end = skip + (options.limitRows ?? Infinity);
  const maxRows = batchRowsFor(dimension, options);
  while (row < end) {
    const wanted = Math.min(maxRows, end - row);
    const bytes = await reader.takeUpTo(wanted * rowBytes - (pending ? 4 : 0));
    // The position of row r of this batch within `bytes`: the first one may have lost its dimension to the look ahead.
    const shift = pending ? -4 : 0;
    const available = bytes.length - shift;
    const rows = Math.floor(available / rowBytes);
    const matrix = new Float32Array(rows * dimension);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < rows; i++) {
      const at = i * rowBytes + shift;
      const got = at < 0 ? dimension : view.getInt32(at, true);
      if (got !== dimension) {
        const offset = reader.offset - bytes.length + at;
        throw new KithError(
          "DIMENSION_MISMATCH",
          `${reader.name}, byte ${offset}: row ${row + i} has dimension ${got}; the rows before have ${dimension}; the file is damaged or of another format`,
          { details: { file: reader.name, offset, row: row + i, expected: dimension, got } },
        );
      }
      decodeElements(element, bytes.subarray(at + 4, at + rowBytes), matrix, i * dimension);
    }
    if (rows > 0) yield batchOf(dimension, matrix, row);
    row += rows;
    const rest = available - rows * rowBytes;
    if (rest > 0) throw reader.truncated(rowBytes, rest, `row ${row}`);
    if (rows < wanted) return;
    pending = false;
  }
}

/** fbin and u8bin: a u32 row count and a u32 dimension, then the rows. */
export async function* readBin(
  reader: ByteReader,
  element: "f32" | "u8",
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const header = await reader.need(8, "a header (row count and dimension)");
  const view = new DataView(header.buffer);
  const rowCount = view.getUint32(0, true);
  const dimension = view.getUint32(4, true);
  checkDimension(reader, dimension, 4, "the header");
  yield* readMatrix(reader, element, rowCount, dimension, options);
}

/** `rowCount` rows of plain elements up to the end of the source. */
export async function* readMatrix(
  reader: ByteReader,
  element: Element,
  rowCount: number,
  dimension: number,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const rowBytes = dimension * elementBytes[element];
  let row = Math.min(options.skipRows ?? 0, rowCount);
  const passed = await reader.skip(row * rowBytes);
  if (passed < row * rowBytes)
    throw reader.truncated(rowBytes, passed % rowBytes, `row ${Math.floor(passed / rowBytes)}`);
  const end = Math.min(rowCount, row + (options.limitRows ?? Infinity));
  const maxRows = batchRowsFor(dimension, options);
  while (row < end) {
    const wanted = Math.min(maxRows, end - row);
    const bytes = await reader.takeUpTo(wanted * rowBytes);
    const rows = Math.floor(bytes.length / rowBytes);
    if (rows > 0) {
      const matrix = new Float32Array(rows * dimension);
      decodeElements(element, bytes.subarray(0, rows * rowBytes), matrix, 0);
      yield batchOf(dimension, matrix, row);
      row += rows;
    }
    if (rows < wanted) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `${reader.name} ends at byte ${reader.offset} within row ${row}; its header promises ${rowCount} rows of ${rowBytes} bytes; the file is truncated`,
        { details: { file: reader.name, offset: reader.offset, row, expectedRows: rowCount } },
      );
    }
  }
  if (end === rowCount && !(await reader.atEnd())) {
    throw reader.malformed(
      reader.offset,
      `bytes follow the ${rowCount} rows that the header promises; the file is damaged or of another format`,
    );
  }
}
