import { type Clock, type Random, SeededRandom, type Timer } from "../../libs/base/index.js";
import { xxh64 } from "../../libs/hash/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

/** Wall clock of the world when it begins: 1 January 2026. */
const epochMs = Date.UTC(2026, 0, 1);
/** Lines of the trace that are kept for a failure; all of them count for its hash. */
const keptLines = 200_000;

/** Something that is to happen at a time. */
interface WorldEvent {
  atMs: number;
  readonly order: number;
  readonly process: Process | undefined;
  run: (() => void) | undefined;
}

/** Whether `a` comes before `b`. Events of the same time come in the order in which they were set. */
function isBefore(a: WorldEvent, b: WorldEvent): boolean {
  return a.atMs === b.atMs ? a.order < b.order : a.atMs < b.atMs;
}

/**
 * Virtual time and one source of chance for everything that runs in it. An event runs to its end, with all promises that it settles,
 * before the next one: so the order of events, and with it all that happens, follows from the seed alone. Nothing in a world may wait for
 * what is not in it: no real timer, file, socket or thread.
 */
export class World {
  readonly random: SeededRandom;
  readonly lines: string[] = [];
  #nowMs = 0;
  #order = 0;
  readonly #heap: WorldEvent[] = [];
  #hash = 0n;
  eventCount = 0;
  readonly #print: ((line: string) => void) | undefined;

  constructor(seed: number, options: { print?: (line: string) => void } = {}) {
    this.random = new SeededRandom(seed);
    this.#print = options.print;
  }

  /** Milliseconds since the world began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Of all that was traced so far: two runs of a seed have the same one. */
  get hash(): string {
    return this.#hash.toString(16).padStart(16, "0");
  }

  trace(who: string, what: string): void {
    const line = `${this.#nowMs.toFixed(3).padStart(12)} ${who.padEnd(12)} ${what}`;
    this.#hash = xxh64(Buffer.from(line), this.#hash);
    if (this.lines.length < keptLines) this.lines.push(line);
    this.#print?.(line);
  }

  /** Runs `run` after `delayMs`, as part of a process where one is given: not before it goes on, and never once it is dead. */
  after(delayMs: number, run: () => void, process?: Process): Timer {
    const event: WorldEvent = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, process, run };
    this.#push(event);
    const timer: Timer = {
      close: () => {
        event.run = undefined;
      },
      unref: () => timer,
    };
    return timer;
  }

  sleep(ms: number, process?: Process): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve, process));
  }

  /** Lets time pass until `isOver`, asked after each event; false where it is not by `limitMs`. */
  async run(isOver: () => boolean, limitMs: number): Promise<boolean> {
    await settled();
    while (!isOver()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > limitMs) {
        this.#nowMs = Math.max(this.#nowMs, limitMs);
        return false;
      }
      this.#pop();
      const { process, run } = next;
      if (run === undefined || process?.isDead === true) continue;
      if (process?.isPaused === true) {
        process.hold(run);
        continue;
      }
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.eventCount++;
      run();
      await settled();
    }
    return true;
  }

  #push(event: WorldEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above] as WorldEvent;
      if (!isBefore(event, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as WorldEvent;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1] as WorldEvent, heap[below] as WorldEvent)) below++;
      if (!isBefore(heap[below] as WorldEvent, last)) break;
      heap[at] = heap[below] as WorldEvent;
      at = below;
    }
    heap[at] = last;
  }
}

/** All promises that can be settled without an event are. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Never settles: what a dead process waits for. */
export function never<T>(): Promise<T> {
  return new Promise<T>(() => undefined);
}

/**
 * One process: its clock, its chance, and its end. What is dead is not closed: its objects are left where they are, and nothing that
 * they wait for ever comes.
 */
export class Process {
  readonly clock: ProcessClock;
  readonly random: Random;
  readonly logger: Logger;
  isDead = false;
  #isPaused = false;
  /** Since when it is paused, in the world's time. */
  pausedAtMs = 0;
  #held: (() => void)[] = [];
  readonly #onDeath = new Set<() => void>();

  constructor(
    readonly world: World,
    readonly name: string,
    wallOffsetMs = 0,
  ) {
    this.clock = new ProcessClock(world, this, wallOffsetMs);
    this.random = new SeededRandom(world.random.u32());
    const log = (level: string) => {
      return (message: string): void => world.trace(name, `${level}: ${message}`);
    };
    this.logger = { debug: () => undefined, info: log("info"), warn: log("warn"), error: log("error") };
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Told when the process dies. Gives what takes the listener off. */
  onDeath(listener: () => void): () => void {
    this.#onDeath.add(listener);
    return () => this.#onDeath.delete(listener);
  }

  kill(): void {
    this.isDead = true;
    this.#held = [];
    for (const listener of [...this.#onDeath]) listener();
    this.#onDeath.clear();
  }

  /** As with SIGSTOP: whatever is due waits. */
  pause(): void {
    this.#isPaused = true;
    this.pausedAtMs = this.world.nowMs;
  }

  resume(): void {
    this.#isPaused = false;
    for (const run of this.#held.splice(0)) this.world.after(0, run, this);
  }

  hold(run: () => void): void {
    this.#held.push(run);
  }
}

/** A process's own clock: it begins with the process, so that times of two processes compare as nothing. */
class ProcessClock implements Clock {
  readonly #world: World;
  readonly #process: Process;
  readonly #startMs: number;
  /** Wall clock minus the world's. */
  wallOffsetMs: number;

  constructor(world: World, process: Process, wallOffsetMs: number) {
    this.#world = world;
    this.#process = process;
    this.#startMs = world.nowMs - 1_000 - world.random.below(100_000);
    this.wallOffsetMs = wallOffsetMs;
  }

  nowMs(): number {
    return Math.floor(epochMs + this.#world.nowMs + this.wallOffsetMs);
  }

  get originMs(): number {
    return epochMs + this.#startMs + this.wallOffsetMs;
  }

  monotonicMs(): number {
    return this.#world.nowMs - this.#startMs;
  }

  setTimer(callback: () => void, delayMs: number): Timer {
    return this.#world.after(delayMs, callback, this.#process);
  }

  every(callback: () => void, periodMs: number): Timer {
    let timer: Timer;
    const again = (): void => {
      timer = this.#world.after(
        Math.max(1, periodMs),
        () => {
          again();
          callback();
        },
        this.#process,
      );
    };
    again();
    const repeated: Timer = { close: () => timer.close(), unref: () => repeated };
    return repeated;
  }

  soon(callback: () => void): void {
    this.#world.after(0, callback, this.#process);
  }
}
