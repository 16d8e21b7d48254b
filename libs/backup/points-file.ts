import { promisify } from "node:util";
import { constants, deflateRaw, inflateRaw } from "node:zlib";
import { crc32c, KithError } from "../base/index.js";
import { ipb } from "../wire/index.js";

/*
 * A file of points: "KBP1", CRC-32C (4) of the rest, compression (1: 0 none, 1 deflate), length (4) of the message, the message, an
 * encoded BackupPoints. Numbers are little-endian.
 */
const magic = Buffer.from("KBP1", "latin1");
const headerBytes = 13;
const compressions = { none: 0, deflate: 1 } as const;
/** Compressed bytes are kept where they are at most this share: less is not worth the time of reading. */
const worthShare = 0.97;

/** zlib takes no less. */
const chunkBytesMin = 64;
/** Files hold some MiB as a rule; what one says of itself is not allocated unseen. */
const chunkBytesMax = 16 * 1024 * 1024;

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

export async function encodePoints(points: ipb.BackupPoints): Promise<Buffer> {
  const message = ipb.BackupPoints.encode(points).finish();
  const chunkSize = Math.min(chunkBytesMax, Math.max(chunkBytesMin, message.length));
  const packed = await deflate(message, { level: constants.Z_BEST_SPEED, chunkSize });
  const isWorth = packed.length <= message.length * worthShare;
  const body = isWorth ? packed : message;
  const file = Buffer.allocUnsafe(headerBytes + body.length);
  file.set(magic, 0);
  file[8] = isWorth ? compressions.deflate : compressions.none;
  file.writeUInt32LE(message.length, 9);
  file.set(body, headerBytes);
  file.writeUInt32LE(crc32c(file.subarray(8)), 4);
  return file;
}

/** CORRUPT_DATA where the file is damaged. */
export async function decodePoints(name: string, file: Buffer): Promise<ipb.BackupPoints> {
  if (file.length < headerBytes || file.compare(magic, 0, 4, 0, 4) !== 0) throw damaged(name, "is no file of points");
  if (crc32c(file.subarray(8)) !== file.readUInt32LE(4)) throw damaged(name, "has a wrong checksum");
  const length = file.readUInt32LE(9);
  const body = file.subarray(headerBytes);
  const isPacked = file[8] === compressions.deflate;
  if (!isPacked && file[8] !== compressions.none) throw damaged(name, `has the unknown compression ${file[8]}`);
  // In one piece: by default it comes in hundreds of 16 KiB, each with a turn of the event loop, and is put together afterwards.
  const chunkSize = Math.min(chunkBytesMax, Math.max(chunkBytesMin, length));
  const message = isPacked ? await inflate(body, { maxOutputLength: length, chunkSize }) : body;
  if (message.length !== length) throw damaged(name, `holds ${message.length} bytes instead of ${length}`);
  // A plain view, so that the fields of bytes within are plain Uint8Arrays.
  return ipb.BackupPoints.decode(new Uint8Array(message.buffer, message.byteOffset, message.byteLength));
}

function damaged(file: string, what: string): KithError {
  return new KithError("CORRUPT_DATA", `the file ${file} of a backup ${what}`, { details: { file } });
}
