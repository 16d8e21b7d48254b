import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { KithError, limits } from "../base/index.js";

/*
 * google.protobuf.Struct (struct.proto) as JSON text and back. Our own, because the generated code goes by plain objects, which lose a key
 * "__proto__", rounds whole numbers beyond 2^53 without a word, and recurses as deep as the sender likes.
 */

const bytesTag = (field: number): number => (field << 3) | WireType.LengthDelimited;

/** Fields of google.protobuf.Value, of which exactly one is set. */
const kind = { null: 1, number: 2, text: 3, boolean: 4, struct: 5, list: 6 } as const;

/** A text, or a numeral: what stands in texts is passed over. */
const token = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const manyDigits = /\d{16}/;

/** The Struct of a JSON object, as bytes. Whole numbers that a double does not hold become their decimal text, as int64 does in the JSON of protobuf. */
export function structOfJson(json: Uint8Array): Uint8Array {
  const text = Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString("utf8");
  const exact = manyDigits.test(text) ? text.replaceAll(token, quotedWhereInexact) : text;
  const writer = new BinaryWriter();
  writeStruct(writer, JSON.parse(exact) as object);
  return writer.finish();
}

function quotedWhereInexact(numeral: string): string {
  return /^-?\d+$/.test(numeral) && !Number.isSafeInteger(Number(numeral)) ? `"${numeral}"` : numeral;
}

/** Struct {map<string, Value> fields = 1} */
function writeStruct(writer: BinaryWriter, value: object): void {
  for (const [key, member] of Object.entries(value) as [string, unknown][]) {
    writer.uint32(bytesTag(1)).fork();
    writer.uint32(bytesTag(1)).string(key).uint32(bytesTag(2)).fork();
    writeValue(writer, member);
    writer.join().join();
  }
}

function writeValue(writer: BinaryWriter, value: unknown): void {
  if (typeof value === "string") writer.uint32(bytesTag(kind.text)).string(value);
  else if (typeof value === "number") writer.uint32((kind.number << 3) | WireType.Bit64).double(value);
  else if (typeof value === "boolean") writer.uint32((kind.boolean << 3) | WireType.Varint).bool(value);
  else if (typeof value !== "object" || value === null) writer.uint32((kind.null << 3) | WireType.Varint).int32(0);
  else if (Array.isArray(value)) {
    writer.uint32(bytesTag(kind.list)).fork();
    for (const item of value) {
      writer.uint32(bytesTag(1)).fork();
      writeValue(writer, item);
      writer.join();
    }
    writer.join();
  } else {
    writer.uint32(bytesTag(kind.struct)).fork();
    writeStruct(writer, value);
    writer.join();
  }
}

/** The JSON text of a Struct. INVALID_PAYLOAD for what is none, for numbers that JSON does not know, and for what is nested too deep; `at`: where it stood. */
export function jsonOfStruct(bytes: Uint8Array, at: string): Uint8Array {
  try {
    return Buffer.from(structText(bytes, 1), "utf8");
  } catch (cause) {
    if (cause instanceof KithError) throw new KithError(cause.code, `${at}: ${cause.message}`);
    throw new KithError("INVALID_PAYLOAD", `${at} is no google.protobuf.Struct`, { cause });
  }
}

function structText(bytes: Uint8Array, depth: number): string {
  if (depth > limits.payloadDepth) {
    throw new KithError("INVALID_PAYLOAD", `the payload is nested deeper than ${limits.payloadDepth}`);
  }
  // Of a key that comes twice the last one counts, as in every map of protobuf.
  const members = new Map<string, string>();
  eachField(bytes, (tag, reader) => {
    if (tag !== bytesTag(1)) return false;
    let key = "";
    let value = "null";
    eachField(reader.bytes(), (inner, entry) => {
      if (inner === bytesTag(1)) key = entry.string(true);
      else if (inner === bytesTag(2)) value = valueText(entry.bytes(), depth);
      else return false;
      return true;
    });
    members.set(key, value);
    return true;
  });
  return `{${[...members].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",")}}`;
}

function valueText(bytes: Uint8Array, depth: number): string {
  let text = "null";
  eachField(bytes, (tag, reader) => {
    switch (tag >>> 3) {
      case kind.null:
        reader.int32();
        text = "null";
        return true;
      case kind.number:
        text = numberText(reader.double());
        return true;
      case kind.text:
        text = JSON.stringify(reader.string(true));
        return true;
      case kind.boolean:
        text = String(reader.bool());
        return true;
      case kind.struct:
        text = structText(reader.bytes(), depth + 1);
        return true;
      case kind.list:
        text = listText(reader.bytes(), depth + 1);
        return true;
      default:
        return false;
    }
  });
  return text;
}

/** ListValue {repeated Value values = 1} */
function listText(bytes: Uint8Array, depth: number): string {
  if (depth > limits.payloadDepth) {
    throw new KithError("INVALID_PAYLOAD", `the payload is nested deeper than ${limits.payloadDepth}`);
  }
  const items: string[] = [];
  eachField(bytes, (tag, reader) => {
    if (tag !== bytesTag(1)) return false;
    items.push(valueText(reader.bytes(), depth));
    return true;
  });
  return `[${items.join(",")}]`;
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return JSON.stringify(value);
  throw new KithError("INVALID_PAYLOAD", `the number ${value} is none of JSON`);
}

/** Calls `read` for each field with its tag; fields that it does not know (false) are skipped. */
function eachField(bytes: Uint8Array, read: (tag: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read((field << 3) | wireType, reader)) reader.skip(wireType, field);
  }
}
