import { isJsonObject, JsonFloat, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { inferred, isInference, type Role } from "./inference.js";
import { countOf, floatsIn, InvalidValue, listOf, type Reply, wrong } from "./values.js";

/** Whether an object is a vector itself, or what a model makes one of, and not vectors by name. */
export function isVectorObject(object: JsonObject): boolean {
  return (Object.hasOwn(object, "indices") && Object.hasOwn(object, "values")) || isInference(object);
}

/** A dense vector. */
export function denseOf(value: JsonValue | undefined, at: string): Float32Array {
  const given = floatsIn(value);
  if (given !== undefined) return given;
  if (isJsonObject(value) && Object.hasOwn(value, "indices")) throw wrong(at, "a sparse vector does not stand here");
  if (!Array.isArray(value)) throw wrong(at, "expected a vector: a list of numbers");
  const floats = new Float32Array(value.length);
  for (let i = 0; i < value.length; i++) {
    const each = value[i];
    if (typeof each === "number") floats[i] = each;
    else if (each instanceof JsonFloat) floats[i] = each.value;
    else if (typeof each === "bigint") floats[i] = Number(each);
    else throw wrong(`${at}[${i}]`, "expected a number");
  }
  return floats;
}

/** The vector of a query, of any kind: a list, a list of lists for a matrix, {indices, values}, or a text with the model that makes one of it. */
export function vectorOf(value: JsonValue | undefined, at: string): pb.Vector {
  return vectorFor("query", value, at);
}

function vectorFor(role: Role, value: JsonValue | undefined, at: string): pb.Vector {
  if (isJsonObject(value) && isInference(value)) {
    const { indices, values } = inferred(value, at, role);
    return { indices: Array.from(indices), values };
  }
  if (!isJsonObject(value) || !Object.hasOwn(value, "indices")) {
    return Array.isArray(value) && (Array.isArray(value[0]) || floatsIn(value[0]) !== undefined)
      ? matrixOf(value, at)
      : { values: denseOf(value, at), indices: [] };
  }
  const indices = listOf(value["indices"], `${at}.indices`).map((each, i) => countOf(each, `${at}.indices[${i}]`));
  const values = denseOf(value["values"], `${at}.values`);
  const tooLarge = indices.findIndex((index) => index > indexMost);
  if (tooLarge >= 0) throw wrong(`${at}.indices[${tooLarge}]`, `expected a whole number of at most ${indexMost}`);
  if (indices.length === values.length) return { indices, values };
  throw new InvalidValue(at, `there are ${indices.length} indices and ${values.length} values`);
}

const indexMost = 4_294_967_295;

/** The vector of a point; undefined for a sparse one without entries, which is no vector in Kith. */
export function storedVectorOf(value: JsonValue, at: string): pb.Vector | undefined {
  const isEmpty = isJsonObject(value) && Array.isArray(value["indices"]) && value["indices"].length === 0;
  if (isEmpty) return undefined;
  const vector = vectorFor("document", value, at);
  // A text without words.
  return isJsonObject(value) && isInference(value) && vector.indices.length === 0 ? undefined : vector;
}

/** The rows of a matrix. */
function matrixOf(value: readonly JsonValue[], at: string): pb.Vector {
  const rows = value.map((row, i) => denseOf(row, `${at}[${i}]`));
  const width = rows[0]?.length ?? 0;
  const values = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) {
    if (row.length !== width) throw new InvalidValue(`${at}[${i}]`, `expected ${width} numbers, as in the first row`);
    values.set(row, i * width);
  }
  return { values, indices: [], rows: rows.length };
}

export type VectorMap = { [name: string]: pb.Vector };

/** The vectors of a point: a list is the one without a name, an object has them by name. */
export function vectorsOf(value: JsonValue | undefined, at: string): VectorMap {
  const vectors = Object.create(null) as VectorMap;
  if (value === undefined) return vectors;
  if (!isJsonObject(value) || floatsIn(value) !== undefined || isVectorObject(value)) {
    const stored = storedVectorOf(value, at);
    if (stored !== undefined) vectors[""] = stored;
    return vectors;
  }
  for (const [name, vector] of Object.entries(value)) {
    const stored = vector === null ? undefined : storedVectorOf(vector, `${at}.${name}`);
    if (stored !== undefined) vectors[name] = stored;
  }
  return vectors;
}

/** Which vectors are to be given with their length made 1: those of fields that compare directions. */
export type Normalized = (field: string) => boolean;

/** The vectors of a point as answers have them: that without a name alone is a list. */
export function printVectors(vectors: { readonly [name: string]: pb.Vector }, isNormalized: Normalized): Reply {
  const entries = Object.entries(vectors);
  const [first] = entries;
  const print = (name: string, { values, indices, rows = 0 }: pb.Vector): Reply => {
    if (indices.length > 0) return { indices, values };
    const shown = isNormalized(name) ? unit : (row: Float32Array): Float32Array => row;
    if (rows === 0) return shown(values);
    const width = values.length / rows;
    return Array.from({ length: rows }, (_, row) => shown(values.subarray(row * width, (row + 1) * width)));
  };
  if (entries.length === 1 && first?.[0] === "") return print("", first[1]);
  return Object.fromEntries(entries.map(([name, vector]) => [name, print(name, vector)]));
}

function unit(values: Float32Array): Float32Array {
  let sum = 0;
  for (const value of values) sum += value * value;
  const length = Math.sqrt(sum);
  // Within a float's precision of 1 already: what was written by whoever normalizes stays the same digits.
  if (length === 0 || Math.abs(length - 1) < 1e-6) return values;
  return values.map((value) => value / length);
}
