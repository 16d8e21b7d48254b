import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { formatJson, isUuid, printJson } from "../../../libs/model/index.js";
import { filterToJson } from "../../../libs/filter/index.js";
import { bytesToFloats, filterFromWire, pb } from "../../../libs/wire/index.js";
import { isOffered, isPayload, isPlainValue, isVectorMap, shortName } from "./descriptors.js";

/** Messages of fewer bytes are printed at once. */
const pieceBytes = 64 * 1024;

/** Reads one value of the wire and gives its JSON text. */
type Print = (reader: BinaryReader) => string;
/** Reads one field, or one element of it, into its slot. */
type Take = (reader: BinaryReader, wireType: WireType, values: (string | undefined)[]) => void;

interface Slot {
  /** With quotes and colon. */
  readonly key: string;
  /** What prints the messages in it, where they are printed by their fields. */
  readonly nested: MessagePrinter | undefined;
  readonly open: string;
  readonly close: string;
  /** What stands there where the message has nothing; undefined: the key is left out. */
  readonly absent: string | undefined;
}

/** Writes the JSON of one message type from its protobuf. Compiled from the descriptor once, when it is first used. */
class MessagePrinter {
  readonly #message: DescMessage;
  readonly #printers: Printers;
  #fields: (Take | undefined)[] | undefined;
  #slots: Slot[] = [];
  /** By the number of a field: its slot, where that has messages which are printed by their fields. */
  #nestedSlots: (Slot | undefined)[] = [];

  constructor(message: DescMessage, printers: Printers) {
    this.#message = message;
    this.#printers = printers;
  }

  /** The next `length` bytes as JSON. */
  print(reader: BinaryReader, length: number): string {
    const fields = this.#fields ?? this.#compile();
    const slots = this.#slots;
    const values = new Array<string | undefined>(slots.length);
    const end = reader.pos + length;
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      const take = fields[number];
      if (take === undefined) reader.skip(wireType, number);
      else take(reader, wireType, values);
    }
    let text = "";
    for (let i = 0; i < slots.length; i++) {
      const { key, open, close, absent } = slots[i] as Slot;
      const value = values[i];
      const shown = value === undefined ? absent : open + value + close;
      if (shown !== undefined) text += (text === "" ? "" : ",") + key + shown;
    }
    return `{${text}}`;
  }

  /** The same in pieces, each with what one message has beside messages of its own, or a whole small message. */
  *pieces(bytes: Uint8Array): Generator<string, void, undefined> {
    const fields = this.#fields ?? this.#compile();
    const slots = this.#slots;
    const values = new Array<string | undefined>(slots.length);
    const parts = new Map<Slot, Uint8Array[]>();
    const reader = new BinaryReader(bytes);
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      const take = fields[number];
      const slot = this.#nestedSlots[number];
      if (take === undefined) reader.skip(wireType, number);
      else if (slot === undefined) take(reader, wireType, values);
      else {
        const known = parts.get(slot);
        if (known === undefined || slot.open === "") parts.set(slot, [reader.bytes()]);
        else known.push(reader.bytes());
      }
    }
    let separator = "{";
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i] as Slot;
      const messages = parts.get(slot);
      const value = values[i];
      const shown = value === undefined ? slot.absent : slot.open + value + slot.close;
      if (messages !== undefined && slot.nested !== undefined) {
        let lead = separator + slot.key + slot.open;
        for (const message of messages) {
          yield lead;
          if (message.length < pieceBytes) yield slot.nested.print(new BinaryReader(message), message.length);
          else yield* slot.nested.pieces(message);
          lead = ",";
        }
        yield slot.close;
        separator = ",";
      } else if (shown !== undefined) {
        yield separator + slot.key + shown;
        separator = ",";
      }
    }
    yield separator === "{" ? "{}" : "}";
  }

  #compile(): (Take | undefined)[] {
    const fields: (Take | undefined)[] = [];
    const slots: Slot[] = [];
    let plainValue: number | undefined;
    for (const field of this.#message.fields) {
      if (!isOffered(field)) continue;
      const isPlain = isPlainValue(field);
      const slot = (isPlain ? plainValue : undefined) ?? slots.length;
      if (slot === slots.length) {
        const key = `${JSON.stringify(isPlain ? "value" : field.jsonName)}:`;
        slots.push({ key, nested: this.#printers.nested(field), ...frameOf(field) });
      }
      if (isPlain) plainValue = slot;
      if (isVectorMap(field)) {
        // The one without a name stands beside the map.
        slots.push({ key: '"vector":', nested: undefined, open: "", close: "", absent: undefined });
        fields[field.number] = takeVector(slot);
      } else fields[field.number] = this.#printers.take(field, slot);
    }
    this.#slots = slots;
    this.#nestedSlots = fields.map(() => undefined);
    for (const field of this.#message.fields) {
      const slot = slots.find(({ key }) => key === `${JSON.stringify(field.jsonName)}:`);
      if (slot?.nested !== undefined) this.#nestedSlots[field.number] = slot;
    }
    this.#fields = fields;
    return fields;
  }
}

/** Numbers, texts, booleans and lists are always there; what has presence is where it is set; maps, payloads and enums where they say something. */
function frameOf(field: DescField): Omit<Slot, "key" | "nested"> {
  if (field.fieldKind === "list") return { open: "[", close: "]", absent: "[]" };
  if (field.fieldKind === "map") return { open: "{", close: "}", absent: undefined };
  const isImplicit = field.presence === FeatureSet_FieldPresence.IMPLICIT && field.oneof === undefined;
  if (field.fieldKind !== "scalar" || !isImplicit || isPayload(field))
    return { open: "", close: "", absent: undefined };
  if (field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES)
    return { open: "", close: "", absent: '""' };
  return { open: "", close: "", absent: field.scalar === ScalarType.BOOL ? "false" : "0" };
}

/** The printers of all message types. */
export class Printers {
  readonly #byName = new Map<string, MessagePrinter>();

  /** The JSON of a message. */
  print(message: DescMessage, bytes: Uint8Array): string {
    return this.#of(message).print(new BinaryReader(bytes), bytes.length);
  }

  /** The same in pieces: printed at once, an answer of 24 MB would keep everybody else waiting, and be there once more as text. */
  pieces(message: DescMessage, bytes: Uint8Array): Iterable<string> {
    return this.#of(message).pieces(bytes);
  }

  /** What prints the messages of a field; undefined where it has none, or they have a form of their own. */
  nested(field: DescField): MessagePrinter | undefined {
    const message = field.fieldKind === "message" || field.fieldKind === "list" ? field.message : undefined;
    if (message === undefined || Object.hasOwn(ownForms, message.typeName)) return undefined;
    return this.#of(message);
  }

  #of(message: DescMessage): MessagePrinter {
    let printer = this.#byName.get(message.typeName);
    if (printer === undefined) {
      printer = new MessagePrinter(message, this);
      this.#byName.set(message.typeName, printer);
    }
    return printer;
  }

  take(field: DescField, slot: number): Take {
    switch (field.fieldKind) {
      case "scalar": {
        const print = isPayload(field) ? printPayload : scalarPrinter(field.scalar);
        return (reader, _wireType, values) => void (values[slot] = print(reader));
      }
      case "enum": {
        const print = enumPrinter(field.enum);
        return (reader, _wireType, values) => void (values[slot] = print(reader));
      }
      case "message": {
        const print = this.#value(field.message);
        return (reader, _wireType, values) => void (values[slot] = print(reader));
      }
      case "list": {
        const print = isPayload(field)
          ? printPayload
          : field.listKind === "message"
            ? this.#value(field.message)
            : field.listKind === "enum"
              ? enumPrinter(field.enum)
              : scalarPrinter(field.scalar);
        const isPackable =
          field.listKind !== "message" && field.scalar !== ScalarType.STRING && field.scalar !== ScalarType.BYTES;
        return (reader, wireType, values) => {
          let text = values[slot];
          const end = isPackable && wireType === WireType.LengthDelimited ? reader.uint32() + reader.pos : undefined;
          if (end === undefined) text = text === undefined ? print(reader) : `${text},${print(reader)}`;
          else while (reader.pos < end) text = text === undefined ? print(reader) : `${text},${print(reader)}`;
          values[slot] = text;
        };
      }
      case "map": {
        const printKey: Print =
          field.mapKey === ScalarType.STRING ? printString : (reader) => `"${scalarPrinter(field.mapKey)(reader)}"`;
        const print =
          field.mapKind === "message"
            ? this.#value(field.message)
            : field.mapKind === "enum"
              ? enumPrinter(field.enum)
              : scalarPrinter(field.scalar);
        const absentKey = field.mapKey === ScalarType.STRING ? '""' : '"0"';
        const absentValue =
          field.mapKind === "message" ? "{}" : field.mapKind === "scalar" ? (emptyOf[field.scalar] ?? "0") : '""';
        return (reader, _wireType, values) => {
          const end = reader.uint32() + reader.pos;
          let key = absentKey;
          let value = absentValue;
          while (reader.pos < end) {
            const [number, wireType] = reader.tag();
            if (number === 1) key = printKey(reader);
            else if (number === 2) value = print(reader);
            else reader.skip(wireType, number);
          }
          const before = values[slot];
          values[slot] = `${before === undefined ? "" : `${before},`}${key}:${value}`;
        };
      }
    }
  }

  #value(message: DescMessage): Print {
    const own = ownForms[message.typeName];
    if (own !== undefined) return own;
    return (reader) => this.#of(message).print(reader, reader.uint32());
  }
}

const emptyOf: Partial<Record<ScalarType, string>> = { [ScalarType.STRING]: '""', [ScalarType.BOOL]: "false" };

function takeVector(slot: number): Take {
  return (reader, _wireType, values) => {
    const end = reader.uint32() + reader.pos;
    let name = "";
    let vector = "[]";
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      if (number === 1) name = reader.string();
      else if (number === 2) vector = printVector(reader);
      else reader.skip(wireType, number);
    }
    if (name === "") values[slot + 1] = vector;
    else {
      const before = values[slot];
      values[slot] = `${before === undefined ? "" : `${before},`}${JSON.stringify(name)}:${vector}`;
    }
  };
}

function scalarPrinter(type: ScalarType): Print {
  switch (type) {
    case ScalarType.STRING:
      return printString;
    case ScalarType.BOOL:
      return (reader) => (reader.bool() ? "true" : "false");
    case ScalarType.DOUBLE:
      return (reader) => doubleText(reader.double());
    case ScalarType.FLOAT:
      return (reader) => floatText(reader.float());
    case ScalarType.INT32:
      return (reader) => String(reader.int32());
    case ScalarType.UINT32:
      return (reader) => String(reader.uint32());
    case ScalarType.UINT64:
      return (reader) => String(reader.uint64());
    case ScalarType.INT64:
      return (reader) => String(reader.int64());
    case ScalarType.SINT64:
      return (reader) => String(reader.sint64());
    case ScalarType.BYTES:
      return (reader) => `"${Buffer.from(reader.bytes()).toString("base64")}"`;
    default:
      throw new Error(`no JSON is known for fields of the type ${ScalarType[type]}`);
  }
}

function enumPrinter(type: DescEnum): Print {
  const names = new Map(type.values.map(({ number, name }) => [number, JSON.stringify(shortName(type.name, name))]));
  return (reader) => {
    const number = reader.int32();
    return names.get(number) ?? String(number);
  };
}

const printString: Print = (reader) => JSON.stringify(reader.string());

const utf8 = new TextDecoder();

/** The text as it was written; without line breaks, so that it fits into a line of JSON lines. */
const printPayload: Print = (reader) => {
  const bytes = reader.bytes();
  const text = utf8.decode(bytes);
  return /[\r\n]/.test(text) ? formatJson(text) : text;
};

const printVector: Print = (reader) => {
  const end = reader.uint32() + reader.pos;
  let values: Float32Array = noFloats;
  let rows = 0;
  const indices: number[] = [];
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    if (number === 1 && wireType === WireType.LengthDelimited) values = bytesToFloats(reader.bytes());
    else if (number === 2 && wireType === WireType.Varint) rows = reader.uint32();
    else if (number === 3 && wireType === WireType.LengthDelimited) {
      for (const last = reader.uint32() + reader.pos; reader.pos < last; ) indices.push(reader.uint32());
    } else reader.skip(wireType, number);
  }
  if (indices.length > 0) return `{"indices":[${indices.join(",")}],"values":${floatsText(values)}}`;
  if (rows === 0) return floatsText(values);
  // A matrix: a list of its rows.
  const width = values.length / rows;
  const texts = Array.from({ length: rows }, (_, row) => floatsText(values.subarray(row * width, (row + 1) * width)));
  return `[${texts.join(",")}]`;
};

const noFloats = new Float32Array(0);

function floatsText(values: Float32Array): string {
  let text = "";
  for (let i = 0; i < values.length; i++) text += (i === 0 ? "" : ",") + floatText(values[i] as number);
  return `[${text}]`;
}

/** JSON has no literal for what is not finite; no score or vector of Kith is. */
function doubleText(value: number): string {
  return Number.isFinite(value) ? JSON.stringify(value) : "null";
}

/**
 * An f32 with the few digits that tell it from its neighbours, where the text of the double would have 17: `0.9`, not
 * `0.8999999761581421`. Seven to nine significant digits always do; they are tried by multiplication, since toPrecision() costs ten times as much.
 */
export function floatText(value: number): string {
  const size = Math.abs(value);
  // All whole numbers below are f32.
  if (size <= 2 ** 24 && Number.isInteger(value)) return String(value);
  if (!(size >= 1e-5 && size < 1e6)) return Number.isFinite(value) ? shortest(value) : "null";
  let scale = 1e7;
  for (let limit = 1; size >= limit; limit *= 10) scale /= 10;
  for (let limit = 0.1; size < limit; limit /= 10) scale *= 10;
  for (let digits = 7; digits <= 9; digits++, scale *= 10) {
    const rounded = Math.round(value * scale) / scale;
    if (Math.fround(rounded) === value) return String(rounded);
  }
  return shortest(value);
}

function shortest(value: number): string {
  for (let digits = 6; digits <= 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return String(rounded);
  }
  return String(value);
}

/** The fields of a PointId. */
const printId: Print = (reader) => {
  const end = reader.uint32() + reader.pos;
  let text = "null";
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    if (number === 1) text = String(reader.uint64());
    else if (number === 2) text = JSON.stringify(reader.string());
    else if (number === 3) {
      const name = reader.string();
      text = isUuid(name) ? `{"name":${JSON.stringify(name)}}` : JSON.stringify(name);
    } else reader.skip(wireType, number);
  }
  return text;
};

const printToken: Print = (reader) => `"${Buffer.from(reader.bytes()).toString("base64url")}"`;

const printTimestamp: Print = (reader) => {
  const end = reader.uint32() + reader.pos;
  let seconds = 0;
  let nanos = 0;
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    if (number === 1) seconds = Number(reader.int64());
    else if (number === 2) nanos = reader.int32();
    else reader.skip(wireType, number);
  }
  const date = new Date(seconds * 1000 + Math.floor(nanos / 1e6));
  return Number.isNaN(date.getTime()) ? "null" : JSON.stringify(date.toISOString());
};

const printFilter: Print = (reader) => printJson(filterToJson(filterFromWire(pb.Filter.decode(reader.bytes()))));

const ownForms: Readonly<Record<string, Print>> = {
  "kith.v1.PointId": printId,
  "kith.v1.Vector": printVector,
  "kith.v1.Filter": printFilter,
  "kith.v1.Token": printToken,
  "google.protobuf.Timestamp": printTimestamp,
};
