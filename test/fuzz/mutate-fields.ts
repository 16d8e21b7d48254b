import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Random } from "../../libs/base/index.js";
import { pick } from "./sending.js";

/*
 * Changes of whole fields, which bytes that chance changes seldom come to: what a request says is parsed, so that what reads its meaning is
 * tried, and not its parser alone.
 */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const deep = (): Json => {
  let value: Json = [1];
  for (let level = 0; level < 200; level++) value = level % 2 === 0 ? { must: value } : [value];
  return value;
};
const oddValues: readonly (() => Json)[] = [
  ...[null, true, false, 0, -1, 1.5, 1e300, 2 ** 53, -(2 ** 63), 4_294_967_296, "", "\0", "a", "x".repeat(3_000)].map(
    (value) => () => value,
  ),
  ...["550e8400-e29b-41d4-a716-446655440000", "2020-01-01", "$score", "docs", "title"].map((value) => () => value),
  () => [],
  () => ({}),
  () => [[[1, 2], [3]]],
  () => ({ constructor: 1, toString: null }),
  () => JSON.parse('{"__proto__": {"must": []}}') as Json,
  () => ({ indices: [1, 1], values: [1] }),
  () => ({ text: "a", model: "b" }),
  () => Array.from({ length: 300 }, (_, i) => i),
];

/** The JSON text of a request with one to three of its values replaced, removed, renamed, repeated or wrapped. */
export function mutateJson(text: string, other: string, random: Random): string {
  const root: { body: Json } = { body: JSON.parse(text) as Json };
  for (let left = 1 + Math.floor(random.float() * 3); left > 0; left--) {
    changeJson(pick(holdersIn(root), random), JSON.parse(other) as Json, random);
  }
  if (random.float() < 0.01) root.body = deep();
  return JSON.stringify(root.body ?? null);
}

/** All objects and lists, each of which holds values. */
function holdersIn(root: Json): (Json[] | { [key: string]: Json })[] {
  const found: (Json[] | { [key: string]: Json })[] = [];
  const walk = (value: Json): void => {
    if (typeof value !== "object" || value === null || found.length > 2_000) return;
    found.push(value);
    for (const each of Object.values(value)) walk(each);
  };
  walk(root);
  return found;
}

function changeJson(holder: Json[] | { [key: string]: Json }, other: Json, random: Random): void {
  const keys = Object.keys(holder);
  const key = keys.length === 0 ? "0" : pick(keys, random);
  const values = holder as { [key: string]: Json };
  const value = values[key] ?? null;
  const chance = random.float();
  if (chance < 0.5) values[key] = pick(oddValues, random)();
  else if (chance < 0.6) values[key] = [value, value];
  else if (chance < 0.7) values[key] = { [key]: value };
  else if (chance < 0.8) {
    const source = pick(holdersIn(other).concat([[]]), random) as { [key: string]: Json };
    const names = Object.keys(source);
    if (names.length > 0) values[key] = source[pick(names, random)] ?? null;
  } else if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else if (chance < 0.9) delete holder[key];
  else {
    delete holder[key];
    holder[`${key}_`] = value;
  }
}

interface Field {
  number: number;
  wireType: WireType;
  /** What stands behind the tag; of a length-delimited field without its length. */
  bytes: Uint8Array;
}

/** The message with one of its fields, at any depth, removed, repeated, renumbered, retyped or given an odd value. */
export function mutateMessage(bytes: Uint8Array, random: Random): Buffer {
  const fields = fieldsIn(bytes);
  if (fields === undefined || fields.length === 0) return Buffer.from(bytes);
  const at = Math.floor(random.float() * fields.length);
  const field = fields[at] as Field;
  const inner = field.wireType === WireType.LengthDelimited ? fieldsIn(field.bytes) : undefined;
  if (inner !== undefined && inner.length > 0 && random.float() < 0.75) {
    fields[at] = { ...field, bytes: mutateMessage(field.bytes, random) };
    return written(fields);
  }
  switch (Math.floor(random.float() * 7)) {
    case 0:
      fields.splice(at, 1);
      break;
    case 1:
      fields.push(field);
      break;
    case 2:
      fields[at] = { ...field, number: 1 + Math.floor(random.float() * 20) };
      break;
    case 3:
      fields[at] = oddField(field.number, random);
      break;
    case 4:
      // Within itself: what a message contains is often of its own kind.
      fields[at] = { ...field, bytes: nested(field, 1 + Math.floor(random.float() * 150)) };
      break;
    case 5:
      fields.push(oddField(500 + Math.floor(random.float() * 500), random));
      break;
    default:
      fields[at] = { ...field, bytes: Buffer.concat([field.bytes, field.bytes]) };
      if (field.wireType !== WireType.LengthDelimited) fields[at] = oddField(field.number, random, field.wireType);
  }
  return written(fields);
}

function nested(field: Field, levels: number): Uint8Array {
  if (field.wireType !== WireType.LengthDelimited) return field.bytes;
  let bytes = field.bytes;
  for (let level = 0; level < levels; level++) bytes = written([{ ...field, bytes }]);
  return bytes;
}

const varints = ["0", "1", "2", "127", "4294967295", "9007199254740993", "18446744073709551615"];

function oddField(number: number, random: Random, given?: WireType): Field {
  const wireType = given ?? pick([WireType.Varint, WireType.Bit32, WireType.Bit64, WireType.LengthDelimited], random);
  switch (wireType) {
    case WireType.Varint:
      return { number, wireType, bytes: new BinaryWriter().uint64(pick(varints, random)).finish() };
    case WireType.Bit32:
      return { number, wireType, bytes: floats([pick(oddFloats, random)]) };
    case WireType.Bit64:
      return { number, wireType, bytes: new BinaryWriter().double(pick(oddFloats, random)).finish() };
    default:
      return { number, wireType: WireType.LengthDelimited, bytes: pick(oddBytes, random)(random) };
  }
}

const oddFloats = [0, -0, -1, 1e38, -1e300, 1e-45, Number.NaN, Infinity, -Infinity];
const oddBytes: readonly ((random: Random) => Uint8Array)[] = [
  () => new Uint8Array(),
  (random) => random.bytes(1 + Math.floor(random.float() * 12)),
  () => Buffer.from("\0"),
  () => Buffer.from("x".repeat(3_000)),
  () => Buffer.from([0xed, 0xa0, 0x80]),
  (random) => floats([1, 2, 3, pick(oddFloats, random)]),
];

function floats(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** The fields of bytes that may be a message; undefined where they are none. */
function fieldsIn(bytes: Uint8Array): Field[] | undefined {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  try {
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      const from = reader.pos;
      if (wireType === WireType.LengthDelimited) fields.push({ number, wireType, bytes: reader.bytes() });
      else {
        reader.skip(wireType, number);
        fields.push({ number, wireType, bytes: bytes.subarray(from, reader.pos) });
      }
    }
  } catch (error) {
    // Any text or list of numbers may stand here, which is no message.
    if (error instanceof Error) return undefined;
    throw error;
  }
  return fields;
}

function written(fields: readonly Field[]): Buffer {
  const writer = new BinaryWriter();
  for (const { number, wireType, bytes } of fields) {
    writer.tag(number, wireType);
    if (wireType === WireType.LengthDelimited) writer.bytes(bytes);
    else writer.raw(bytes);
  }
  return Buffer.from(writer.finish());
}
