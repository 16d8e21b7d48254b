import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import { KithError } from "../../libs/base/index.js";
import type { AccessLimits, FilterInput, Id, JsonObject, QueryInput, SparseInput } from "../../libs/client/index.js";
import { UsageError } from "./failure.js";
import type { Io } from "./io.js";

/** A parser of whole numbers for an option. */
export function whole(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isSafeInteger(value) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `in ${min}..${max}`;
      throw new InvalidArgumentError(`It must be a whole number ${range}.`);
    }
    return value;
  };
}

export function finite(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
}

const durationUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** "500ms", "30s", "5m"; a bare number counts seconds. In milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim());
  const value = match === null ? 0 : Number(match[1]) * (durationUnits[match[2] ?? "s"] ?? 1000);
  if (value <= 0 || value > 2 ** 31 - 1) {
    throw new InvalidArgumentError('It must be a time such as "500ms", "30s" or "5m", more than zero.');
  }
  return value;
}

/** key=value, collected over repetitions of the option. */
export function keyValue(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It must have the form key=value.");
  const key = text.slice(0, at);
  if (before !== undefined && Object.hasOwn(before, key)) throw new InvalidArgumentError(`"${key}" is given twice.`);
  return { ...before, [key]: text.slice(at + 1) };
}

const accessLimits = {
  requests: "requestsPerSecond",
  points: "pointsPerSecond",
  bytes: "bytesPerSecond",
  queries: "concurrentQueries",
  "stored-points": "storedPoints",
  "stored-bytes": "storedBytes",
} as const;

/** requests=100, points=10000, bytes=1000000 (each second), queries=8 (at once), stored-points=1000000, stored-bytes=1000000000 (in a collection), collected over repetitions of the option. */
export function accessLimit(text: string, before: AccessLimits | undefined): AccessLimits {
  const [, name, value] = /^(requests|points|bytes|queries|stored-points|stored-bytes)=(\d+)$/.exec(text.trim()) ?? [];
  if (name === undefined) {
    throw new InvalidArgumentError(
      "It must be requests=N, points=N or bytes=N (each second), queries=N (at once), stored-points=N or stored-bytes=N.",
    );
  }
  return { ...before, [accessLimits[name as keyof typeof accessLimits]]: Number(value) };
}

/** Digits are a number id; a JSON string ("\"42\"") or any other text is a string id (UUIDs by their form). */
export function parseId(text: string): Id {
  if (/^\d+$/.test(text)) {
    const value = BigInt(text);
    if (value > 0xffff_ffff_ffff_ffffn) {
      throw new KithError(
        "INVALID_ID",
        `the id ${text} is beyond 18446744073709551615; quote it to mean a string: '"${text}"'`,
      );
    }
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }
  if (text.startsWith('"')) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new UsageError(`the id ${text} begins with a quote but is not a JSON string`, { cause });
    }
    return value as string;
  }
  return text;
}

/** '[0.1, 0.2]', "0.1,0.2", a matrix as '[[0.1, 0.2], [0.3, 0.4]]', or @file with one of these ("@-": standard input). */
export async function parseVector(text: string, io: Io): Promise<Float32Array | Float32Array[]> {
  let json = text.trim();
  let where = "--vector";
  if (json.startsWith("@")) {
    where = json.slice(1);
    json = (await readText(where, io)).trim();
  }
  if (!json.startsWith("[")) json = `[${json}]`;
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new UsageError(`${where} is not a vector such as '[0.1, 0.2, 0.3]': ${(cause as Error).message}`, { cause });
  }
  const isVector = (each: unknown): each is number[] =>
    Array.isArray(each) && each.length > 0 && each.every((item) => typeof item === "number");
  // The rows of a matrix.
  if (Array.isArray(value) && value.length > 0 && value.every(isVector)) {
    return value.map((row) => Float32Array.from(row));
  }
  if (!isVector(value)) {
    throw new UsageError(`${where} must be a JSON array of at least one number, such as '[0.1, 0.2, 0.3]'`);
  }
  return Float32Array.from(value);
}

/** '{"indices": [7, 42], "values": [0.5, 1.2]}', or @file with it ("@-": standard input). */
export async function parseSparse(text: string, io: Io): Promise<SparseInput> {
  const json = text.trimStart();
  const { indices, values } = parseObject(json.startsWith("@") ? await readText(json.slice(1), io) : json, "--sparse");
  for (const list of [indices, values]) {
    if (Array.isArray(list) && list.every((item) => typeof item === "number")) continue;
    throw new UsageError(`--sparse must be {"indices": [7, 42], "values": [0.5, 1.2]}`);
  }
  return { indices: indices as number[], values: values as number[] };
}

/** A filter of the command line: JSON where it begins like an object, else in its textual form. */
export function parseFilterFlag(text: string | undefined): FilterInput | undefined {
  return text?.trimStart().startsWith("{") ? parseObject(text, "--filter") : text;
}

/** A query of the command line: JSON, or @file with it ("@-": standard input). */
export async function parseQueryFlag(text: string, io: Io): Promise<QueryInput> {
  const json = text.trimStart();
  return parseObject(json.startsWith("@") ? await readText(json.slice(1), io) : json, "--query");
}

/** A payload of the command line as it is written, so that every digit is kept: JSON, or @file with it ("@-": standard input). */
export async function readPayload(text: string, io: Io): Promise<Uint8Array> {
  const json = text.trimStart();
  const given = json.startsWith("@") ? await readText(json.slice(1), io) : json;
  parseObject(given, "--payload");
  return Buffer.from(given.trim());
}

/** JSON of an object; `where` names the option in the error. */
export function parseObject(text: string, where: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${where} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError(`${where} is no JSON object`);
  }
  return value as JsonObject;
}

/** Vectors and settings on standard input or in a file are small. */
const textMaxBytes = 64 * 1024 * 1024;

/** What the system said when a file was read, in words for those who named it; `option`: where. */
export function unreadable(path: string, cause: unknown, option?: string): KithError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const file = option === undefined ? path : `${option} ${path}`;
  const details = { details: { file: path }, cause };
  if (code === "ENOENT") return new KithError("NOT_FOUND", `${file}: there is no such file; check the path`, details);
  if (code === "EISDIR") return new KithError("INVALID_ARGUMENT", `${file} is a directory; name a file`, details);
  if (code === "EACCES") {
    return new KithError("INVALID_ARGUMENT", `${file} may not be read by this user; check its permissions`, details);
  }
  return new KithError("INVALID_ARGUMENT", `${file} cannot be read: ${message}`, details);
}

/** A file as text ("-": standard input). */
export async function readText(path: string, io: Io): Promise<string> {
  if (path !== "-") {
    try {
      return await readFile(resolve(io.cwd, path), "utf8");
    } catch (cause) {
      throw unreadable(path, cause);
    }
  }
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of io.stdin) {
    const bytes = Buffer.from(part as Uint8Array);
    sizeBytes += bytes.length;
    if (sizeBytes > textMaxBytes) throw new UsageError(`standard input is longer than ${textMaxBytes} bytes`);
    parts.push(bytes);
  }
  return Buffer.concat(parts).toString("utf8");
}
