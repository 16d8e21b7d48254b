/** Elements of one chunk: memory grows by as much, and no growth copies what is there. */
const chunkBits = 12;
const chunkLength = 1 << chunkBits;
const chunkMask = chunkLength - 1;

/** A column of u32 that grows in chunks; what was never set is 0. */
export class U32Column {
  readonly #chunks: Uint32Array[] = [];

  get(at: number): number {
    const chunk = this.#chunks[at >>> chunkBits];
    return chunk === undefined ? 0 : (chunk[at & chunkMask] as number);
  }

  set(at: number, value: number): void {
    const chunk = this.#chunks[at >>> chunkBits] ?? this.#grow(at >>> chunkBits);
    chunk[at & chunkMask] = value;
  }

  #grow(chunk: number): Uint32Array {
    for (let i = this.#chunks.length; i <= chunk; i++) this.#chunks.push(new Uint32Array(chunkLength));
    return this.#chunks[chunk] as Uint32Array;
  }

  get memoryBytes(): number {
    return this.#chunks.length * chunkLength * 4;
  }
}

/** A column of f64 that grows in chunks; what was never set is 0. */
export class F64Column {
  readonly #chunks: Float64Array[] = [];

  get(at: number): number {
    const chunk = this.#chunks[at >>> chunkBits];
    return chunk === undefined ? 0 : (chunk[at & chunkMask] as number);
  }

  set(at: number, value: number): void {
    const chunk = this.#chunks[at >>> chunkBits] ?? this.#grow(at >>> chunkBits);
    chunk[at & chunkMask] = value;
  }

  #grow(chunk: number): Float64Array {
    for (let i = this.#chunks.length; i <= chunk; i++) this.#chunks.push(new Float64Array(chunkLength));
    return this.#chunks[chunk] as Float64Array;
  }

  get memoryBytes(): number {
    return this.#chunks.length * chunkLength * 8;
  }
}
