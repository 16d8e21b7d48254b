import { KithError } from "../base/index.js";
import { type IdKey, isJsonObject, type JsonObject, parseJson } from "../model/index.js";

/** What a filter looks at in a point. */
export interface FilterPoint {
  readonly id: IdKey;
  readonly payload: JsonObject;
  /** Whether the point has a vector in this field. */
  hasVector(name: string): boolean;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A stored point: its payload is parsed when a condition first asks for it, then kept. */
export class StoredFilterPoint implements FilterPoint {
  readonly id: IdKey;
  readonly #bytes: Uint8Array;
  readonly #vectors: { has(name: string): boolean };
  #payload: JsonObject | undefined;

  /** The payload as JSON text in UTF-8, empty for none; the names of the fields that have a vector. */
  constructor(id: IdKey, payload: Uint8Array, vectors: { has(name: string): boolean }) {
    this.id = id;
    this.#bytes = payload;
    this.#vectors = vectors;
  }

  /** CORRUPT_DATA where the stored bytes are not a JSON object. */
  get payload(): JsonObject {
    this.#payload ??= parsePayload(this.#bytes);
    return this.#payload;
  }

  hasVector(name: string): boolean {
    return this.#vectors.has(name);
  }
}

/** A payload as it is stored, parsed; `{}` for empty bytes. CORRUPT_DATA where it is not a JSON object. */
export function parsePayload(bytes: Uint8Array): JsonObject {
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = parseJson(decoder.decode(bytes));
  } catch (cause) {
    throw new KithError("CORRUPT_DATA", `a stored payload of ${bytes.length} bytes is ${(cause as Error).message}`, {
      cause,
    });
  }
  if (isJsonObject(value as JsonObject)) return value as JsonObject;
  throw new KithError("CORRUPT_DATA", `a stored payload of ${bytes.length} bytes is not a JSON object`);
}
