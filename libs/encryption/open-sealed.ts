import { type KeyRing, masterOf } from "./key-ring.js";
import { isSealed, missingKeys, partsOf } from "./sealed.js";

/**
 * What was sealed for this context; bytes that are not sealed as they are. FAILED_PRECONDITION where the key is not known, or no key is;
 * CORRUPT_DATA where they were changed or come from another place.
 */
export function openSealed(keys: KeyRing | undefined, context: string, bytes: Uint8Array): Buffer {
  if (!isSealed(bytes)) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (keys === undefined) throw missingKeys(context, masterOf(partsOf(bytes).wrapped));
  return keys.open(context, bytes);
}
