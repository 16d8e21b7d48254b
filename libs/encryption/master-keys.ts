import { createHmac, createSecretKey, type KeyObject } from "node:crypto";
import { KithError } from "../base/index.js";

const keyBytes = 32;
/** Bytes of the id of a master key. */
export const masterIdBytes = 8;
/** Master keys that are known at once. */
const masterKeysMax = 16;

/** What data keys are wrapped with. */
export interface MasterKey {
  /** 16 hexadecimal digits that follow from the key, and tell nothing of it. */
  id: string;
  key: KeyObject;
}

/**
 * Master keys, one a line, of 32 bytes each as base64 or as 64 hexadecimal digits. The first is the one that is used from now on; the others are for what
 * was written before. INVALID_CONFIG where a line is none; the message never holds any of it.
 */
export function masterKeysOf(text: string, source: string): MasterKey[] {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const wrong = (why: string): KithError =>
    new KithError(
      "INVALID_CONFIG",
      `${source} ${why}: give 32 random bytes as base64 (head -c 32 /dev/urandom | base64), and on further lines the keys of before`,
    );
  if (lines.length === 0) throw wrong("holds no master key");
  if (lines.length > masterKeysMax)
    throw wrong(`holds ${lines.length} master keys; at most ${masterKeysMax} are taken`);
  return lines.map((line, i) => {
    const bytes = bytesOf(line);
    if (bytes === undefined) throw wrong(`holds no master key in line ${i + 1}`);
    return masterKeyOf(bytes);
  });
}

function bytesOf(line: string): Buffer | undefined {
  if (/^[0-9a-fA-F]{64}$/.test(line)) return Buffer.from(line, "hex");
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(line)) return undefined;
  const bytes = Buffer.from(line, "base64");
  return bytes.length === keyBytes ? bytes : undefined;
}

function masterKeyOf(bytes: Buffer): MasterKey {
  const id = createHmac("sha256", bytes).update("kith master key id").digest("hex");
  return { id: id.slice(0, masterIdBytes * 2), key: createSecretKey(bytes) };
}
