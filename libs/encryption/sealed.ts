import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { KithError } from "../base/index.js";
import { nonceBytes } from "./nonces.js";

/** AES-256-GCM everywhere. */
export const algorithm = "aes-256-gcm";
export const tagBytes = 16;
/** Id of the master key (8), nonce, key, tag. */
export const wrappedBytes = 8 + nonceBytes + 32 + tagBytes;

/** What is sealed as one: "KithSeal", the wrapped data key, nonce(12), ciphertext, tag(16). */
const magic = Buffer.from("KithSeal", "latin1");
export const sealHeaderBytes = magic.length + wrappedBytes + nonceBytes;
/** By so much sealed bytes are longer. */
export const sealOverheadBytes = sealHeaderBytes + tagBytes;

export function isSealed(bytes: Uint8Array): boolean {
  if (bytes.length < sealOverheadBytes) return false;
  return magic.compare(bytes, 0, magic.length) === 0;
}

/** FAILED_PRECONDITION: something is encrypted, and this process was given no keys. */
export function missingKeys(what: string, masterKey: string): KithError {
  return new KithError(
    "FAILED_PRECONDITION",
    `${what} is encrypted with the master key ${masterKey}, and this node has no master key: name the file of it with encryption.keyFile (KITH_ENCRYPTION_KEY_FILE)`,
    { details: { masterKey } },
  );
}

/** The parts of sealed bytes. */
export function partsOf(sealed: Uint8Array): { wrapped: Buffer; nonce: Buffer; ciphertext: Buffer; tag: Buffer } {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  const nonceAt = magic.length + wrappedBytes;
  const tagAt = bytes.length - tagBytes;
  return {
    wrapped: bytes.subarray(magic.length, nonceAt),
    nonce: bytes.subarray(nonceAt, sealHeaderBytes),
    ciphertext: bytes.subarray(sealHeaderBytes, tagAt),
    tag: bytes.subarray(tagAt),
  };
}

/** @param context what it is and where: nothing that was sealed for another place opens here */
export function sealWith(key: KeyObject, wrapped: Buffer, nonce: Buffer, context: string, plain: Uint8Array): Buffer {
  const cipher = createCipheriv(algorithm, key, nonce);
  cipher.setAAD(Buffer.from(context));
  const ciphertext = cipher.update(plain);
  cipher.final();
  return Buffer.concat([magic, wrapped, nonce, ciphertext, cipher.getAuthTag()]);
}

/** Undefined where it was changed, or sealed for another context. */
export function openWith(
  key: KeyObject,
  { nonce, ciphertext, tag }: { nonce: Buffer; ciphertext: Buffer; tag: Buffer },
  context: string,
): Buffer | undefined {
  const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(tag);
  try {
    const plain = decipher.update(ciphertext);
    decipher.final();
    return plain;
  } catch {
    // All that OpenSSL tells is that the tag is not the one of this key, nonce, context and text.
    return undefined;
  }
}
