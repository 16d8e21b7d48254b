import { type BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { KithError, limits, setOwn } from "../../../../libs/base/index.js";
import { isJsonObject, JsonFloat, type JsonObject, type JsonValue } from "../../../../libs/model/index.js";
import type { BackwardWriter } from "../../../../libs/wire/index.js";
import { wholeOf } from "./whole.js";

/** Fields of qdrant.Value, of which one is set. */
export const kind = { null: 1, double: 2, integer: 3, text: 4, boolean: 5, struct: 6, list: 7 } as const;

const bytesTag = (field: number): number => (field << 3) | WireType.LengthDelimited;

/** The JSON of a Value. INVALID_PAYLOAD for numbers that JSON does not know, and for what is nested too deep. */
export function readValue(reader: BinaryReader, end: number, depth: number): JsonValue {
  // A message for each level, and one for what is in it.
  if (depth > 3 * limits.payloadDepth) {
    throw new KithError("INVALID_PAYLOAD", `the payload is nested deeper than ${limits.payloadDepth}`);
  }
  let value: JsonValue = null;
  eachField(reader, end, (tag) => {
    switch (tag) {
      case kind.null << 3:
        reader.int32();
        value = null;
        return true;
      case (kind.double << 3) | WireType.Bit64:
        value = doubleOf(reader.double());
        return true;
      case kind.integer << 3:
        value = wholeOf(reader.int64());
        return true;
      case bytesTag(kind.text):
        value = reader.string(true);
        return true;
      case kind.boolean << 3:
        value = reader.bool();
        return true;
      case bytesTag(kind.struct):
        value = readStruct(reader, endOf(reader), depth + 1);
        return true;
      case bytesTag(kind.list):
        value = readList(reader, endOf(reader), depth + 1);
        return true;
      default:
        return false;
    }
  });
  return value;
}

/** A whole number that is a double stays one: 1.0 is no integer to filters and indexes. */
function doubleOf(value: number): JsonValue {
  if (!Number.isFinite(value)) throw new KithError("INVALID_PAYLOAD", `the number ${value} is none of JSON`);
  return Number.isInteger(value) ? new JsonFloat(value) : value;
}

/** Struct {map<string, Value> fields = 1} */
function readStruct(reader: BinaryReader, end: number, depth: number): JsonObject {
  const object: JsonObject = {};
  eachField(reader, end, (tag) => {
    if (tag !== bytesTag(1)) return false;
    let key = "";
    let value: JsonValue = null;
    eachField(reader, endOf(reader), (inner) => {
      if (inner === bytesTag(1)) key = reader.string(true);
      else if (inner === bytesTag(2)) value = readValue(reader, endOf(reader), depth + 1);
      else return false;
      return true;
    });
    setOwn(object, key, value);
    return true;
  });
  return object;
}

/** ListValue {repeated Value values = 1} */
function readList(reader: BinaryReader, end: number, depth: number): JsonValue[] {
  const items: JsonValue[] = [];
  eachField(reader, end, (tag) => {
    if (tag !== bytesTag(1)) return false;
    items.push(readValue(reader, endOf(reader), depth + 1));
    return true;
  });
  return items;
}

function eachField(reader: BinaryReader, end: number, read: (tag: number) => boolean): void {
  while (reader.pos < end) {
    const [field, wireType] = reader.tag();
    if (!read((field << 3) | wireType)) reader.skip(wireType, field);
  }
  if (reader.pos !== end) throw new RangeError("a value ends within a field");
}

/** The end of the length-delimited field whose length is next. */
export function endOf(reader: BinaryReader): number {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw new RangeError("a field is longer than the message");
  return end;
}

/** Writes the fields of the Value that a JSON value is, from the end. Depth is that of payloads, which are bounded where they are written. */
export function writeValue(writer: BackwardWriter, value: JsonValue): void {
  const end = writer.length;
  if (value === null) {
    writer.varint(0);
    writer.tag(kind.null, WireType.Varint);
  } else if (typeof value === "string") {
    writer.text(value);
    writer.nested(kind.text, end);
  } else if (typeof value === "boolean") {
    writer.varint(value ? 1 : 0);
    writer.tag(kind.boolean, WireType.Varint);
  } else if (value instanceof JsonFloat) {
    writer.double(value.value);
    writer.tag(kind.double, WireType.Bit64);
  } else if (typeof value === "number" || typeof value === "bigint") writeNumber(writer, value);
  else if (isJsonObject(value)) {
    writeEntries(writer, 1, value);
    writer.nested(kind.struct, end);
  } else {
    for (let i = value.length - 1; i >= 0; i--) {
      const item = writer.length;
      writeValue(writer, value[i] as JsonValue);
      writer.nested(1, item);
    }
    writer.nested(kind.list, end);
  }
}

const i64Max = 0x7fff_ffff_ffff_ffffn;

function writeNumber(writer: BackwardWriter, value: number | bigint): void {
  const isInteger = typeof value === "bigint" ? value <= i64Max && value >= -i64Max - 1n : Number.isSafeInteger(value);
  if (isInteger) {
    writer.whole(value);
    writer.tag(kind.integer, WireType.Varint);
  } else {
    writer.double(Number(value));
    writer.tag(kind.double, WireType.Bit64);
  }
}

/** A map<string, Value> that is the field `number`. */
export function writeEntries(writer: BackwardWriter, number: number, object: JsonObject): void {
  const entries = Object.entries(object);
  for (let i = entries.length - 1; i >= 0; i--) {
    const [key, value] = entries[i] as [string, JsonValue];
    const end = writer.length;
    writeValue(writer, value);
    writer.nested(2, end);
    const keyEnd = writer.length;
    writer.text(key);
    writer.nested(1, keyEnd);
    writer.nested(number, end);
  }
}
