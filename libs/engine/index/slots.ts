import { assert } from "../../base/index.js";
import { SlotSet, type Words } from "../../filter/index.js";
import { compareIds, type IdKey, idKind } from "../../model/index.js";

const flagAlive = 1;
const flagPayload = 2;
const flagBytes = 4;
/** Waiting to be given out, or given out and not yet inserted. */
const flagSpare = 8;
/** Versions have 44 bits: 32 in one table, 12 beside the flags. */
const versionHighShift = 4;
const versionMax = 2 ** 44;
const initialSlots = 1024;
const initialArenaBytes = 4096;

/**
 * What memory knows of each slot: the id, the version and whether there is a payload. 14 bytes a slot (8 for a numeric
 * id, 6 for version and flags), so that a query without payload reads nothing from disk. Other ids lie one behind the
 * other in an arena of bytes; the 8 bytes then hold their offset.
 *
 * A slot that died keeps its entry until slots are released: an index may still name it, and a query that began before
 * gives it out as it was.
 */
export class SlotTable {
  #high = new Uint32Array(initialSlots);
  #low = new Uint32Array(initialSlots);
  #versionLow = new Uint32Array(initialSlots);
  #flags = new Uint16Array(initialSlots);
  #arena: Buffer = Buffer.allocUnsafeSlow(initialArenaBytes);
  #arenaUsed = 0;
  #arenaGarbage = 0;
  #free: number[] = [];
  #next = 0;
  #alive = 0;
  /** Those of slots that are alive, for filters: 1 bit a slot. */
  readonly #aliveSlots = new SlotSet();

  /** One more than the highest slot ever given out. */
  get end(): number {
    return this.#next;
  }

  /** Bit s & 31 of word s >> 5: whether slot s is alive. Not to be changed; another array may take its place. */
  get alive(): Words {
    return this.#aliveSlots.words;
  }

  get aliveCount(): number {
    return this.#alive;
  }

  get freeCount(): number {
    return this.#free.length;
  }

  get memoryBytes(): number {
    return this.#flags.length * 14 + this.#arena.length + this.#free.length * 8 + this.#aliveSlots.memoryBytes;
  }

  /** Slots for the next inserts; they are not alive before `insert`. */
  allocate(): number {
    const slot = this.#free.pop() ?? this.#next++;
    assert(slot < 0xffff_fffe, "the replica has used up all 2^32 slots; split the shard");
    if (slot >= this.#flags.length) this.#grow(slot + 1);
    this.#flags[slot] = flagSpare;
    return slot;
  }

  insert(slot: number, id: IdKey, version: number, hasPayload: boolean): void {
    assert(version < versionMax, `the version ${version} is beyond 44 bits`);
    if (slot >= this.#flags.length) this.#grow(slot + 1);
    assert(((this.#flags[slot] as number) & flagAlive) === 0, `the slot ${slot} is already taken`);
    let flags = flagAlive | (hasPayload ? flagPayload : 0) | (Math.floor(version / 2 ** 32) << versionHighShift);
    const key = Buffer.from(id.buffer, id.byteOffset, id.byteLength);
    if (key[0] === idKind.num && key.length === 9) {
      this.#high[slot] = key.readUInt32BE(1);
      this.#low[slot] = key.readUInt32BE(5);
    } else {
      flags |= flagBytes;
      const at = this.#store(key);
      this.#high[slot] = Math.floor(at / 2 ** 32);
      this.#low[slot] = at;
    }
    this.#versionLow[slot] = version % 2 ** 32;
    this.#flags[slot] = flags;
    this.#alive++;
    this.#aliveSlots.add(slot);
  }

  /** The point in the slot has another version now, and a payload or none. */
  update(slot: number, version: number, hasPayload: boolean): void {
    assert(version < versionMax, `the version ${version} is beyond 44 bits`);
    const flags = this.#flags[slot] ?? 0;
    assert((flags & flagAlive) !== 0, `the slot ${slot} that is to be updated is not taken`);
    const kept = flags & (flagAlive | flagBytes);
    this.#flags[slot] = kept | (hasPayload ? flagPayload : 0) | (Math.floor(version / 2 ** 32) << versionHighShift);
    this.#versionLow[slot] = version % 2 ** 32;
  }

  tombstone(slot: number): void {
    const flags = this.#flags[slot] ?? 0;
    assert((flags & flagAlive) !== 0, `the slot ${slot} that is to be emptied is not taken`);
    this.#flags[slot] = flags & ~flagAlive;
    this.#aliveSlots.delete(slot);
    if (flags & flagBytes) this.#arenaGarbage += 2 + this.#arena.readUInt16LE(this.#offset(slot));
    this.#alive--;
  }

  /** As `tombstone` of every slot that is alive; gives which these were. */
  tombstoneAll(): Uint32Array {
    const dead = new Uint32Array(this.#alive);
    let count = 0;
    for (let slot = 0; slot < this.#next; slot++) {
      const flags = this.#flags[slot] as number;
      if ((flags & flagAlive) === 0) continue;
      dead[count++] = slot;
      this.#flags[slot] = flags & ~flagAlive;
      if (flags & flagBytes) this.#arenaGarbage += 2 + this.#arena.readUInt16LE(this.#offset(slot));
    }
    this.#aliveSlots.clear();
    this.#alive = 0;
    return dead;
  }

  /** Gives dead slots out again. Only when no index, in memory or in a checkpoint, names them any more. */
  release(slots: Uint32Array): void {
    for (let i = slots.length - 1; i >= 0; i--) {
      const slot = slots[i] as number;
      const flags = this.#flags[slot] ?? 0;
      assert((flags & (flagAlive | flagSpare)) === 0, `the slot ${slot} is in use and cannot be given out again`);
      this.#flags[slot] = flags | flagSpare;
      this.#free.push(slot);
    }
    if (this.#arenaGarbage > 1024 * 1024 && this.#arenaGarbage * 2 > this.#arenaUsed) this.#compact();
  }

  isAlive(slot: number): boolean {
    return ((this.#flags[slot] ?? 0) & flagAlive) !== 0;
  }

  hasPayload(slot: number): boolean {
    return ((this.#flags[slot] ?? 0) & flagPayload) !== 0;
  }

  versionOf(slot: number): number {
    return ((this.#flags[slot] as number) >>> versionHighShift) * 2 ** 32 + (this.#versionLow[slot] as number);
  }

  /** The id in a fresh buffer. */
  idOf(slot: number): IdKey {
    if (((this.#flags[slot] as number) & flagBytes) === 0) {
      const key = Buffer.allocUnsafe(9);
      key[0] = idKind.num;
      key.writeUInt32BE(this.#high[slot] as number, 1);
      key.writeUInt32BE(this.#low[slot] as number, 5);
      return key;
    }
    const at = this.#offset(slot);
    const length = this.#arena.readUInt16LE(at);
    return Buffer.from(this.#arena.subarray(at + 2, at + 2 + length));
  }

  compare(a: number, b: number): number {
    return compareIds(this.idOf(a), this.idOf(b));
  }

  /** Slot s is bit s & 7 of byte s >> 3. */
  aliveMask(): Uint8Array {
    const bytes = new Uint8Array((this.#next + 7) >> 3);
    for (let slot = 0; slot < this.#next; slot++) {
      if ((this.#flags[slot] as number) & flagAlive)
        bytes[slot >> 3] = (bytes[slot >> 3] as number) | (1 << (slot & 7));
    }
    return bytes;
  }

  /** Slots that are not alive, and neither wait to be given out nor to be inserted: an index may still name them. */
  deadSlots(): Uint32Array {
    const dead = new Uint32Array(this.#next - this.#alive);
    let count = 0;
    for (let slot = 0; slot < this.#next && count < dead.length; slot++) {
      if (((this.#flags[slot] ?? 0) & (flagAlive | flagSpare)) === 0) dead[count++] = slot;
    }
    return dead.subarray(0, count);
  }

  /** Used once, when the table has been filled from the store: slots below `end` were given out before. */
  setEnd(end: number): void {
    assert(end >= this.#next, `the store names ${end} slots, but the slot ${this.#next - 1} is taken`);
    if (end > this.#flags.length) this.#grow(end);
    this.#next = end;
  }

  #offset(slot: number): number {
    return (this.#high[slot] as number) * 2 ** 32 + (this.#low[slot] as number);
  }

  #store(key: Buffer): number {
    const at = this.#arenaUsed;
    const end = at + 2 + key.length;
    if (end > this.#arena.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(end, Math.ceil(this.#arena.length * 1.5)));
      this.#arena.copy(larger, 0, 0, at);
      this.#arena = larger;
    }
    this.#arena.writeUInt16LE(key.length, at);
    key.copy(this.#arena, at + 2);
    this.#arenaUsed = end;
    return at;
  }

  /** Drops the ids of dead slots: after a release, no query asks for the id of one that died while it ran. */
  #compact(): void {
    const old = this.#arena;
    this.#arena = Buffer.allocUnsafeSlow(Math.max(initialArenaBytes, this.#arenaUsed - this.#arenaGarbage));
    this.#arenaUsed = 0;
    this.#arenaGarbage = 0;
    for (let slot = 0; slot < this.#next; slot++) {
      const flags = this.#flags[slot] as number;
      if ((flags & flagBytes) === 0) continue;
      if ((flags & flagAlive) === 0) {
        this.#flags[slot] = flags & ~flagBytes;
        continue;
      }
      const at = this.#offset(slot);
      const moved = this.#store(old.subarray(at + 2, at + 2 + old.readUInt16LE(at)));
      this.#high[slot] = Math.floor(moved / 2 ** 32);
      this.#low[slot] = moved;
    }
  }

  #grow(needed: number): void {
    const length = Math.max(needed, Math.ceil(this.#flags.length * 1.5));
    const larger32 = (old: Uint32Array): Uint32Array<ArrayBuffer> => {
      const table = new Uint32Array(length);
      table.set(old);
      return table;
    };
    this.#high = larger32(this.#high);
    this.#low = larger32(this.#low);
    this.#versionLow = larger32(this.#versionLow);
    const flags = new Uint16Array(length);
    flags.set(this.#flags);
    this.#flags = flags;
  }
}
