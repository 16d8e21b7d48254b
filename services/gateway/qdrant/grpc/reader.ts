import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { KithError, setOwn } from "../../../../libs/base/index.js";
import type { JsonObject, JsonValue } from "../../../../libs/model/index.js";
import { appendFloats, appendFloat, emptyFloats } from "../../../../libs/wire/index.js";
import { asJson } from "../values.js";
import { inbound } from "./inbound.js";
import { endOf, readValue } from "./json-value.js";
import { renamed, shortName, wordsOf } from "./schema.js";
import { wholeOf } from "./whole.js";

/** Messages within each other; what protobuf's own libraries take. */
const depthMax = 100;

/** Reads one value, of which the tag is read already. */
type Read = (reader: BinaryReader, depth: number) => JsonValue;

interface FieldReader {
  readonly key: string;
  readonly wireType: WireType;
  readonly read: Read;
  /** Of a list: numbers come packed or one by one. */
  readonly isList: boolean;
  readonly isPackable: boolean;
  readonly isFloats: boolean;
  readonly readEntry: ((reader: BinaryReader, target: JsonObject, depth: number) => void) | undefined;
  /** Keys of the other members of its oneof. */
  readonly others: readonly string[];
}

/** Messages whose numbers are dense vectors: these stay floats. */
const floatMessages = new Set(["DenseVector", "Vector", "SearchPoints", "SearchPointGroups"]);

/** Reads messages of one type as the JSON that the REST API has for them. Compiled from the descriptor when it is first used. */
class MessageReader {
  readonly #message: DescMessage;
  readonly #readers: MessageReaders;
  readonly #form: ((object: JsonObject) => JsonValue) | undefined;
  #fields: Map<number, FieldReader> | undefined;
  /** What fields are that are not on the wire. */
  readonly #defaults: [key: string, make: () => JsonValue][] = [];

  constructor(message: DescMessage, readers: MessageReaders) {
    this.#message = message;
    this.#readers = readers;
    this.#form = inbound[shortName(message)];
  }

  read(reader: BinaryReader, end: number, depth: number): JsonValue {
    if (depth > depthMax) throw new KithError("INVALID_ARGUMENT", `messages are more than ${depthMax} deep`);
    const fields = (this.#fields ??= this.#compile());
    const object: JsonObject = {};
    for (const [key, make] of this.#defaults) object[key] = make();
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      const field = fields.get(number);
      if (field === undefined) reader.skip(wireType, number);
      else this.#readField(field, wireType, number, reader, object, depth);
    }
    if (reader.pos !== end) throw new RangeError(`${this.#message.typeName} ends within a field`);
    return this.#form === undefined ? object : this.#form(object);
  }

  #readField(
    field: FieldReader,
    wireType: WireType,
    number: number,
    reader: BinaryReader,
    object: JsonObject,
    depth: number,
  ): void {
    const { key, others, isList, isPackable, isFloats, readEntry, read } = field;
    const isPacked = isPackable && wireType === WireType.LengthDelimited;
    if (wireType !== field.wireType && !isPacked) {
      reader.skip(wireType, number);
      return;
    }
    if (readEntry !== undefined) readEntry(reader, object[key] as JsonObject, depth);
    else if (isFloats) {
      const before = object[key] as unknown as Float32Array;
      object[key] = asJson(isPacked ? appendFloats(before, reader.bytes()) : appendFloat(before, reader.float()));
    } else if (!isList) {
      for (const other of others) if (Object.hasOwn(object, other)) delete object[other];
      object[key] = read(reader, depth);
    } else if (isPacked) {
      const end = endOf(reader);
      while (reader.pos < end) (object[key] as JsonValue[]).push(read(reader, depth));
      if (reader.pos !== end) throw new RangeError("packed numbers end within one");
    } else (object[key] as JsonValue[]).push(read(reader, depth));
  }

  #compile(): Map<number, FieldReader> {
    const fields = new Map<number, FieldReader>();
    for (const field of this.#message.fields) {
      const key = renamed[field.name] ?? field.name;
      const compiled = this.#field(field, key);
      fields.set(field.number, compiled);
      if (compiled.isFloats) this.#defaults.push([key, () => asJson(emptyFloats)]);
      else if (field.fieldKind === "list") this.#defaults.push([key, () => []]);
      else if (field.fieldKind === "map") this.#defaults.push([key, () => ({})]);
      else if (field.presence === FeatureSet_FieldPresence.IMPLICIT) {
        const value = zeroOf(field);
        this.#defaults.push([key, () => value]);
      }
    }
    return fields;
  }

  #field(field: DescField, key: string): FieldReader {
    const isFloat = field.fieldKind === "list" && field.listKind === "scalar" && field.scalar === ScalarType.FLOAT;
    const read = this.#readers.value(field);
    const isMessage = field.message !== undefined || field.fieldKind === "map";
    const wireType = isMessage ? WireType.LengthDelimited : wireTypeOf(field.scalar ?? ScalarType.INT32);
    return {
      key,
      wireType,
      read,
      isList: field.fieldKind === "list",
      isPackable: field.fieldKind === "list" && wireType !== WireType.LengthDelimited,
      isFloats: isFloat && floatMessages.has(shortName(this.#message)),
      readEntry: field.fieldKind === "map" ? entryReader(read) : undefined,
      others: (field.oneof?.fields ?? [])
        .filter((each) => each !== field)
        .map((each) => renamed[each.name] ?? each.name),
    };
  }
}

/** {string key = 1, value = 2} */
function entryReader(read: Read): (reader: BinaryReader, target: JsonObject, depth: number) => void {
  return (reader, target, depth) => {
    const end = endOf(reader);
    let key = "";
    let value: JsonValue = null;
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      if (number === 1 && wireType === WireType.LengthDelimited) key = reader.string(true);
      else if (number === 2 && wireType === WireType.LengthDelimited) value = read(reader, depth);
      else reader.skip(wireType, number);
    }
    if (reader.pos !== end) throw new RangeError("an entry of a map ends within a field");
    setOwn(target, key, value);
  };
}

/** The readers of all messages. */
export class MessageReaders {
  readonly #byName = new Map<string, MessageReader>();

  /** INVALID_ARGUMENT for what is nested too deep; other errors for bytes that are no such message. */
  decode(message: DescMessage, bytes: Uint8Array): JsonValue {
    const reader = new BinaryReader(bytes);
    return this.#of(message).read(reader, reader.len, 1);
  }

  #of(message: DescMessage): MessageReader {
    let found = this.#byName.get(message.typeName);
    if (found === undefined) {
      found = new MessageReader(message, this);
      this.#byName.set(message.typeName, found);
    }
    return found;
  }

  /** Reads one value of a field: of a list one element, of a map the value of an entry. */
  value(field: DescField): Read {
    const { message } = field;
    if (message !== undefined) {
      if (message.typeName === "qdrant.Value") return (reader, depth) => readValue(reader, endOf(reader), depth + 1);
      // Looked up when it is needed: messages contain each other.
      return (reader, depth) => this.#of(message).read(reader, endOf(reader), depth + 1);
    }
    if (field.enum !== undefined) {
      const words = wordsOf(field.enum);
      return (reader) => {
        const number = reader.int32();
        const word = words.get(number);
        return word === undefined ? number : word;
      };
    }
    return scalarReader(field.scalar ?? ScalarType.INT32);
  }
}

function scalarReader(type: ScalarType): Read {
  switch (type) {
    case ScalarType.STRING:
      return (reader) => reader.string(true);
    case ScalarType.BOOL:
      return (reader) => reader.bool();
    case ScalarType.DOUBLE:
      return (reader) => reader.double();
    case ScalarType.FLOAT:
      return (reader) => reader.float();
    case ScalarType.UINT32:
      return (reader) => reader.uint32();
    case ScalarType.INT32:
      return (reader) => reader.int32();
    case ScalarType.UINT64:
      return (reader) => wholeOf(reader.uint64());
    case ScalarType.INT64:
      return (reader) => wholeOf(reader.int64());
    default:
      throw new Error(`no JSON is known for fields of the type ${ScalarType[type]}`);
  }
}

export function wireTypeOf(type: ScalarType): WireType {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WireType.LengthDelimited;
    case ScalarType.DOUBLE:
      return WireType.Bit64;
    case ScalarType.FLOAT:
      return WireType.Bit32;
    default:
      return WireType.Varint;
  }
}

function zeroOf(field: DescField): JsonValue {
  if (field.enum !== undefined) return wordsOf(field.enum).get(0) ?? null;
  if (field.scalar === ScalarType.STRING) return "";
  return field.scalar === ScalarType.BOOL ? false : 0;
}
