import { crc32c, type FormatMark, KithError } from "../../base/index.js";

/** What lies under one catalog key on the disk. */
export interface StoredValue {
  value: string;
  revision: number;
  /** Set together, where the key expires. */
  ttlMs?: number;
  expiresAtMs?: number;
}

/** The last revision given out, so that a key made anew after a deletion never repeats one. Not a valid catalog key. */
export const revisionKey = "!revision";
/** The format of the directory; missing where the first release wrote it. Not a valid catalog key either. */
export const formatKey = "!format";
/** See docs/format.md. */
export const catalogFormat: FormatMark = { format: 1, release: "0.1.0" };
const entryPrefix = "k/";

export const entryRange = { gte: "k/", lt: "k0" };

export function storageKey(key: string): string {
  return entryPrefix + key;
}

export function catalogKey(stored: string): string {
  return stored.slice(entryPrefix.length);
}

const crcLength = 9;

function checksum(key: string, text: string): string {
  return `${crc32c(Buffer.from(text, "utf8"), crc32c(Buffer.from(key, "utf8")))
    .toString(16)
    .padStart(8, "0")} `;
}

/** A line of text: CRC-32C of key and value (LevelDB does not verify what it reads), a space, JSON. */
export function encodeStored(key: string, content: StoredValue | FormatMark | number): string {
  const text = JSON.stringify(content);
  return checksum(key, text) + text;
}

export function decodeStored<T extends StoredValue | FormatMark | number>(key: string, stored: string): T {
  const text = stored.slice(crcLength);
  if (stored.slice(0, crcLength) !== checksum(key, text)) {
    throw new KithError(
      "CORRUPT_DATA",
      `the catalog entry ${key} fails its checksum; the catalog directory is damaged`,
    );
  }
  return JSON.parse(text) as T;
}
