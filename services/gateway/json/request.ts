import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { assert, KithError } from "../../../libs/base/index.js";
import { filterFromJson, parseFilter } from "../../../libs/filter/index.js";
import { isUuid, isWellFormed, parseJson } from "../../../libs/model/index.js";
import { filterToWire, floatsToBytes, pb } from "../../../libs/wire/index.js";
import { isOffered, isPayload, isVectorMap, shortName } from "./descriptors.js";
import { JsonScanner } from "./scanner.js";

/** A field whose value does not come from the body: of the path, the query or a header. */
export interface Bound {
  /** Field names of the message, outermost first. */
  readonly path: readonly string[];
  /** A text, or the bytes of a message. */
  readonly value: string | Uint8Array;
  /** "the path", "the header Idempotency-Key": for the error where the body has it too. */
  readonly source: string;
  /** The body's wins where it has one. */
  readonly yields?: boolean;
}

type Read = (scanner: JsonScanner, writer: BinaryWriter, bound?: readonly Bound[]) => void;

interface FieldReader {
  readonly field: DescField;
  /** Its place among the keys of the message, to notice those that come twice. */
  readonly index: number;
  /** Reads the value, tags and lengths included. */
  readonly read: Read;
}

const nothing: readonly Bound[] = [];

/** Reads the JSON of one message type and writes its protobuf. Compiled from the descriptor once, when it is first used. */
export class MessageReader {
  readonly #message: DescMessage;
  readonly #readers: Readers;
  #fields: Map<string, FieldReader> | undefined;

  constructor(message: DescMessage, readers: Readers) {
    this.#message = message;
    this.#readers = readers;
  }

  /** INVALID_ARGUMENT, with the place, for what is not JSON, for keys that the message does not have and for values of another type. */
  read(scanner: JsonScanner, writer: BinaryWriter, bound: readonly Bound[] = nothing): void {
    const fields = this.#compiled();
    let seen = 0n;
    const oneofs = new Set<string>();
    let pending = bound;
    scanner.object((key) => {
      const reader = fields.get(key);
      if (reader === undefined) throw this.#unknown(scanner, key, bound);
      const { field, index } = reader;
      if (scanner.takeNull()) return;
      const bit = 1n << BigInt(index);
      if ((seen & bit) !== 0n) throw scanner.refuse("the key is given twice");
      seen |= bit;
      if (field.oneof !== undefined) {
        if (oneofs.has(field.oneof.name)) {
          const names = field.oneof.fields.map(({ jsonName }) => jsonName).join(", ");
          throw scanner.refuse(`only one of ${names} can be given`);
        }
        oneofs.add(field.oneof.name);
      }
      if (pending.length === 0) {
        reader.read(scanner, writer);
        return;
      }
      const inner: Bound[] = [];
      const left: Bound[] = [];
      for (const each of pending) {
        if (each.path[0] !== field.name) left.push(each);
        else if (each.path.length > 1) inner.push({ ...each, path: each.path.slice(1) });
        else if (each.yields !== true) throw scanner.refuse(`it is given by ${each.source}; leave it out here`);
      }
      pending = left;
      reader.read(scanner, writer, inner);
    });
    if (pending.length > 0) this.writeBound(writer, pending);
  }

  /** Writes fields that the body does not have. */
  writeBound(writer: BinaryWriter, bound: readonly Bound[]): void {
    const byField = new Map<string, Bound[]>();
    for (const each of bound) {
      const name = each.path[0] as string;
      byField.set(name, [...(byField.get(name) ?? []), each]);
    }
    for (const [name, all] of byField) {
      const field = this.#message.fields.find((each) => each.name === name);
      assert(field !== undefined, `${this.#message.typeName} has no field ${name}`);
      // Messages of a list have what is bound only where they are.
      if (field.fieldKind === "list") continue;
      const tag = (field.number << 3) | WireType.LengthDelimited;
      const [only] = all as [Bound];
      if (only.path.length === 1) {
        if (typeof only.value === "string") {
          if (field.fieldKind === "scalar" && field.scalar !== ScalarType.STRING) {
            const scanner = new JsonScanner(only.value);
            scanner.path.push(field.jsonName);
            this.#readers.field(field)(scanner, writer);
            scanner.end();
          } else writer.uint32(tag).string(only.value);
        } else writer.uint32(tag).bytes(only.value);
        continue;
      }
      assert(field.fieldKind === "message", `${field.name} is no message`);
      writer.uint32(tag).fork();
      const inner = all.map((each) => ({ ...each, path: each.path.slice(1) }));
      this.#readers.of(field.message).writeBound(writer, inner);
      writer.join();
    }
  }

  #compiled(): Map<string, FieldReader> {
    if (this.#fields !== undefined) return this.#fields;
    const fields = new Map<string, FieldReader>();
    this.#message.fields.forEach((field, index) => {
      if (!isOffered(field)) return;
      const rows = this.#message.fields.find(({ name }) => name === `${field.name}_rows`);
      const read = rows === undefined ? this.#readers.field(field) : matrixReader(field, rows);
      const reader = { field, index, read };
      // As protobuf's own JSON: lowerCamelCase, and the names of the proto file.
      fields.set(field.name, reader);
      fields.set(field.jsonName, reader);
      if (!isVectorMap(field)) return;
      const tag = tagOf(field);
      fields.set("vector", {
        field,
        index: this.#message.fields.length,
        read: (scanner, writer) => {
          writer.uint32(tag).fork().uint32(keyTag).string("").uint32(valueTag).fork();
          writeVector(scanner, writer);
          writer.join().join();
        },
      });
    });
    this.#fields = fields;
    return fields;
  }

  #unknown(scanner: JsonScanner, key: string, bound: readonly Bound[]): KithError {
    const elsewhere = new Set(bound.filter(({ path }) => path.length === 1).map(({ path }) => path[0]));
    const known = new Set<string>();
    for (const [name, { field }] of this.#compiled()) {
      if (!elsewhere.has(field.name)) known.add(name === "vector" ? name : field.jsonName);
    }
    return scanner.refuse(
      `unknown key ${JSON.stringify(key.slice(0, 64))}; known here: ${[...known].join(", ") || "none"}`,
    );
  }
}

/** Of a list of numbers beside which another field says how many rows of a matrix it holds: the list may be one of lists, too. */
function matrixReader(field: DescField, rows: DescField): Read {
  return (scanner, writer) => {
    const matrix = scanner.isNested() ? scanner.rows() : undefined;
    writer.uint32(tagOf(field)).bytes(floatsToBytes(matrix?.values ?? scanner.floats()));
    if (matrix !== undefined) writer.uint32((rows.number << 3) | WireType.Varint).uint32(matrix.rows);
  };
}

const keyTag = (1 << 3) | WireType.LengthDelimited;
const valueTag = (2 << 3) | WireType.LengthDelimited;

function tagOf(field: DescField): number {
  return (field.number << 3) | WireType.LengthDelimited;
}

/** The readers of all message types. */
export class Readers {
  readonly #byName = new Map<string, MessageReader>();

  of(message: DescMessage): MessageReader {
    let reader = this.#byName.get(message.typeName);
    if (reader === undefined) {
      reader = new MessageReader(message, this);
      this.#byName.set(message.typeName, reader);
    }
    return reader;
  }

  /** The protobuf of the message that `text` is; an empty text is a message without fields. */
  encode(message: DescMessage, text: string, bound: readonly Bound[] = nothing): Uint8Array {
    const writer = new BinaryWriter();
    const scanner = new JsonScanner(text);
    const reader = this.of(message);
    if (Number.isNaN(scanner.peek())) reader.writeBound(writer, bound);
    else {
      reader.read(scanner, writer, bound);
      scanner.end();
    }
    return writer.finish();
  }

  field(field: DescField): Read {
    const tag = tagOf(field);
    switch (field.fieldKind) {
      case "scalar":
        if (isPayload(field)) return (scanner, writer) => writePayload(scanner, writer.uint32(tag));
        return scalarReader(field.scalar, field.number);
      case "enum":
        return enumReader(field.enum, field.number);
      case "message":
        return nested(tag, this.#value(field.message));
      case "list": {
        if (field.listKind === "scalar" && field.scalar === ScalarType.FLOAT) {
          return (scanner, writer) => void writer.uint32(tag).bytes(floatsToBytes(scanner.floats()));
        }
        const item: Read = isPayload(field)
          ? (scanner, writer) => writePayload(scanner, writer.uint32(tag))
          : field.listKind === "message"
            ? nested(tag, this.#value(field.message))
            : field.listKind === "enum"
              ? enumReader(field.enum, field.number)
              : scalarReader(field.scalar, field.number);
        return (scanner, writer, bound) => scanner.array(() => item(scanner, writer, bound));
      }
      case "map": {
        const value: Read =
          field.mapKind === "message"
            ? nested(valueTag, this.#value(field.message))
            : field.mapKind === "enum"
              ? enumReader(field.enum, 2)
              : scalarReader(field.scalar, 2);
        const writeKey = keyWriter(field.mapKey);
        return (scanner, writer) =>
          scanner.object((key) => {
            writer.uint32(tag).fork();
            writeKey(scanner, writer, key);
            value(scanner, writer);
            writer.join();
          });
      }
    }
  }

  /** The fields of a message, by those that have a JSON form of their own. */
  #value(message: DescMessage): Read {
    const own = ownForms[message.typeName];
    if (own !== undefined) return own;
    // Looked up when it is needed: messages contain each other.
    return (scanner, writer, bound) => this.of(message).read(scanner, writer, bound);
  }
}

function nested(tag: number, read: Read): Read {
  return (scanner, writer, bound) => {
    writer.uint32(tag).fork();
    read(scanner, writer, bound);
    writer.join();
  };
}

function keyWriter(type: ScalarType): (scanner: JsonScanner, writer: BinaryWriter, key: string) => void {
  if (type === ScalarType.STRING) return (_scanner, writer, key) => void writer.uint32(keyTag).string(key);
  assert(type === ScalarType.UINT32, "maps have keys of texts or of u32");
  return (scanner, writer, key) => {
    if (!/^\d{1,10}$/.test(key) || Number(key) > 0xffff_ffff) throw scanner.refuse("the key must be a whole number");
    writer.uint32(1 << 3).uint32(Number(key));
  };
}

function scalarReader(type: ScalarType, number: number): Read {
  const varint = number << 3;
  const bytes = (number << 3) | WireType.LengthDelimited;
  switch (type) {
    case ScalarType.STRING:
      return (scanner, writer) => void writer.uint32(bytes).string(scanner.string());
    case ScalarType.BOOL:
      return (scanner, writer) => void writer.uint32(varint).bool(scanner.boolean());
    case ScalarType.DOUBLE:
      return (scanner, writer) => void writer.uint32((number << 3) | WireType.Bit64).double(scanner.number());
    case ScalarType.FLOAT:
      return (scanner, writer) =>
        void writer.uint32((number << 3) | WireType.Bit32).float(Math.fround(scanner.number()));
    case ScalarType.UINT32:
      return (scanner, writer) => void writer.uint32(varint).uint32(Number(wholeIn(scanner, 0n, 0xffff_ffffn)));
    case ScalarType.UINT64:
      return (scanner, writer) => void writer.uint32(varint).uint64(wholeIn(scanner, 0n, u64Max));
    case ScalarType.INT64:
      return (scanner, writer) => void writer.uint32(varint).int64(wholeIn(scanner, -i64Max - 1n, i64Max));
    case ScalarType.SINT64:
      return (scanner, writer) => void writer.uint32(varint).sint64(wholeIn(scanner, -i64Max - 1n, i64Max));
    case ScalarType.BYTES:
      return (scanner, writer) => void writer.uint32(bytes).bytes(base64(scanner));
    default:
      throw new Error(`no JSON is known for fields of the type ${ScalarType[type]}`);
  }
}

const u64Max = 0xffff_ffff_ffff_ffffn;
const i64Max = 0x7fff_ffff_ffff_ffffn;

function wholeIn(scanner: JsonScanner, min: bigint, max: bigint): string {
  const digits = scanner.whole();
  // Nothing of 15 digits and no sign is beyond any of the types but u32.
  if (digits.length <= 9 && digits[0] !== "-") return digits;
  if (digits.length > 21) throw scanner.refuse(`${digits.slice(0, 24)}... is out of range: ${min}..${max}`);
  const value = BigInt(digits);
  if (value < min || value > max) throw scanner.refuse(`${digits} is out of range: ${min}..${max}`);
  return digits;
}

function base64(scanner: JsonScanner): Uint8Array {
  const text = scanner.string("bytes as base64");
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) throw scanner.refuse("expected bytes as base64");
  return Buffer.from(text, "base64");
}

function enumReader(type: DescEnum, number: number): Read {
  return (scanner, writer) => {
    const text = scanner.string(`one of ${namesOf(type).join(", ")}`);
    writer.uint32(number << 3).int32(enumNumber(type, text, scanner.where));
  };
}

function namesOf(type: DescEnum): string[] {
  return type.values.filter((each) => each.number !== 0).map((each) => shortName(type.name, each.name));
}

function enumNumber(type: DescEnum, text: string, where: string): number {
  const value = type.values.find((each) => each.name === text || shortName(type.name, each.name) === text);
  if (value !== undefined) return value.number;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${where}: ${JSON.stringify(text.slice(0, 40))} is unknown; use one of ${namesOf(type).join(", ")}`,
    { details: { field: where } },
  );
}

function writePayload(scanner: JsonScanner, writer: BinaryWriter): void {
  if (scanner.peek() !== 0x7b) throw scanner.wrong("the payload, an object");
  writer.bytes(Buffer.from(scanner.raw(), "utf8"));
}

/** A list of numbers; of a sparse vector {"indices": [...], "values": [...]}. */
function writeVector(scanner: JsonScanner, writer: BinaryWriter): void {
  if (scanner.isNested()) {
    const { values, rows } = scanner.rows();
    writer.uint32((1 << 3) | WireType.LengthDelimited).bytes(floatsToBytes(values));
    writer.uint32((2 << 3) | WireType.Varint).uint32(rows);
    return;
  }
  if (scanner.peek() !== 0x7b) return writeValues(scanner.floats(), writer);
  scanner.object((key) => {
    if (key === "values") writeValues(scanner.floats(), writer);
    else if (key === "indices") writeIndices(scanner, writer);
    else throw scanner.refuse('a sparse vector is {"indices": [...], "values": [...]}');
  });
}

function writeValues(floats: Float32Array, writer: BinaryWriter): void {
  if (floats.length > 0) writer.uint32((1 << 3) | WireType.LengthDelimited).bytes(floatsToBytes(floats));
}

function writeIndices(scanner: JsonScanner, writer: BinaryWriter): void {
  writer.uint32((3 << 3) | WireType.LengthDelimited).fork();
  scanner.array(() => writer.uint32(Number(wholeIn(scanner, 0n, 0xffff_ffffn))));
  writer.join();
}

/** A number, a UUID, any other text as a name; `{"name": ...}` for a name that looks like a UUID. */
function writeId(scanner: JsonScanner, writer: BinaryWriter): void {
  const code = scanner.peek();
  if (code === 0x22) {
    const text = scanner.string("an id", "INVALID_ID");
    const field = isUuid(text) ? 2 : 3;
    writer.uint32((field << 3) | WireType.LengthDelimited).string(text);
    return;
  }
  if (code === 0x7b) {
    let name: string | undefined;
    scanner.object((key) => {
      if (key !== "name") throw scanner.refuse('an id as an object is {"name": "..."}');
      name = scanner.string("an id", "INVALID_ID");
    });
    if (name === undefined) throw scanner.refuse('an id as an object is {"name": "..."}');
    writer.uint32((3 << 3) | WireType.LengthDelimited).string(name);
    return;
  }
  const numeral = scanner.numeral();
  if (numeral === undefined) throw scanner.wrong("an id: a whole number or a text");
  if (!/^\d{1,20}$/.test(numeral) || BigInt(numeral) > u64Max) {
    throw new KithError("INVALID_ID", `${scanner.where}: the id ${numeral.slice(0, 40)} is not in 0..${u64Max}`, {
      details: { id: numeral.slice(0, 40) },
    });
  }
  writer.uint32(1 << 3).uint64(numeral);
}

function writeFilter(scanner: JsonScanner, writer: BinaryWriter): void {
  const at = scanner.where;
  const filter =
    scanner.peek() === 0x22 ? parseFilter(scanner.string()) : filterFromJson(parseJson(scanner.raw()), at || "filter");
  writer.raw(pb.Filter.encode(filterToWire(filter)).finish());
}

function writeToken(scanner: JsonScanner, writer: BinaryWriter): void {
  writer.raw(tokenBytes(scanner.string("a token as answers give it")));
}

/** The bytes of a token as answers and the header Kith-Token give it. INVALID_TOKEN. */
export function tokenBytes(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  try {
    if (!/^[A-Za-z0-9_-]{0,8192}$/.test(text)) throw new Error("it is not base64url");
    pb.Token.decode(bytes);
  } catch (cause) {
    throw new KithError("INVALID_TOKEN", `the token is none that an answer gave: ${(cause as Error).message}`, {
      cause,
    });
  }
  return bytes;
}

function writeTimestamp(scanner: JsonScanner, writer: BinaryWriter): void {
  const text = scanner.string("a time such as 2026-01-31T12:00:00Z");
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const ms = match === null ? NaN : Date.parse(`${match[1]}${match[3]}`);
  if (match === null || Number.isNaN(ms)) {
    throw scanner.refuse(`${JSON.stringify(text.slice(0, 40))} is no time of RFC 3339, like 2026-01-31T12:00:00Z`);
  }
  const nanos = Number((match[2] ?? "").padEnd(9, "0"));
  writer.uint32(1 << 3).int64(Math.floor(ms / 1000));
  if (nanos !== 0) writer.uint32(2 << 3).int32(nanos);
}

/** Messages whose JSON is not that of their fields. */
const ownForms: Readonly<Record<string, Read>> = {
  "kith.v1.PointId": writeId,
  "kith.v1.Vector": writeVector,
  "kith.v1.Filter": writeFilter,
  "kith.v1.Token": writeToken,
  "google.protobuf.Timestamp": writeTimestamp,
};

/** Whether UTF-8 can hold it; what comes in a path or a header may not. */
export function checkText(text: string, what: string): string {
  if (isWellFormed(text)) return text;
  throw new KithError("INVALID_ARGUMENT", `${what} is not valid UTF-8`);
}
