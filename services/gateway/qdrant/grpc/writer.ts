import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { WireType } from "@bufbuild/protobuf/wire";
import { assert, type Clock, getOwn } from "../../../../libs/base/index.js";
import { JsonFloat, type JsonObject, type JsonValue, parseJson } from "../../../../libs/model/index.js";
import { BackwardWriter, floatsToBytes, turnBytes } from "../../../../libs/wire/index.js";
import { JsonText } from "../values.js";
import { writeJsonEntries } from "./json-bytes.js";
import { writeEntries, writeValue } from "./json-value.js";
import { outbound } from "./outbound.js";
import { renamed, shortName, wordsOf } from "./schema.js";
import { isSourceObject, type Source, type SourceObject, textIn } from "./source.js";

type Write = (value: Source) => void;
/** Writes as `Write` does, and stops where others are to have the event loop. */
type Steps = Generator<void, void, undefined>;
type WriteBySteps = (value: Source) => Steps;

interface FieldWriter {
  readonly key: string;
  readonly write: Write;
  /** Of fields that may be large. */
  readonly steps: WriteBySteps | undefined;
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

  write(value: Source): void {
    const fields = (this.#fields ??= this.#compile());
    const object = this.#objectOf(value);
    for (const { key, write } of fields) {
      const member = getOwn(object, key);
      if (member !== undefined && member !== null) write(member);
    }
  }

  *steps(value: Source): Steps {
    const fields = (this.#fields ??= this.#compile());
    const object = this.#objectOf(value);
    for (const { key, write, steps } of fields) {
      const member = getOwn(object, key);
      if (member === undefined || member === null) continue;
      if (steps === undefined) write(member);
      else yield* steps(member);
    }
  }

  #objectOf(value: Source): Record<string, Source> {
    const given: Source = value instanceof JsonText ? parseJson(value.text) : value;
    const object = this.#form === undefined ? given : this.#form(given);
    assert(isSourceObject(object), `${this.#message.typeName} is answered with no object`);
    return object;
  }

  #compile(): FieldWriter[] {
    return this.#message.fields
      .toSorted((a, b) => b.number - a.number)
      .map((field) => ({ key: keyOf(field), write: this.#writers.field(field), steps: this.#writers.steps(field) }));
  }
}

/** Points have in answers one `vector`, whatever it holds. */
function keyOf({ name, parent }: DescField): string {
  const isPoint = name === "vectors" && /Point$/.test(parent.name);
  return isPoint ? "vector" : (renamed[name] ?? name);
}

/** That of the message which is being written; a large one, which others interrupt, has its own. */
let writer = new BackwardWriter();

/** The writers of all messages. Messages are written from their end: what is nested needs no buffer of its own then, of which a list of points has two each. */
export class MessageWriters {
  readonly #byName = new Map<string, MessageWriter>();

  /** A large message is written in turns of the event loop. */
  encode(message: DescMessage, value: Source, clock: Pick<Clock, "soon">): Buffer | Promise<Buffer> {
    const steps = this.#of(message).steps(value);
    try {
      return steps.next().done === true ? writer.finish() : this.#goOn(steps, clock);
    } catch (error) {
      writer.clear();
      throw error;
    }
  }

  async #goOn(steps: Steps, clock: Pick<Clock, "soon">): Promise<Buffer> {
    const own = writer;
    writer = new BackwardWriter();
    for (let isDone = false; !isDone; ) {
      await new Promise<void>((resolve) => clock.soon(resolve));
      const others = writer;
      writer = own;
      try {
        isDone = steps.next().done === true;
      } finally {
        writer = others;
      }
    }
    return own.finish();
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
          return (value) => eachFromEnd(value, item);
        }
        return numbersWriter(field);
      }
      case "map":
        return this.#map(field);
      case "message":
        return this.#nested(field.message, number);
      case "enum": {
        const numbers = numbersOf(field.enum);
        return (value) => {
          writer.varint(numbers.get(textIn(value)) ?? 0);
          writer.tag(number, WireType.Varint);
        };
      }
      case "scalar":
        return scalarWriter(field.scalar, number, field.presence !== FeatureSet_FieldPresence.IMPLICIT);
    }
  }

  /** Of lists of messages, and of messages that have such: of an answer these may have many bytes. */
  steps(field: DescField): WriteBySteps | undefined {
    const { number, message } = field;
    if (message === undefined || message.typeName === "qdrant.Value") return undefined;
    if (field.fieldKind === "list") {
      const item = hasLists(message) ? this.#nestedSteps(message, number) : this.#nested(message, number);
      return (value) => eachFromEndBySteps(value, item);
    }
    return field.fieldKind === "message" && hasLists(message) ? this.#nestedSteps(message, number) : undefined;
  }

  #nestedSteps(message: DescMessage, number: number): WriteBySteps {
    let own: MessageWriter | undefined;
    const of = (): MessageWriter => (own ??= this.#of(message));
    return function* (value) {
      const end = writer.length;
      yield* of().steps(value);
      writer.nested(number, end);
    };
  }

  #nested(message: DescMessage, number: number): Write {
    if (message.typeName === "qdrant.Value") {
      return (value) => {
        const end = writer.length;
        writeValue(writer, value as JsonValue);
        writer.nested(number, end);
      };
    }
    let own: MessageWriter | undefined;
    return (value) => {
      const end = writer.length;
      (own ??= this.#of(message)).write(value);
      writer.nested(number, end);
    };
  }

  #map(field: DescField & { fieldKind: "map" }): Write {
    const { number } = field;
    if (field.message?.typeName === "qdrant.Value") {
      return (value) => {
        if (value instanceof JsonText) {
          const { bytes } = value;
          writeJsonEntries(writer, number, bytes, 0, bytes.length);
        } else if (isSourceObject(value)) writeEntries(writer, number, value as JsonObject);
      };
    }
    assert(field.message !== undefined, `${field.name} is a map of scalars, which no answer has`);
    const write = this.#nested(field.message, 2);
    return (value) => {
      if (!isSourceObject(value)) return;
      for (const [key, one] of Object.entries(value).reverse()) {
        const end = writer.length;
        write(one);
        const keyEnd = writer.length;
        writer.text(key);
        writer.nested(1, keyEnd);
        writer.nested(number, end);
      }
    };
  }
}

/** Lists of texts, and of numbers, which are packed. */
function numbersWriter({ number, scalar }: DescField & { fieldKind: "list" }): Write {
  const type = scalar ?? ScalarType.INT32;
  if (type === ScalarType.STRING) {
    return (value) =>
      eachFromEnd(value, (one) => {
        const end = writer.length;
        writer.text(textIn(one));
        writer.nested(number, end);
      });
  }
  const write = packed(type);
  return (value) => {
    const end = writer.length;
    if (value instanceof Float32Array && type === ScalarType.FLOAT) writer.bytes(floatsToBytes(value));
    else eachFromEnd(value, write);
    if (writer.length > end) writer.nested(number, end);
  };
}

function eachFromEnd(value: Source, write: Write): void {
  if (!(value instanceof Float32Array || Array.isArray(value))) return;
  const items = value as readonly Source[];
  for (let i = items.length - 1; i >= 0; i--) write(items[i]);
}

function* eachFromEndBySteps(value: Source, write: Write | WriteBySteps): Steps {
  if (!Array.isArray(value)) return;
  const items = value as readonly Source[];
  let from = writer.length;
  for (let i = items.length - 1; i >= 0; i--) {
    const steps = write(items[i]);
    if (steps !== undefined) yield* steps;
    if (writer.length - from < turnBytes) continue;
    yield;
    from = writer.length;
  }
}

function hasLists({ fields }: DescMessage): boolean {
  return fields.some((field) => field.fieldKind === "list" && field.listKind === "message");
}

function numbersOf(type: DescEnum): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const [number, word] of wordsOf(type)) if (word !== null) numbers.set(word, number);
  return numbers;
}

function numberIn(value: Source): number {
  return value instanceof JsonFloat ? value.value : Number(value);
}

function wholeIn(value: Source): number | bigint {
  return typeof value === "bigint" ? value : Math.trunc(numberIn(value));
}

/** What has presence is written whatever it is; of the others the zeros are left out. */
function scalarWriter(type: ScalarType, number: number, hasPresence: boolean): Write {
  switch (type) {
    case ScalarType.STRING:
      return (value) => {
        if (!hasPresence && value === "") return;
        const end = writer.length;
        writer.text(textIn(value));
        writer.nested(number, end);
      };
    case ScalarType.BOOL:
      return (value) => {
        if (!hasPresence && value !== true) return;
        writer.varint(value === true ? 1 : 0);
        writer.tag(number, WireType.Varint);
      };
    case ScalarType.DOUBLE:
      return (value) => {
        writer.double(numberIn(value));
        writer.tag(number, WireType.Bit64);
      };
    case ScalarType.FLOAT:
      return (value) => {
        writer.float(numberIn(value));
        writer.tag(number, WireType.Bit32);
      };
    default: {
      const write = packed(type);
      return (value) => {
        const whole = wholeIn(value);
        if (!hasPresence && (whole === 0 || whole === 0n)) return;
        write(whole);
        writer.tag(number, WireType.Varint);
      };
    }
  }
}

function packed(type: ScalarType): Write {
  switch (type) {
    case ScalarType.FLOAT:
      return (value) => writer.float(numberIn(value));
    case ScalarType.UINT32:
    case ScalarType.UINT64:
    case ScalarType.INT64:
    case ScalarType.INT32:
      return (value) => writer.whole(wholeIn(value));
    default:
      throw new Error(`nothing is known to write fields of the type ${ScalarType[type]}`);
  }
}
