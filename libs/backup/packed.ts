import { promisify } from "node:util";
import { constants, deflateRaw, inflateRaw, type ZlibOptions } from "node:zlib";
import { crc32c, KithError } from "../base/index.js";

/*
 * A packed file: four letters that say what it holds, CRC-32C (4) of the rest, compression (1: 0 none, 1 deflate), length (4) of the content, the
 * content. Numbers are little-endian.
 */
const headerBytes = 13;
const compressions = { none: 0, deflate: 1 } as const;

/** zlib takes no less. */
const chunkBytesMin = 64;
/** Files hold some MiB as a rule; what one says of itself is not allocated unseen. */
const chunkBytesMax = 16 * 1024 * 1024;

const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

export interface Packing {
  /** Four letters. */
  magic: string;
  /** Of the content: no file that is read unpacks to more. */
  maxBytes: number;
  /** Compressed bytes are kept where they are at most this share: less is not worth the time of reading. */
  worthShare: number;
  /** So many bytes are tried first: where they are not worth it, nothing else is compressed. Missing: none. */
  triedBytes?: number;
}

export async function pack(content: Uint8Array, { magic, worthShare, triedBytes }: Packing): Promise<Buffer> {
  const packed = await deflated(content, worthShare, triedBytes);
  const body = packed ?? content;
  const file = Buffer.allocUnsafe(headerBytes + body.length);
  file.write(magic, 0, "latin1");
  file[8] = packed === undefined ? compressions.none : compressions.deflate;
  file.writeUInt32LE(content.length, 9);
  file.set(body, headerBytes);
  file.writeUInt32LE(crc32c(file.subarray(8)), 4);
  return file;
}

/** Undefined where that is not worth it. */
async function deflated(content: Uint8Array, worthShare: number, triedBytes = 0): Promise<Buffer | undefined> {
  if (triedBytes > 0 && content.length > triedBytes) {
    const middle = Math.floor((content.length - triedBytes) / 2);
    if ((await deflated(content.subarray(middle, middle + triedBytes), worthShare)) === undefined) return undefined;
  }
  const chunkSize = Math.min(chunkBytesMax, Math.max(chunkBytesMin, content.length));
  const packed = await deflate(content, { level: constants.Z_BEST_SPEED, chunkSize });
  return packed.length <= content.length * worthShare ? packed : undefined;
}

/** CORRUPT_DATA where the file is damaged. The content may be a view of the file. */
export async function unpack(name: string, file: Buffer, { magic, maxBytes }: Packing): Promise<Uint8Array> {
  if (file.length < headerBytes || file.toString("latin1", 0, 4) !== magic) throw damaged(name, `is no ${magic} file`);
  if (crc32c(file.subarray(8)) !== file.readUInt32LE(4)) throw damaged(name, "has a wrong checksum");
  const length = file.readUInt32LE(9);
  if (length > maxBytes) throw damaged(name, `says that it holds ${length} bytes, of ${maxBytes} at most`);
  const body = file.subarray(headerBytes);
  const isPacked = file[8] === compressions.deflate;
  if (!isPacked && file[8] !== compressions.none) throw damaged(name, `has the unknown compression ${file[8]}`);
  // In one piece: by default it comes in hundreds of 16 KiB, each with a turn of the event loop, and is put together afterwards.
  const chunkSize = Math.min(chunkBytesMax, Math.max(chunkBytesMin, length));
  const content = isPacked ? await inflated(name, body, { maxOutputLength: length, chunkSize }) : body;
  if (content.length !== length) throw damaged(name, `holds ${content.length} bytes instead of ${length}`);
  return content;
}

async function inflated(name: string, body: Buffer, options: ZlibOptions): Promise<Buffer> {
  try {
    return await inflate(body, options);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== "ERR_BUFFER_TOO_LARGE") throw damaged(name, `does not unpack: ${message}`);
    throw damaged(name, `unpacks to more than the ${options.maxOutputLength} bytes that it says`);
  }
}

function damaged(file: string, what: string): KithError {
  return new KithError("CORRUPT_DATA", `the file ${file} of a backup ${what}`, { details: { file } });
}
