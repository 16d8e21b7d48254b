import { isErrorCode } from "../../base/index.js";
import { failureOf, noFailures, type Outcome } from "./outcome.js";

export interface StoredOutcomes {
  /** The log's time when they were applied. */
  timeMs: number;
  operations: { id: string; outcome: Outcome }[];
}

/** The first byte of the stored form. Before there was one, it was the lowest of a double that held milliseconds: 0. */
const outcomesFormat = 2;
/** The same with what shards of before had done: written where there is such. */
const mergedFormat = 3;
const openFlag = 1;

/**
 * What the operations of one record did, as it is stored. Part of the data format; numbers are little-endian.
 *
 *     format(1) log time(8) count(4)
 *     { id length(1) id affected(4) content hash(4) failures(4) failure(4)* code length(1) code message length(2) message }*
 *
 * Format 3 has behind each message:  flags(1) count(1) { first slot(2) last slot(2) affected(4) failures(4) failure(4)* }*
 */
export function encodeOutcomes(timeMs: number, operations: StoredOutcomes["operations"]): Uint8Array {
  const parts: Buffer[] = [];
  const head = Buffer.allocUnsafe(13);
  const isMerged = operations.some(({ outcome }) => outcome.former !== undefined);
  head.writeUInt8(isMerged ? mergedFormat : outcomesFormat, 0);
  head.writeDoubleLE(timeMs, 1);
  head.writeUInt32LE(operations.length, 9);
  parts.push(head);
  for (const { id, outcome } of operations) {
    const { affected, failures, refused, contentHash = 0 } = outcome;
    const code = refused?.code ?? "";
    const message = Buffer.from(refused?.message ?? "");
    const part = Buffer.allocUnsafe(1 + id.length + 12 + failures.length * 4 + 1 + code.length + 2);
    let at = part.writeUInt8(id.length, 0);
    at += part.write(id, at, "latin1");
    at = part.writeUInt32LE(affected, at);
    at = part.writeInt32LE(contentHash, at);
    at = part.writeUInt32LE(failures.length, at);
    for (const failure of failures) at = part.writeUInt32LE(failure, at);
    at = part.writeUInt8(code.length, at);
    at += part.write(code, at, "latin1");
    part.writeUInt16LE(message.length, at);
    parts.push(part, message);
    if (isMerged) parts.push(...encodeFormer(outcome));
  }
  return Buffer.concat(parts);
}

function encodeFormer({ former = [], isOpen }: Outcome): Buffer[] {
  return [
    Buffer.from([isOpen === true ? openFlag : 0, former.length]),
    ...former.map(({ slots, affected, failures }) => {
      const part = Buffer.allocUnsafe(12 + failures.length * 4);
      let at = part.writeUInt16LE(slots.firstSlot, 0);
      at = part.writeUInt16LE(slots.lastSlot, at);
      at = part.writeUInt32LE(affected, at);
      at = part.writeUInt32LE(failures.length, at);
      for (const failure of failures) at = part.writeUInt32LE(failure, at);
      return part;
    }),
  ];
}

export function decodeOutcomes(body: Uint8Array): StoredOutcomes {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (buffer[0] === mergedFormat) return decodeCurrent(new Cursor(buffer, 1), true);
  return buffer[0] === outcomesFormat
    ? decodeCurrent(new Cursor(buffer, 1), false)
    : decodeFormer(new Cursor(buffer, 0));
}

function decodeCurrent(cursor: Cursor, isMerged: boolean): StoredOutcomes {
  const timeMs = cursor.double();
  const operations = cursor.list((): StoredOutcomes["operations"][number] => {
    const id = cursor.text(cursor.u8());
    const affected = cursor.u32();
    // One that was not known was written as 0.
    const contentHash = cursor.i32() || undefined;
    const failures = cursor.numbers();
    const outcome: Outcome = { affected, failures, ...cursor.refusal(), contentHash };
    return { id, outcome: isMerged ? { ...outcome, ...cursor.former() } : outcome };
  });
  return { timeMs, operations };
}

/**
 * As stores of format 1 have them, until they are forgotten. The content hashes came behind all operations, or not at all, and
 * a failure was the position × 2, plus 1 for POINT_NOT_FOUND.
 */
function decodeFormer(cursor: Cursor): StoredOutcomes {
  const timeMs = cursor.double();
  const operations = cursor.list((): StoredOutcomes["operations"][number] => {
    const id = cursor.text(cursor.u8());
    const affected = cursor.u32();
    const failures = cursor.numbers().map((packed) => {
      return failureOf(packed >>> 1, packed & 1 ? "POINT_NOT_FOUND" : "POINT_EXISTS");
    });
    return { id, outcome: { affected, failures, ...cursor.refusal() } };
  });
  if (!cursor.isAtEnd) for (const { outcome } of operations) outcome.contentHash = cursor.i32() || undefined;
  return { timeMs, operations };
}

/** Reads one value behind the other. */
class Cursor {
  readonly #buffer: Buffer;
  #at: number;

  constructor(buffer: Buffer, at: number) {
    this.#buffer = buffer;
    this.#at = at;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#buffer.length;
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#move(1));
  }

  u16(): number {
    return this.#buffer.readUInt16LE(this.#move(2));
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#move(4));
  }

  i32(): number {
    return this.#buffer.readInt32LE(this.#move(4));
  }

  double(): number {
    return this.#buffer.readDoubleLE(this.#move(8));
  }

  text(length: number): string {
    const at = this.#move(length);
    return this.#buffer.toString("latin1", at, at + length);
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.u32() }, item);
  }

  numbers(): Uint32Array {
    const count = this.u32();
    if (count === 0) return noFailures;
    const numbers = new Uint32Array(count);
    for (let i = 0; i < count; i++) numbers[i] = this.u32();
    return numbers;
  }

  former(): Pick<Outcome, "former" | "isOpen"> {
    const flags = this.u8();
    const former = Array.from({ length: this.u8() }, () => {
      const slots = { firstSlot: this.u16(), lastSlot: this.u16() };
      return { slots, affected: this.u32(), failures: this.numbers() };
    });
    if (former.length === 0) return {};
    return { former, ...((flags & openFlag) !== 0 && { isOpen: true }) };
  }

  refusal(): Pick<Outcome, "refused"> {
    const code = this.text(this.u8());
    const length = this.#buffer.readUInt16LE(this.#move(2));
    const at = this.#move(length);
    const message = this.#buffer.toString("utf8", at, at + length);
    if (code === "") return {};
    // Of a newer release, which gave it up for this one.
    return { refused: { code: isErrorCode(code) ? code : "FAILED_PRECONDITION", message } };
  }

  #move(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}
