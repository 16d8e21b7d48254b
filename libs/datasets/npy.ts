import { KithError } from "../base/index.js";
import { checkDimension, readMatrix } from "./binary.js";
import type { ByteReader } from "./byte-reader.js";
import type { DatasetBatch, ReadDatasetOptions } from "./types.js";

const magic = "\x93NUMPY";
/** Headers of two-dimensional arrays take about 128 bytes; this bounds what a damaged length can make us read. */
const headerMaxBytes = 64 * 1024;

const elements = {
  "<f4": "f32",
  "=f4": "f32",
  "<f8": "f64",
  "=f8": "f64",
  "|u1": "u8",
  "<u1": "u8",
  "=u1": "u8",
} as const;

/**
 * NumPy's .npy, format versions 1 to 3: a two-dimensional array of f4, f8 or u1, little-endian, in C order.
 * The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
export async function* readNpy(
  reader: ByteReader,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const start = await reader.need(8, "the start of an npy file");
  if (Buffer.from(start.subarray(0, 6)).toString("latin1") !== magic) {
    throw reader.malformed(0, "this is not an npy file: it does not begin with \\x93NUMPY");
  }
  const version = start[6] as number;
  if (version < 1 || version > 3) {
    throw reader.malformed(6, `npy format version ${version} is not known; 1, 2 and 3 are`);
  }
  const lengthBytes = version === 1 ? 2 : 4;
  const lengthField = await reader.need(lengthBytes, "the length of the npy header");
  const view = new DataView(lengthField.buffer);
  const headerBytes = version === 1 ? view.getUint16(0, true) : view.getUint32(0, true);
  if (headerBytes > headerMaxBytes) {
    throw reader.malformed(8, `the npy header has ${headerBytes} bytes; at most ${headerMaxBytes} are read`);
  }
  const header = Buffer.from(await reader.need(headerBytes, "the npy header")).toString("latin1");
  const { element, rowCount, dimension } = parseHeader(reader, header);
  yield* readMatrix(reader, element, rowCount, dimension, options);
}

function parseHeader(
  reader: ByteReader,
  header: string,
): { element: "f32" | "f64" | "u8"; rowCount: number; dimension: number } {
  const offset = 10;
  const descr = /'descr'\s*:\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(header)?.[1];
  const shapeText = /'shape'\s*:\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || order === undefined || shapeText === undefined) {
    throw reader.malformed(
      offset,
      `the npy header lacks descr, fortran_order or shape: ${header.slice(0, 120).trim()}`,
    );
  }
  if (!Object.hasOwn(elements, descr)) {
    throw unsupported(reader, `elements of type ${descr}; save it as float32: numpy.save(path, a.astype("<f4"))`);
  }
  if (order === "True") {
    throw unsupported(reader, "Fortran order; save it in C order: numpy.save(path, numpy.ascontiguousarray(a))");
  }
  const shape = shapeText
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  if (shape.length !== 2 || shape.some((part) => !/^\d+$/.test(part))) {
    throw unsupported(reader, `the shape (${shapeText}); a matrix of rows × dimension is needed`);
  }
  const [rowCount, dimension] = shape.map(Number) as [number, number];
  if (!Number.isSafeInteger(rowCount)) throw unsupported(reader, `${shape[0]} rows`);
  checkDimension(reader, dimension, offset, "the npy header");
  return { element: elements[descr as keyof typeof elements], rowCount, dimension };
}

function unsupported(reader: ByteReader, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${reader.name}: the npy file has ${what}`, {
    details: { file: reader.name, offset: 10 },
  });
}
