import { crc32c, KithError } from "../base/index.js";

/*
 * A table of LevelDB (doc/table_format.md of LevelDB): blocks, each with one byte of its compression and the masked CRC-32C of both
 * behind it; an index whose values are the places of the blocks; and a footer of 48 bytes with the places of two blocks, filters and index, and a magic number.
 */
const footerBytes = 48;
const trailerBytes = 5;
const magic = 0xdb4775248b80fb57n;
const maskDelta = 0xa282ead8;

interface Place {
  offset: number;
  size: number;
}

/** Reads numbers of LevelDB; what leads out of the bytes is undefined. */
class Cursor {
  constructor(
    readonly bytes: Uint8Array,
    public at: number,
  ) {}

  varint(): number | undefined {
    let value = 0;
    for (let shift = 0; shift < 49; shift += 7) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) return undefined;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    return undefined;
  }

  place(): Place | undefined {
    const offset = this.varint();
    const size = this.varint();
    return offset === undefined || size === undefined ? undefined : { offset, size };
  }
}

/**
 * Checks the checksums of all blocks of a table, which LevelDB itself does not do when it reads: CORRUPT_DATA where one is wrong, or it is no
 * table. What is in compressed blocks is not looked at.
 */
export function checkTable(name: string, bytes: Buffer): void {
  const damaged = (what: string): KithError =>
    new KithError("CORRUPT_DATA", `the table ${name} ${what}`, { details: { file: name } });
  const check = (place: Place | undefined): Place => {
    if (place === undefined || place.offset + place.size + trailerBytes > bytes.length - footerBytes) {
      throw damaged("names a block that is not in it");
    }
    const { offset, size } = place;
    const crc = crc32c(bytes.subarray(offset, offset + size + 1));
    if (masked(crc) !== bytes.readUInt32LE(offset + size + 1)) throw damaged(`has a damaged block at ${offset}`);
    return place;
  };
  const footer = bytes.length - footerBytes;
  if (footer < 0 || bytes.readBigUInt64LE(bytes.length - 8) !== magic) throw damaged("has no footer");
  const ends = new Cursor(bytes, footer);
  for (const place of placesOf(bytes, check(ends.place()))) check(place);
  for (const place of placesOf(bytes, check(ends.place()))) check(place);
}

function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + maskDelta) >>> 0;
}

/** The places that the entries of a block have as values; none where it is compressed. */
function* placesOf(bytes: Buffer, { offset, size }: Place): Generator<Place | undefined> {
  if (bytes[offset + size] !== 0 || size < 4) return;
  // Behind the entries there are the places of some of them, and how many.
  const end = offset + size - 4 - 4 * bytes.readUInt32LE(offset + size - 4);
  const cursor = new Cursor(bytes, offset);
  while (cursor.at < end) {
    // Bytes of the key that are as in the one before, further ones, and of the value.
    cursor.varint();
    const own = cursor.varint();
    const length = cursor.varint();
    if (own === undefined || length === undefined) {
      yield undefined;
      return;
    }
    cursor.at += own;
    const next = cursor.at + length;
    yield cursor.place();
    cursor.at = next;
  }
}
