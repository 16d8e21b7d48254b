import { createWriteStream } from "node:fs";
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { FileMetaData, ParquetParsers, RowGroup } from "hyparquet";
import { abortReason, KithError } from "../base/index.js";
import { type ByteReader, openSource } from "./byte-reader.js";
import { checkPages } from "./parquet-pages.js";
import {
  type DataRecord,
  exactNumber,
  expiryOf,
  type Fail,
  failAt,
  type Fields,
  fieldsOf,
  isObject,
  kindOf,
  RecordBatches,
  type RecordFields,
  surplusFields,
  vectorsOf,
} from "./records.js";
import type { Dataset, DatasetBatch, DatasetPayload, DatasetSource, ReadDatasetOptions } from "./types.js";

/** Rows are read by group, unless the file has an index of its pages; decoded, a group takes about three times of its bytes in memory. */
const groupMaxBytes = 512 * 1024 * 1024;
/** Of a group whose pages have an index. */
const sliceRows = 4_096;

const magic = Buffer.from("PAR1");
const emptyFile = "the file is empty, and a Parquet file never is";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** JSON that is text already. */
class JsonText {
  constructor(readonly json: string) {}
}

/** Times as text, since a Date has milliseconds only. */
const parsers: Partial<ParquetParsers> = {
  timestampFromMilliseconds: (ms: bigint) => utc(ms, 3),
  timestampFromMicroseconds: (us: bigint) => utc(us, 6),
  timestampFromNanoseconds: (ns: bigint) => utc(ns, 9),
  dateFromDays: (days: number) => new Date(days * 86_400_000).toISOString().slice(0, 10),
  stringFromBytes: (bytes: Uint8Array | undefined) => bytes && decoder.decode(bytes),
  jsonFromBytes: (bytes: Uint8Array | undefined) => bytes && new JsonText(decoder.decode(bytes)),
};

/** A count of 10^-digits seconds since the Unix epoch in RFC 3339. */
function utc(count: bigint | undefined, digits: number): string | undefined {
  if (count === undefined || count === null) return undefined;
  const perSecond = 10n ** BigInt(digits);
  const fraction = ((count % perSecond) + perSecond) % perSecond;
  const seconds = (count - fraction) / perSecond;
  const head = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return `${head}.${fraction.toString().padStart(digits, "0")}Z`;
}

/**
 * Parquet, with columns as the fields of JSON lines: an id, "vector" as a list of numbers or "vectors" as a struct of such, and either "payload" (a struct,
 * a map or JSON) or others. What is compressed as a whole, and a stream, is put into a temporary file first: the table of contents stands at the end.
 */
export async function openParquet(source: DatasetSource, options: ReadDatasetOptions): Promise<Dataset> {
  const given = await openSource(source, { ...options, mayBeGzip: true });
  const { name } = given.reader;
  const isFile = typeof source === "string" && !source.endsWith(".gz");
  const folder = isFile ? undefined : await mkdtemp(join(tmpdir(), "kith-parquet-"));
  let file: FileHandle | undefined;
  const close = async (): Promise<void> => {
    await file?.close();
    file = undefined;
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  };
  try {
    const path = folder === undefined ? (source as string) : join(folder, "data.parquet");
    if (folder !== undefined) await pipeline(parquetOf(given.reader), createWriteStream(path));
    await given.reader.close();
    file = await open(path, "r");
    const { size } = await stat(path);
    const table = new ParquetTable(name, file, size);
    let readShare = 0;
    return {
      format: "parquet",
      name,
      sizeBytes: isFile ? size : undefined,
      bytesRead: () => size * readShare,
      batches: async function* () {
        try {
          yield* readTable(table, options, (share) => (readShare = share));
        } finally {
          await close();
        }
      },
      close,
    };
  } catch (error) {
    await given.reader.close();
    await close();
    throw error;
  }
}

/** All of it, if it begins as Parquet does: what unpacks to something else fills no disk. */
async function* parquetOf(reader: ByteReader): AsyncGenerator<Uint8Array, void, undefined> {
  const head = await reader.takeUpTo(magic.length);
  if (head.length === 0) throw reader.malformed(0, emptyFile);
  if (!magic.equals(head)) throw reader.malformed(0, `this is not a whole Parquet file, which begins with "PAR1"`);
  yield head;
  yield* reader.rest();
}

async function* readTable(
  table: ParquetTable,
  options: ReadDatasetOptions,
  onRead: (share: number) => void,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const fields = fieldsOf(options);
  const batches = new RecordBatches(table.name, "row", options);
  const { columns, rowCount } = await table.head();
  if (!columns.includes(fields.vector) && !columns.includes("vectors")) {
    const known = columns.slice(0, 12).map((column) => `"${column}"`);
    throw table.failure(
      `it has no column "${fields.vector}" and no "vectors", but ${known.join(", ")}; name the column of the vector if it is another`,
    );
  }
  const skip = Math.min(options.skipRows ?? 0, rowCount);
  const end = Math.min(skip + (options.limitRows ?? Infinity), rowCount);
  batches.startAt(skip);
  let row = skip;
  for await (const rows of table.rows(skip, end)) {
    for (const values of rows) {
      if (options.signal?.aborted) throw abortReason(options.signal);
      const at = row++;
      const fail = failAt(table.name, "row", at);
      yield* batches.take(
        at,
        () => recordOf(at, columns, values, fields, fail),
        () => jsonOf(values) ?? "",
      );
    }
    onRead(row / Math.max(1, rowCount));
  }
  yield* batches.end(row);
}

class ParquetTable {
  #metadata: FileMetaData | undefined;

  constructor(
    readonly name: string,
    private readonly file: FileHandle,
    private readonly sizeBytes: number,
  ) {}

  failure(message: string, cause?: unknown): KithError {
    return new KithError("INVALID_ARGUMENT", `${this.name}: ${message}`, { details: { file: this.name }, cause });
  }

  async head(): Promise<{ columns: string[]; rowCount: number }> {
    if (this.sizeBytes === 0) throw this.failure(emptyFile);
    const { parquetMetadataAsync, parquetSchema } = await import("hyparquet");
    try {
      this.#metadata = await parquetMetadataAsync(this.#buffer);
    } catch (cause) {
      throw this.failure(`this is not a whole Parquet file: ${(cause as Error).message}`, cause);
    }
    const { children } = parquetSchema(this.#metadata);
    return { columns: children.map(({ element }) => element.name), rowCount: Number(this.#metadata.num_rows) };
  }

  /** Rows from `start` up to `end`, as the values of their columns, in runs that fit into memory. */
  async *rows(start: number, end: number): AsyncGenerator<unknown[][], void, undefined> {
    let first = 0;
    for (const [index, group] of (this.#metadata?.row_groups ?? []).entries()) {
      const next = first + Number(group.num_rows);
      const from = Math.max(start, first);
      const to = Math.min(end, next);
      first = next;
      if (from >= to) continue;
      const step = this.#stepOf(group, index);
      // A group of fewer rows is read as a whole.
      const isSliced = step === sliceRows && Number(group.num_rows) > sliceRows;
      await this.#check(group, from, Math.min(to - from, step), isSliced);
      for (let at = from; at < to; at += step) yield await this.#read(at, Math.min(to, at + step));
    }
  }

  #stepOf(group: RowGroup, index: number): number {
    if (group.columns.every(({ offset_index_offset: offset }) => offset !== undefined)) return sliceRows;
    if (Number(group.total_byte_size) <= groupMaxBytes) return Number.MAX_SAFE_INTEGER;
    throw this.failure(
      `row group ${index} has ${group.total_byte_size} bytes, and at most ${groupMaxBytes} are read at once; write the file with smaller row groups (pyarrow: row_group_size=10000) or with an index of its pages (write_page_index=True)`,
    );
  }

  /** What the group names is looked at before any of it is unpacked. */
  async #check(group: RowGroup, rowStart: number, rows: number, isSliced: boolean): Promise<void> {
    const slice = isSliced ? sliceRows : undefined;
    const bounds = { unpackedMaxBytes: groupMaxBytes, sizeBytes: this.sizeBytes, sliceRows: slice };
    try {
      await checkPages(this.file, group, rows, bounds);
    } catch (cause) {
      throw this.failure(
        `the row group of row ${rowStart} cannot be read: ${(cause as Error).message}; write the file with smaller row groups if it is whole`,
        cause,
      );
    }
  }

  async #read(rowStart: number, rowEnd: number): Promise<unknown[][]> {
    const { parquetRead } = await import("hyparquet");
    const { compressors, decompressZstd } = await import("hyparquet-compressors");
    // Into what the page names, which was looked at: by itself it takes what the frames say.
    const ZSTD = (input: Uint8Array, length: number): Uint8Array => decompressZstd(input, new Uint8Array(length));
    let rows: unknown[][] = [];
    try {
      await parquetRead({
        file: this.#buffer,
        ...(this.#metadata && { metadata: this.#metadata }),
        compressors: { ...compressors, ZSTD },
        parsers,
        rowStart,
        rowEnd,
        useOffsetIndex: true,
        // Bytes that nobody has called text are looked at below.
        utf8: false,
        geoparquet: false,
        onComplete: (read: unknown[][]) => (rows = read),
      });
    } catch (cause) {
      throw this.failure(`rows ${rowStart} to ${rowEnd - 1} cannot be read: ${(cause as Error).message}`, cause);
    }
    return rows;
  }

  get #buffer(): { byteLength: number; slice(start: number, end?: number): Promise<ArrayBuffer> } {
    return {
      byteLength: this.sizeBytes,
      slice: async (start, end = this.sizeBytes) => {
        if (end > this.sizeBytes) throw new RangeError(`the file ends at byte ${this.sizeBytes}, and not at ${end}`);
        const bytes = new ArrayBuffer(Math.max(0, end - start));
        const { bytesRead } = await this.file.read(new Uint8Array(bytes), 0, bytes.byteLength, start);
        if (bytesRead < bytes.byteLength) throw new RangeError(`the file ends at byte ${start + bytesRead}`);
        return bytes;
      },
    };
  }
}

function recordOf(
  row: number,
  columns: readonly string[],
  values: readonly unknown[],
  fields: RecordFields,
  fail: Fail,
): DataRecord {
  const own = Object.create(null) as Fields;
  for (const [i, column] of columns.entries()) own[column] = values[i] ?? undefined;
  const { [fields.id]: id, [fields.vector]: vector, vectors, ...rest } = own;
  const named = isObject(vectors)
    ? Object.fromEntries(Object.entries(vectors).filter(([, each]) => each !== null && each !== undefined))
    : vectors;
  return {
    row,
    id: idOf(id, fail),
    vectors: vectorsOf(vector, named, fields, fail),
    payload: payloadOf(rest, fail),
    expiresAtMs: "payload" in rest ? expiryOf(rest["expiresAt"], fail) : undefined,
  };
}

function idOf(value: unknown, fail: Fail): string | number | bigint | undefined {
  const id = value instanceof Uint8Array ? textOf(value) : value;
  if (id === undefined || typeof id === "string") return id;
  if (typeof id === "number" || typeof id === "bigint") return exactNumber(String(id), fail);
  throw fail(`the id must be a string or a whole number, not ${kindOf(id)}`, {}, "INVALID_ID");
}

function payloadOf(rest: Fields, fail: Fail): DatasetPayload | undefined {
  if (!("payload" in rest)) {
    const json = jsonOf(rest);
    return json === "{}" ? undefined : json;
  }
  const { payload } = rest;
  const surplus = Object.keys(rest).filter((key) => key !== "payload" && key !== "expiresAt");
  if (surplus.length > 0) throw surplusFields(surplus, fail);
  if (payload === undefined) return undefined;
  const json =
    typeof payload === "string" ? payload : payload instanceof Uint8Array ? textOf(payload) : jsonOf(payload);
  let value: unknown;
  try {
    value = JSON.parse(json ?? "null");
  } catch (cause) {
    throw fail(`the payload is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(value)) throw fail(`the field "payload" must be an object, not ${kindOf(value)}`);
  return json;
}

/** Text where the bytes are UTF-8, else base64. */
function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return Buffer.from(bytes).toString("base64");
  }
}

/** A value as JSON, whole numbers with all of their digits; undefined for what is not there, as are numbers that JSON does not know. */
function jsonOf(value: unknown): string | undefined {
  if (value instanceof JsonText) return value.json;
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) return JSON.stringify(textOf(value));
  if (value instanceof Date || typeof value === "string" || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "number") return Number.isFinite(value) ? JSON.stringify(value) : undefined;
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    return `[${Array.from(value as ArrayLike<unknown>, (item) => jsonOf(item) ?? "null").join(",")}]`;
  }
  const members = Object.entries(value).flatMap(([key, item]) => {
    const json = jsonOf(item);
    return json === undefined ? [] : [`${JSON.stringify(key)}:${json}`];
  });
  return `{${members.join(",")}}`;
}
