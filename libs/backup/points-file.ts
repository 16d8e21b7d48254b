import { ipb } from "../wire/index.js";
import { pack, type Packing, unpack } from "./packed.js";

/** A file of points: an encoded BackupPoints. Files are of some MiB; where points had grown between two backups, earlier releases wrote larger ones. */
const packing: Packing = { magic: "KBP1", maxBytes: 256 * 1024 * 1024, worthShare: 0.97 };

export async function encodePoints(points: ipb.BackupPoints): Promise<Buffer> {
  return pack(ipb.BackupPoints.encode(points).finish(), packing);
}

/** CORRUPT_DATA where the file is damaged. */
export async function decodePoints(name: string, file: Buffer): Promise<ipb.BackupPoints> {
  const { buffer, byteOffset, byteLength } = await unpack(name, file, packing);
  // A plain view, so that the fields of bytes within are plain Uint8Arrays.
  return ipb.BackupPoints.decode(new Uint8Array(buffer, byteOffset, byteLength));
}
