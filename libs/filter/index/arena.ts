/** Bytes of an ordinary chunk. */
const chunkBytes = 64 * 1024;
/** Records above this size get a chunk of their own, in bytes. */
const largeBytes = chunkBytes / 4;
/** A record: its owner (u32), the length of its content (u32), the content, up to a multiple of 4. */
const headerBytes = 8;

interface Chunk {
  bytes: Uint8Array;
  words: Uint32Array;
  /** Bytes given out, and of them bytes of records that were dropped. */
  used: number;
  garbage: number;
}

/**
 * Records of bytes one behind the other, so that a million short strings are a few thousand objects. A record has an owner (a
 * number) that remembers where it is; the arena moves records out of chunks that are mostly garbage, and tells the owner.
 */
export class Arena {
  readonly #chunks: (Chunk | undefined)[] = [];
  readonly #freeNumbers: number[] = [];
  #current = -1;
  #bytes = 0;
  readonly #moved: (owner: number, at: number) => void;

  /** `moved` is called with the new place of an owner's record. */
  constructor(moved: (owner: number, at: number) => void) {
    this.#moved = moved;
  }

  get memoryBytes(): number {
    return this.#bytes;
  }

  /** Room for a record of this many bytes; it gives the record's place, which is above 0. See `open` for its content. */
  allocate(owner: number, length: number): number {
    const size = headerBytes + ((length + 3) & ~3);
    if (size > largeBytes) return this.#take(this.#newChunk(size), owner, length, size);
    const chunk = this.#chunks[this.#current];
    if (chunk === undefined || chunk.used + size > chunk.bytes.length) this.#current = this.#newChunk(chunkBytes);
    return this.#take(this.#current, owner, length, size);
  }

  /** The chunk's bytes, and where in them the content of a record begins and ends. Valid until the next call that changes. */
  bytes(at: number): Uint8Array {
    return this.#chunk(at).bytes;
  }

  /** The chunk's words: a content begins at a multiple of 4 bytes. */
  words(at: number): Uint32Array {
    return this.#chunk(at).words;
  }

  start(at: number): number {
    return offsetOf(at) + headerBytes;
  }

  length(at: number): number {
    return this.#chunk(at).words[(offsetOf(at) >>> 2) + 1] as number;
  }

  /** Gives a record up. Others may move. */
  drop(at: number): void {
    const number = numberOf(at);
    const chunk = this.#chunk(at);
    const word = offsetOf(at) >>> 2;
    const length = chunk.words[word + 1] as number;
    chunk.words[word] = dropped;
    chunk.garbage += headerBytes + ((length + 3) & ~3);
    if (chunk.garbage === chunk.used && number !== this.#current) return this.#free(number);
    if (chunk.garbage > chunk.bytes.length * 0.6 && number !== this.#current) this.#vacate(number);
  }

  #take(number: number, owner: number, length: number, size: number): number {
    const chunk = this.#chunks[number] as Chunk;
    const offset = chunk.used;
    chunk.used += size;
    chunk.words[offset >>> 2] = owner;
    chunk.words[(offset >>> 2) + 1] = length;
    return placeOf(number, offset);
  }

  /** Moves what is left of a chunk. */
  #vacate(number: number): void {
    const chunk = this.#chunks[number] as Chunk;
    for (let offset = 0; offset < chunk.used; ) {
      const owner = chunk.words[offset >>> 2] as number;
      const length = chunk.words[(offset >>> 2) + 1] as number;
      const content = offset + headerBytes;
      if (owner !== dropped) {
        const to = this.allocate(owner, length);
        this.bytes(to).set(chunk.bytes.subarray(content, content + length), this.start(to));
        this.#moved(owner, to);
      }
      offset = content + ((length + 3) & ~3);
    }
    this.#free(number);
  }

  #free(number: number): void {
    this.#bytes -= (this.#chunks[number] as Chunk).bytes.length;
    this.#chunks[number] = undefined;
    this.#freeNumbers.push(number);
  }

  #newChunk(length: number): number {
    const buffer = new ArrayBuffer((length + 3) & ~3);
    const chunk = { bytes: new Uint8Array(buffer), words: new Uint32Array(buffer), used: 0, garbage: 0 };
    this.#bytes += buffer.byteLength;
    const number = this.#freeNumbers.pop() ?? this.#chunks.length;
    this.#chunks[number] = chunk;
    return number;
  }

  #chunk(at: number): Chunk {
    return this.#chunks[numberOf(at)] as Chunk;
  }
}

/** No owner has this number. */
const dropped = 0xffff_ffff;

/** Places are numbers of 4 bytes within 16,384 of an ordinary chunk, and the chunk's number above; 0 is no place. */
const placesPerChunk = chunkBytes / 4;

function placeOf(number: number, offset: number): number {
  return 1 + number * placesPerChunk + (offset >>> 2);
}

function numberOf(at: number): number {
  return Math.floor((at - 1) / placesPerChunk);
}

function offsetOf(at: number): number {
  return ((at - 1) % placesPerChunk) << 2;
}
