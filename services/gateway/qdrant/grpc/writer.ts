import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { assert, getOwn } from "../../../../libs/base/index.js";
import { JsonFloat, type JsonValue, parseJson } from "../../../../libs/model/index.js";
import { floatsToBytes } from "../../../../libs/wire/index.js";
import { JsonText } from "../values.js";
import { writeEntry, writeValue } from "./json-value.js";
import { outbound } from "./outbound.js";
import { renamed, shortName, wordsOf } from "./schema.js";
import { isSourceObject, type Source, type SourceObject, textIn } from "./source.js";

type Write = (writer: BinaryWriter, value: Source) => void;

interface FieldWriter {
  readonly key: string;
  readonly write: Write;
}

/** Writes messages of one type from what the REST API answers. Compiled from the descriptor when it is first used. */
class MessageWriter {
  readonly #message: DescMessage;
  readonly #writers: MessageWriters;
  readonly #form: ((value: Source) => SourceObject) | undefined;
  #fields: FieldWriter[] | undefined;

  constructor(message: DescMessage, writers: MessageWriters) {
    this.#message = message;
    this.#writers = writers;
    this.#form = outbound[shortName(message)];
  }

  write(writer: BinaryWriter, value: Source): void {
    const fields = (this.#fields ??= this.#compile());
    const given: Source = value instanceof JsonText ? parseJson(value.text) : value;
    const object = this.#form === undefined ? given : this.#form(given);
    assert(isSourceObject(object), `${this.#message.typeName} is answered with no object`);
    for (const { key, write } of fields) {
      const member = getOwn(object as Record<string, Source>, key);
      if (member !== undefined && member !== null) write(writer, member);
    }
  }

  #compile(): FieldWriter[] {
    return this.#message.fields.map((field) => ({ key: keyOf(field), write: this.#writers.field(field) }));
  }
}

/** Points have in answers one `vector`, whatever it holds. */
function keyOf({ name, parent }: DescField): string {
  const isPoint = name === "vectors" && /Point$/.test(parent.name);
  return isPoint ? "vector" : (renamed[name] ?? name);
}

const lengthTag = (number: number): number => (number << 3) | WireType.LengthDelimited;

/** The writers of all messages. */
export class MessageWriters {
  readonly #byName = new Map<string, MessageWriter>();

  encode(message: DescMessage, value: Source): Uint8Array {
    const writer = new BinaryWriter();
    this.#of(message).write(writer, value);
    return writer.finish();
  }

  #of(message: DescMessage): MessageWriter {
    let found = this.#byName.get(message.typeName);
    if (found === undefined) {
      found = new MessageWriter(message, this);
      this.#byName.set(message.typeName, found);
    }
    return found;
  }

  field(field: DescField): Write {
    const { number } = field;
    switch (field.fieldKind) {
      case "list": {
        if (field.listKind === "message") {
          const item = this.#nested(field.message, number);
          return (writer, value) => each(value, (one) => item(writer, one));
        }
        return this.#numbers(field);
      }
      case "map":
        return this.#map(field);
      case "message":
        return this.#nested(field.message, number);
      case "enum": {
        const numbers = numbersOf(field.enum);
        return (writer, value) => void writer.uint32(number << 3).int32(numbers.get(textIn(value)) ?? 0);
      }
      case "scalar":
        return scalarWriter(field.scalar, number, field.presence !== FeatureSet_FieldPresence.IMPLICIT);
    }
  }

  #nested(message: DescMessage, number: number): Write {
    const tag = lengthTag(number);
    if (message.typeName === "qdrant.Value") {
      return (writer, value) => {
        writer.uint32(tag).fork();
        writeValue(writer, value as JsonValue);
        writer.join();
      };
    }
    return (writer, value) => {
      writer.uint32(tag).fork();
      this.#of(message).write(writer, value);
      writer.join();
    };
  }

  /** Lists of texts, and of numbers, which are packed. */
  #numbers(field: DescField & { fieldKind: "list" }): Write {
    const type = field.scalar ?? ScalarType.INT32;
    const tag = lengthTag(field.number);
    if (type === ScalarType.STRING) {
      return (writer, value) => each(value, (one) => void writer.uint32(tag).string(textIn(one)));
    }
    const write = packed(type);
    return (writer, value) => {
      if (value instanceof Float32Array && type === ScalarType.FLOAT) {
        writer.uint32(tag).bytes(floatsToBytes(value));
        return;
      }
      writer.uint32(tag).fork();
      each(value, (one) => write(writer, one));
      writer.join();
    };
  }

  #map(field: DescField & { fieldKind: "map" }): Write {
    const { number } = field;
    const entry = lengthTag(number);
    if (field.message?.typeName === "qdrant.Value") {
      return (writer, value) => {
        const object = value instanceof JsonText ? parseJson(value.text) : value;
        if (!isSourceObject(object)) return;
        for (const [key, one] of Object.entries(object)) writeEntry(writer, number, key, one as JsonValue);
      };
    }
    assert(field.message !== undefined, `${field.name} is a map of scalars, which no answer has`);
    const write = this.#nested(field.message, 2);
    return (writer, value) => {
      if (!isSourceObject(value)) return;
      for (const [key, one] of Object.entries(value)) {
        writer.uint32(entry).fork().uint32(lengthTag(1)).string(key);
        write(writer, one);
        writer.join();
      }
    };
  }
}

function each(value: Source, write: (item: Source) => void): void {
  if (value instanceof Float32Array || Array.isArray(value)) for (const item of value as readonly Source[]) write(item);
}

function numbersOf(type: DescEnum): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const [number, word] of wordsOf(type)) if (word !== null) numbers.set(word, number);
  return numbers;
}

function numberIn(value: Source): number {
  return value instanceof JsonFloat ? value.value : Number(value);
}

function wholeIn(value: Source): string {
  return typeof value === "bigint" ? value.toString() : String(Math.trunc(numberIn(value)));
}

/** What has presence is written whatever it is; of the others the zeros are left out. */
function scalarWriter(type: ScalarType, number: number, hasPresence: boolean): Write {
  const varint = number << 3;
  switch (type) {
    case ScalarType.STRING:
      return (writer, value) => {
        if (hasPresence || value !== "") writer.uint32(lengthTag(number)).string(textIn(value));
      };
    case ScalarType.BOOL:
      return (writer, value) => {
        if (hasPresence || value === true) writer.uint32(varint).bool(value === true);
      };
    case ScalarType.DOUBLE:
      return (writer, value) => void writer.uint32((number << 3) | WireType.Bit64).double(numberIn(value));
    case ScalarType.FLOAT:
      return (writer, value) => void writer.uint32((number << 3) | WireType.Bit32).float(Math.fround(numberIn(value)));
    default: {
      const write = packed(type);
      return (writer, value) => {
        if (!hasPresence && wholeIn(value) === "0") return;
        writer.uint32(varint);
        write(writer, value);
      };
    }
  }
}

function packed(type: ScalarType): Write {
  switch (type) {
    case ScalarType.FLOAT:
      return (writer, value) => void writer.float(Math.fround(numberIn(value)));
    case ScalarType.UINT32:
      return (writer, value) => void writer.uint32(numberIn(value));
    case ScalarType.UINT64:
      return (writer, value) => void writer.uint64(wholeIn(value));
    case ScalarType.INT64:
      return (writer, value) => void writer.int64(wholeIn(value));
    case ScalarType.INT32:
      return (writer, value) => void writer.int32(numberIn(value));
    default:
      throw new Error(`nothing is known to write fields of the type ${ScalarType[type]}`);
  }
}
