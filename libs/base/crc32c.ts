import { createRequire } from "node:module";
import type { crc32c as Crc32c } from "@node-rs/crc32";

let nativeCrc32c: typeof Crc32c | undefined;

/** Up to here the call of native code costs more than the sum: 145 ns for any few bytes, against 40 to 80 ns. */
const shortBytes = 32;

/** The reversed polynomial of Castagnoli, and what each byte comes to. */
const polynomial = 0x82f63b78;
const table = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ polynomial : byte >>> 1;
  return byte;
});

/** CRC-32C (Castagnoli), as in iSCSI and ext4. `initial` continues an earlier checksum. */
export function crc32c(bytes: Uint8Array, initial = 0): number {
  if (bytes.length <= shortBytes) return shortCrc32c(bytes, initial);
  nativeCrc32c ??= loadCrc32c();
  return nativeCrc32c(bytes, initial);
}

function shortCrc32c(bytes: Uint8Array, initial: number): number {
  let crc = ~initial;
  for (let i = 0; i < bytes.length; i++) crc = (table[(crc ^ (bytes[i] as number)) & 255] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * At the first checksum: the library and its allocator are 3.6 MiB, which whoever has no data to check need not have. By `require`:
 * an `import` has Node look for the names in its long CommonJS file first, which costs 74 ms and 10 MiB more.
 */
function loadCrc32c(): typeof Crc32c {
  const require = createRequire(import.meta.url);
  return (require("@node-rs/crc32") as { crc32c: typeof Crc32c }).crc32c;
}
