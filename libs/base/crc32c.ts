import { createRequire } from "node:module";
import type { crc32c as Crc32c } from "@node-rs/crc32";

let nativeCrc32c: typeof Crc32c | undefined;

/** CRC-32C (Castagnoli), as in iSCSI and ext4. `initial` continues an earlier checksum. */
export function crc32c(bytes: Uint8Array, initial = 0): number {
  nativeCrc32c ??= loadCrc32c();
  return nativeCrc32c(bytes, initial);
}

/**
 * At the first checksum: the library and its allocator are 3.6 MiB, which whoever has no data to check need not have. By `require`:
 * an `import` has Node look for the names in its long CommonJS file first, which costs 74 ms and 10 MiB more.
 */
function loadCrc32c(): typeof Crc32c {
  const require = createRequire(import.meta.url);
  return (require("@node-rs/crc32") as { crc32c: typeof Crc32c }).crc32c;
}
