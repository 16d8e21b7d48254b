import type { SeededRandom } from "../../libs/base/index.js";
import { never, type Process, type World } from "./world.js";

export interface Folder {
  readonly kind: "folder";
  readonly entries: Map<string, DiskNode>;
}
export interface File {
  readonly kind: "file";
  data: Buffer;
}
export interface StoredDatabase {
  readonly kind: "database";
  readonly content: Content;
  /** Of the process that has it open. */
  lock: Process | undefined;
}
export type DiskNode = Folder | File | StoredDatabase;

/** What is on a disk but not safe from a loss of power, newest last: each undoes one change. */
type Undo = () => void;

/** The entries of a database in order of key. Keys are strings of bytes (latin1). */
export class Content {
  #values = new Map<string, Uint8Array>();
  #sorted: string[] | undefined;
  #isShared = false;

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  /** In order; not to be changed. */
  keys(): readonly string[] {
    this.#sorted ??= [...this.#values.keys()].sort((a, b) => (a < b ? -1 : 1));
    return this.#sorted;
  }

  set(key: string, value: Uint8Array | undefined): void {
    if (this.#isShared) {
      this.#values = new Map(this.#values);
      this.#isShared = false;
    }
    const had = this.#values.has(key);
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value);
    if (had !== (value !== undefined)) this.#sorted = undefined;
  }

  /** The content as of now, which later changes do not touch. */
  snapshot(): Content {
    const copy = new Content();
    copy.#values = this.#values;
    copy.#sorted = this.keys() as string[];
    copy.#isShared = true;
    this.#isShared = true;
    return copy;
  }
}

export interface DiskFaults {
  /** Every call takes so long, in milliseconds. */
  slowMs: number;
  /** Nothing can be written. */
  isFull: boolean;
  /** Share of writes that fail; whether such a write took place nobody knows. */
  errorRate: number;
}

/** One disk: it outlives the processes that use it. What was not synced is lost with the power, and not with a process. */
export class Disk {
  readonly root: Folder = { kind: "folder", entries: new Map() };
  readonly faults: DiskFaults = { slowMs: 0, isFull: false, errorRate: 0 };
  /** By what syncs them together: a database, or all files ("files"). */
  readonly #unsynced = new Map<object | "files", Undo[]>();
  readonly #random: SeededRandom;
  /** A disk that takes a sync for done at once: planted. */
  ignoresSync = false;
  /** What becomes of a file that is copied: planted. */
  copied: ((data: Buffer) => Buffer) | undefined;

  constructor(readonly world: World) {
    this.#random = world.random;
  }

  changed(domain: object | "files", undo: Undo): void {
    const undos = this.#unsynced.get(domain) ?? [];
    undos.push(undo);
    this.#unsynced.set(domain, undos);
  }

  synced(domain: object | "files"): void {
    if (!this.ignoresSync) this.#unsynced.delete(domain);
  }

  /** Loses some of what was not synced: of each database, and of the files, what was changed last. Gives how many changes. */
  losePower(): number {
    let lost = 0;
    for (const undos of this.#unsynced.values()) {
      const kept = this.#random.below(undos.length + 1);
      for (const undo of undos.splice(kept).reverse()) {
        undo();
        lost++;
      }
    }
    // What is left has come to the disk by itself.
    this.#unsynced.clear();
    return lost;
  }
}

/** A disk as one process sees it: what a dead one asks for is never answered. */
export class Mount {
  constructor(
    readonly disk: Disk,
    readonly process: Process,
  ) {}

  /** To be awaited before anything is read. */
  async beforeRead(): Promise<void> {
    await this.#take();
  }

  /** To be awaited before anything is written; rejects where the disk is full or fails. The write takes place where it gives true. */
  async write(change: () => void): Promise<void> {
    await this.#take();
    const { faults, world } = this.disk;
    if (faults.isFull) throw noSpace();
    if (faults.errorRate > 0 && world.random.float() < faults.errorRate) {
      world.trace(this.process.name, "disk: a write fails");
      if (world.random.float() < 0.5) change();
      throw ioError();
    }
    change();
    // The process may die between the write and its knowing of it.
    await this.#take();
  }

  async #take(): Promise<void> {
    const { world, faults } = this.disk;
    const { process } = this;
    if (process.isDead) await never();
    // Mostly at once, so that a run is short, and sometimes late, so that things happen in between.
    const isLate = faults.slowMs > 0 || world.random.float() < lateShare;
    if (isLate) await world.sleep(faults.slowMs + world.random.float() * lateMs, process);
    else if (process.isPaused) await world.sleep(0, process);
    else await Promise.resolve();
    if (process.isDead) await never();
  }
}

const lateShare = 0.03;
const lateMs = 4;

function noSpace(): Error {
  return Object.assign(new Error("IO error: No space left on device"), { code: "ENOSPC" });
}

function ioError(): Error {
  return Object.assign(new Error("IO error: Input/output error"), { code: "EIO" });
}
