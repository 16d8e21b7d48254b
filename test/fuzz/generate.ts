import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Random } from "../../libs/base/index.js";
import { pick } from "./sending.js";

/** What texts may be: names that lead to something, so that most requests mean something. */
export interface Words {
  /** Of fields that name a collection. */
  readonly collections: readonly string[];
  /** Paths of the payload. */
  readonly keys: readonly string[];
  /** JSON texts. */
  readonly payloads: readonly string[];
  /** Of anything else. */
  readonly others: readonly string[];
}

const collectionFields = new Set(["collection", "collection_name", "name", "alias", "new_name", "new_alias"]);
const keyFields = new Set(["key", "path", "paths", "group_by", "field"]);
const payloadFields = new Set(["payload", "payloads"]);
/** Without which hardly anything is asked. */
const usual = new Map([
  ...[
    "vectors",
    "values",
    "id",
    "ids",
    "points",
    "keyword",
    "must",
    "operations",
    "queries",
    "payload",
    "target",
    "key",
    "paths",
    "group_by",
  ].map((name): [string, number] => [name, 0.85]),
  // Of which a query has one.
  ["vector", 0.4],
  ["query", 0.45],
  // Which few requests may have.
  ["partition", 0.01],
  ["payload_struct", 0.01],
]);
const numbers = [0, 1, 1, 2, 2, 3, 3, 5, 10, 100, -1, 127, 10_001, 2 ** 31 - 1];
const floats = [0, 1, -1, 0.5, 2, 3, 1e-3, 1e38, Number.NaN, Infinity];
const depthMax = 8;

/** A request of a call as its descriptors allow: few or many of its fields, as chance takes them. */
export function generateMessage(message: DescMessage, words: Words, random: Random): Buffer {
  return messageOf(message, { words, random, density: pick(densities, random) }, 0);
}

/** How likely a field is there: with many of them hardly a request is good, with few of them nothing meets. */
const densities = [0.04, 0.04, 0.1, 0.35];

interface Chances {
  readonly words: Words;
  readonly random: Random;
  readonly density: number;
}

function messageOf(message: DescMessage, chances: Chances, depth: number): Buffer {
  const { random, density } = chances;
  const writer = new BinaryWriter();
  const chosen = new Set<DescField>();
  for (const { fields } of message.oneofs)
    if (random.float() < (depth === 0 ? 0.7 : 0.9)) chosen.add(pick(fields, random));
  for (const field of message.fields) {
    if (field.oneof !== undefined ? chosen.has(field) : isTaken(field, random, density, depth)) {
      write(writer, field, chances, depth);
    }
  }
  return Buffer.from(writer.finish());
}

function isTaken(field: DescField, random: Random, density: number, depth: number): boolean {
  if (collectionFields.has(field.name) && field.name !== "collection") return random.float() < 0.95;
  // Within others it is mostly that of the whole.
  if (field.name === "collection") return random.float() < (depth === 0 ? 0.97 : 0.1);
  return depth < depthMax && random.float() < (usual.get(field.name) ?? density);
}

function write(writer: BinaryWriter, field: DescField, chances: Chances, depth: number): void {
  const { words, random } = chances;
  switch (field.fieldKind) {
    case "scalar":
      writeScalar(writer, field.number, field.scalar, field.name, words, random);
      return;
    case "enum":
      writer.tag(field.number, WireType.Varint).int32(pick(field.enum.values, random).number);
      return;
    case "message":
      writer.tag(field.number, WireType.LengthDelimited);
      writer.bytes(inner(field.message, chances, depth));
      return;
    case "list": {
      for (let left = 1 + Math.floor(random.float() * 3); left > 0; left--) {
        if (field.listKind === "scalar") {
          writeScalar(writer, field.number, field.scalar, field.name, words, random);
        } else if (field.listKind === "enum") {
          writer.tag(field.number, WireType.Varint).int32(pick(field.enum.values, random).number);
        } else {
          writer.tag(field.number, WireType.LengthDelimited);
          writer.bytes(inner(field.message, chances, depth));
        }
      }
      return;
    }
    case "map": {
      const entry = new BinaryWriter();
      if (field.mapKey === ScalarType.STRING)
        entry.tag(1, WireType.LengthDelimited).string(pick(["", "", "sparse", "tokens"], random));
      if (field.mapKind === "message") {
        entry.tag(2, WireType.LengthDelimited).bytes(inner(field.message, chances, depth));
      } else if (field.mapKind === "scalar") writeScalar(entry, 2, field.scalar, field.name, words, random);
      writer.tag(field.number, WireType.LengthDelimited).bytes(entry.finish());
    }
  }
}

function inner(message: DescMessage, chances: Chances, depth: number): Uint8Array {
  return depth >= depthMax ? new Uint8Array() : messageOf(message, chances, depth + 1);
}

function writeScalar(
  writer: BinaryWriter,
  number: number,
  scalar: ScalarType,
  name: string,
  words: Words,
  random: Random,
): void {
  const whole = pick(numbers, random);
  switch (scalar) {
    case ScalarType.STRING:
      writer.tag(number, WireType.LengthDelimited).string(textOf(name, words, random));
      return;
    case ScalarType.BYTES: {
      const bytes = payloadFields.has(name) ? Buffer.from(pick(words.payloads, random)) : floatBytes(random);
      writer.tag(number, WireType.LengthDelimited).bytes(bytes);
      return;
    }
    case ScalarType.BOOL:
      writer.tag(number, WireType.Varint).bool(random.float() < 0.5);
      return;
    case ScalarType.FLOAT:
      writer.tag(number, WireType.Bit32).float(pick(floats, random));
      return;
    case ScalarType.DOUBLE:
      writer.tag(number, WireType.Bit64).double(pick(floats, random));
      return;
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      writer.tag(number, WireType.Bit32).sfixed32(whole);
      return;
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      writer.tag(number, WireType.Bit64).sfixed64(whole);
      return;
    case ScalarType.SINT32:
      writer.tag(number, WireType.Varint).sint32(whole);
      return;
    case ScalarType.SINT64:
      writer.tag(number, WireType.Varint).sint64(whole);
      return;
    default:
      writer.tag(number, WireType.Varint).int64(whole);
  }
}

function textOf(name: string, words: Words, random: Random): string {
  if (name === "uuid" && random.float() < 0.9) return "550e8400-e29b-41d4-a716-446655440000";
  const own = collectionFields.has(name) ? words.collections : keyFields.has(name) ? words.keys : words.others;
  return pick(random.float() < 0.95 ? own : words.others, random);
}

/** A vector or a row or two of three components, in most cases. */
function floatBytes(random: Random): Buffer {
  const length = pick([3, 3, 3, 3, 6, 1, 0], random);
  const odd = random.float() < 0.05;
  return Buffer.from(Float32Array.from({ length }, () => (odd ? pick(floats, random) : random.float() * 5)).buffer);
}
