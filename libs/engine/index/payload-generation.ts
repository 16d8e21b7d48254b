import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, crc32c, KithError } from "../../base/index.js";
import { type KeyRing, openSealed } from "../../encryption/index.js";
import { PayloadField, type PayloadIndexSpec, runSteps } from "../../filter/index.js";
import type { JsonObject } from "../../model/index.js";
import type { SchemaPayloadIndex } from "../recover/schema.js";
import type { Checkpoint, CheckpointStamp, Generation, GenerationStats, Rows } from "./derived-index.js";

/** Payloads, aligned with the slots. */
export interface PayloadRows extends Rows {
  readonly payloads: readonly JsonObject[];
}

/** Of the checkpoint, all of which may be encrypted: "KPC1", CRC-32C of the header, its length (u32, little-endian), the header as JSON, the packed field. */
const fileName = "field.kpc";
const fileContext = `index file ${fileName}`;
const magic = "KPC1";
const prefixBytes = 12;

interface Header {
  storeId: string;
  sequence: number;
  /** Nothing but the very same index reads it. */
  definition: SchemaPayloadIndex;
}

/** One build of the index of a field of the payload. All of it is in memory. */
export class PayloadGeneration implements Generation<PayloadRows> {
  readonly field: PayloadField;
  readonly #definition: SchemaPayloadIndex;
  readonly #clock: Clock;
  readonly #keys: KeyRing | undefined;
  /** The save under way, or the last one; never rejects. */
  #saving: Promise<unknown> = Promise.resolve();

  constructor(definition: SchemaPayloadIndex, spec: PayloadIndexSpec, clock: Clock, keys?: KeyRing) {
    this.#keys = keys;
    this.field = new PayloadField(spec);
    this.#definition = definition;
    this.#clock = clock;
  }

  /** See IndexKind.load. */
  static async load(
    directory: string,
    definition: SchemaPayloadIndex,
    spec: PayloadIndexSpec,
    clock: Clock,
    keys?: KeyRing,
  ): Promise<Checkpoint<PayloadGeneration> | undefined> {
    let bytes: Buffer;
    try {
      bytes = openSealed(keys, fileContext, await readFile(join(directory, fileName)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    const { header, packed } = unframe(bytes);
    if (JSON.stringify(header.definition) !== JSON.stringify(definition)) {
      throw new KithError("CORRUPT_DATA", `it is of another index: ${JSON.stringify(header.definition)}`);
    }
    const generation = new PayloadGeneration(definition, spec, clock, keys);
    await runSteps(generation.field.load(packed), { clock });
    return { generation, stamp: { storeId: header.storeId, sequence: header.sequence } };
  }

  add({ slots, payloads }: PayloadRows): Promise<void> {
    for (let i = 0; i < slots.length; i++) this.field.insert(slots[i] as number, payloads[i] as JsonObject);
    return Promise.resolve();
  }

  remove(slots: Uint32Array): void {
    for (const slot of slots) this.field.remove(slot);
  }

  stats(): GenerationStats {
    const { slotCount, memoryBytes, index } = this.field;
    // Words of texts that are gone stay in lists, which another generation does not have.
    return { rowCount: slotCount + (index.staleCount ?? 0), aliveCount: slotCount, unindexedCount: 0, memoryBytes };
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  save(directory: string, stamp: CheckpointStamp): Promise<void> {
    const saved = this.#save(directory, stamp);
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async #save(directory: string, { storeId, sequence }: CheckpointStamp): Promise<void> {
    const header: Header = { storeId, sequence, definition: this.#definition };
    const packed = await runSteps(this.field.serialize(), { clock: this.#clock });
    const made = await mkdir(directory, { recursive: true });
    const path = join(directory, fileName);
    const file = await open(`${path}.new`, "w");
    try {
      const parts = [frame(header), packed];
      await file.writev(this.#keys === undefined ? parts : [this.#keys.seal(fileContext, Buffer.concat(parts))]);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    await syncDirectory(directory);
    if (made !== undefined) await syncDirectory(join(directory, ".."));
  }

  async close(): Promise<void> {
    await this.#saving;
  }
}

function frame(header: Header): Buffer {
  const text = Buffer.from(JSON.stringify(header));
  const framed = Buffer.alloc(prefixBytes + text.length);
  framed.write(magic, 0, "latin1");
  framed.writeUInt32LE(crc32c(text), 4);
  framed.writeUInt32LE(text.length, 8);
  framed.set(text, prefixBytes);
  return framed;
}

function unframe(bytes: Buffer): { header: Header; packed: Uint8Array } {
  const isFrame = bytes.length >= prefixBytes && bytes.toString("latin1", 0, 4) === magic;
  const end = isFrame ? prefixBytes + bytes.readUInt32LE(8) : 0;
  const text = bytes.subarray(prefixBytes, end);
  if (!isFrame || end > bytes.length || crc32c(text) !== bytes.readUInt32LE(4)) {
    throw new KithError("CORRUPT_DATA", "its header is damaged");
  }
  return { header: JSON.parse(text.toString()) as Header, packed: bytes.subarray(end) };
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
