import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CsvError, parse } from "csv-parse";
import { KithError, toKithError } from "../base/index.js";
import type { ByteReader } from "./byte-reader.js";
import {
  type DataRecord,
  exactNumber,
  expiryOf,
  type Fail,
  failAt,
  fieldsOf,
  isObject,
  kindOf,
  type FieldValue,
  valueOf,
  RecordBatches,
  type RecordFields,
} from "./records.js";
import {
  type ColumnType,
  columnTypes,
  type DatasetBatch,
  type DatasetPayload,
  type ReadDatasetOptions,
} from "./types.js";

/** The longest row that is read; that of a line of JSON. */
const rowMaxBytes = 16 * 1024 * 1024;

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Of columns of vectors by name. */
const namedPrefix = "vectors.";

/** Where things stand in a row. */
interface Header {
  names: readonly string[];
  id: number | undefined;
  /** By name of the vector field, "" for the unnamed one: one cell with all elements, or a cell each. */
  vectors: ReadonlyMap<string, readonly number[]>;
  /** The cell of the payload as JSON; undefined where the other columns are the payload. */
  payload: number | undefined;
  /** Only beside a payload. */
  expiresAt: number | undefined;
  others: readonly { at: number; name: string; type: ColumnType | undefined }[];
}

/**
 * CSV as of RFC 4180, in UTF-8, with a header. Columns: the id; the vector as JSON or as numbers with commas or spaces between, or in numbered
 * columns (vector_0, vector_1, ...); vectors.<name>, each in one column; and either "payload" with JSON objects, or others, which become the payload.
 */
export async function* readCsv(
  reader: ByteReader,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const fields = fieldsOf(options);
  const skip = options.skipRows ?? 0;
  const end = skip + (options.limitRows ?? Infinity);
  const batches = new RecordBatches(reader.name, "row", options);
  let header: Header | undefined;
  let row = 0;
  for await (const cells of cellsOf(reader, options)) {
    if (header === undefined) {
      header = headerOf(reader.name, cells, fields, options);
      continue;
    }
    if (row >= end) break;
    if (row < skip) {
      batches.startAt(++row);
      continue;
    }
    const fail = failAt(reader.name, "row", row);
    const place: Header = header;
    yield* batches.take(
      row,
      () => recordOf(row, cells, place, fail),
      () => cells.map((cell) => cell.toString("utf8")).join(","),
    );
    row++;
  }
  yield* batches.end(row);
}

/** The cells of each row that is not empty, the header first. */
async function* cellsOf(
  reader: ByteReader,
  { delimiter = "," }: ReadDatasetOptions,
): AsyncGenerator<Buffer[], void, undefined> {
  const parser = parse({
    delimiter,
    // Cells stay bytes, so that what is not UTF-8 is refused instead of becoming U+FFFD.
    encoding: null,
    record_delimiter: ["\r\n", "\n", "\r"],
    skip_empty_lines: true,
    // Told row by row.
    relax_column_count: true,
    max_record_size: rowMaxBytes,
  });
  const fed = pipeline(Readable.from(withoutMark(reader), { objectMode: false }), parser);
  // What goes wrong comes out of the parser, too.
  fed.catch(() => undefined);
  try {
    for await (const cells of parser) yield cells as Buffer[];
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new KithError("INVALID_ARGUMENT", `${reader.name} is not well-formed CSV: ${told(error)}`, {
      details: { file: reader.name, reason: error.code },
      cause: error,
    });
  } finally {
    parser.destroy();
  }
}

/** What the parser says, without the bytes of cells as JSON; with what helps where these are zeros. */
function told({ message }: CsvError): string {
  const at = message.indexOf(', value is {"type":"Buffer"');
  if (at < 0) return message;
  const isUtf16 = message.includes("[0]", at) || message.includes("[0,", at);
  return message.slice(0, at) + (isUtf16 ? "; it looks like UTF-16, and UTF-8 is read" : "");
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

async function* withoutMark(reader: ByteReader): AsyncGenerator<Uint8Array, void, undefined> {
  const head = await reader.takeUpTo(byteOrderMark.length);
  if (head.length > 0 && !byteOrderMark.equals(head)) yield head;
  yield* reader.rest();
}

function headerOf(file: string, cells: readonly Buffer[], fields: RecordFields, options: ReadDatasetOptions): Header {
  const fail = (message: string): KithError =>
    new KithError("INVALID_ARGUMENT", `${file}, header: ${message}`, { details: { file } });
  const names = cells.map((cell, at) => textOf(cell, () => fail(`the name of column ${at + 1} is not UTF-8`)).trim());
  const places = new Map<string, number>();
  for (const [at, name] of names.entries()) {
    if (name === "") throw fail(`column ${at + 1} has no name`);
    if (places.has(name)) throw fail(`the column "${name}" stands twice`);
    places.set(name, at);
  }
  const taken = new Set<number>();
  const take = (name: string): number | undefined => {
    const at = places.get(name);
    if (at !== undefined) taken.add(at);
    return at;
  };
  const id = take(fields.id);
  const vectors = new Map<string, readonly number[]>();
  const unnamed = vectorPlaces(names, fields.vector, fail);
  if (unnamed !== undefined) vectors.set("", unnamed);
  for (const [at, name] of names.entries()) {
    if (name.startsWith(namedPrefix) && name !== fields.vector) vectors.set(name.slice(namedPrefix.length), [at]);
  }
  for (const found of vectors.values()) for (const at of found) taken.add(at);
  if (vectors.size === 0) {
    const known = names.slice(0, 12).map((name) => `"${name}"`);
    throw fail(
      `there is no column "${fields.vector}", "${fields.vector}_0" or "vectors.<name>", but ${known.join(", ")}; name the column of the vector if it is another`,
    );
  }
  const payload = take("payload");
  const expiresAt = payload === undefined ? undefined : take("expiresAt");
  const others = names.flatMap((name, at) =>
    taken.has(at) ? [] : [{ at, name, type: options.columnTypes?.get(name) }],
  );
  if (payload !== undefined && others.length > 0) {
    const surplus = others.slice(0, 5).map(({ name }) => `"${name}"`);
    throw fail(`there is a column "payload", and others beside it (${surplus.join(", ")}); move them into it`);
  }
  for (const name of options.columnTypes?.keys() ?? []) {
    if (others.some((other) => other.name === name)) continue;
    throw fail(`a type is given for the column "${name}", which is none of the payload`);
  }
  return { names, id, vectors, payload, expiresAt, others };
}

/** One column of that name, or those numbered from 0 without a gap; undefined for neither. */
function vectorPlaces(
  names: readonly string[],
  name: string,
  fail: (message: string) => KithError,
): number[] | undefined {
  const whole = names.indexOf(name);
  const places: number[] = [];
  for (let i = names.indexOf(`${name}_0`); i !== -1; i = names.indexOf(`${name}_${places.length}`)) places.push(i);
  const prefix = `${name}_`;
  const count = names.filter((each) => each.startsWith(prefix) && /^\d+$/.test(each.slice(prefix.length))).length;
  if (count !== places.length) throw fail(`there is no column "${name}_${places.length}", though others are numbered`);
  if (whole === -1) return places.length === 0 ? undefined : places;
  if (places.length > 0) throw fail(`there is a column "${name}", and "${name}_0" too; the vector is in one of them`);
  return [whole];
}

function recordOf(row: number, cells: readonly Buffer[], header: Header, fail: Fail): DataRecord {
  if (cells.length !== header.names.length) {
    throw fail(`the row has ${cells.length} cells, and the header has ${header.names.length}`);
  }
  const text = (at: number): string =>
    textOf(cells[at] as Buffer, () => fail(`the cell of "${header.names[at]}" is not UTF-8`));
  const vectors = new Map<string, FieldValue>();
  for (const [name, places] of header.vectors) {
    const title = header.names[places[0] as number] as string;
    if (places.length > 1) {
      vectors.set(
        name,
        places.map((at) => elementOf(text(at), header.names[at] as string, fail)),
      );
      continue;
    }
    const cell = text(places[0] as number).trim();
    if (cell !== "") vectors.set(name, valueOf(elementsOf(cell, title, fail), title, fail));
  }
  if (vectors.size === 0) throw fail("there is no vector: its cell is empty");
  return {
    row,
    id: header.id === undefined ? undefined : idOf(text(header.id), fail),
    vectors,
    payload: payloadOf(header, text, fail),
    expiresAtMs: header.expiresAt === undefined ? undefined : cellExpiry(text(header.expiresAt).trim(), fail),
  };
}

function cellExpiry(cell: string, fail: Fail): number | undefined {
  if (cell === "") return undefined;
  return expiryOf(/^\d+$/.test(cell) ? Number(cell) : cell, fail);
}

function textOf(cell: Buffer, failure: () => KithError): string {
  try {
    return decoder.decode(cell);
  } catch {
    throw failure();
  }
}

/** JSON, or numbers with commas, semicolons or spaces between. */
function elementsOf(cell: string, title: string, fail: Fail): unknown {
  if (cell.startsWith("[")) return parsed(cell, title, fail);
  return cell.split(/[\s,;]+/).map((text) => elementOf(text, title, fail));
}

const decimal = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

function elementOf(cell: string, title: string, fail: Fail): number {
  const text = cell.trim();
  if (decimal.test(text)) return Number(text);
  throw fail(`the vector "${title}" has ${text === "" ? "an empty cell" : kindOf(text)}, which is not a number`);
}

function parsed(text: string, title: string, fail: Fail): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw fail(`the cell of "${title}" is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** Digits are a number, text in quotes is a JSON string, and all else a string; none where the cell is empty. */
function idOf(cell: string, fail: Fail): string | number | bigint | undefined {
  if (cell === "") return undefined;
  if (/^\d+$/.test(cell)) return exactNumber(cell, fail);
  if (!cell.startsWith('"')) return cell;
  const id = parsed(cell, "id", fail);
  if (typeof id === "string") return id;
  throw fail(`the id ${cell} is no JSON string`, {}, "INVALID_ID");
}

function payloadOf(header: Header, text: (at: number) => string, fail: Fail): DatasetPayload | undefined {
  if (header.payload !== undefined) {
    const cell = text(header.payload).trim();
    if (cell === "" || cell === "null") return undefined;
    const value = parsed(cell, "payload", fail);
    if (!isObject(value)) throw fail(`the field "payload" must be an object, not ${kindOf(value)}`);
    return cell;
  }
  const members = header.others.flatMap(({ at, name, type }) => {
    const value = jsonOf(text(at), name, type, fail);
    return value === undefined ? [] : [`${JSON.stringify(name)}:${value}`];
  });
  return members.length === 0 ? undefined : `{${members.join(",")}}`;
}

const jsonNumber = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** A cell as JSON text, digits as they are; undefined for an empty one. */
function jsonOf(cell: string, name: string, type: ColumnType | undefined, fail: Fail): string | undefined {
  if (cell === "") return undefined;
  const text = cell.trim();
  const isNumber = jsonNumber.test(text) && Number.isFinite(Number(text));
  switch (type) {
    case "string":
      return JSON.stringify(cell);
    case "number":
      if (isNumber) return text;
      throw fail(`"${name}" has ${kindOf(cell)}, which is not a number`);
    case "boolean":
      if (/^(true|false)$/i.test(text)) return text.toLowerCase();
      throw fail(`"${name}" has ${kindOf(cell)}, which is neither true nor false`);
    case "json":
      parsed(text, name, fail);
      return text;
    case undefined:
      if (isNumber) return text;
      if (/^(true|false)$/i.test(text)) return text.toLowerCase();
      return isJson(text) ? text : JSON.stringify(cell);
    default:
      throw toKithError(new TypeError(`the type ${String(type)} is none of ${columnTypes.join(", ")}`));
  }
}

/** An array or an object of JSON; what only looks like one, as "[sic]" does, is text. */
function isJson(text: string): boolean {
  if (!/^[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
