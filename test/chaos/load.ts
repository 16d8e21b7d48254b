/** Writers and searchers that go on until they are stopped, and tell the history of everything. */
import { type SeededRandom, sleep, systemClock } from "../../libs/base/index.js";
import { type CollectionHandle, KithError } from "../../libs/client/index.js";
import { pointOf, type Stamp, vectorOf } from "./data.js";
import { type History, outcomeOf, type Write } from "./history.js";

export interface LoadOptions {
  history: History;
  /** One for each writer and searcher, in turns: connections to all routers. */
  handles: readonly CollectionHandle<Stamp>[];
  random: SeededRandom;
  /** Ids from `stableCount` to here are written again and again; those below stay as they are, and are searched for. */
  stableCount: number;
  idCount: number;
  writers?: number;
  searchers?: number;
  writeDeadlineMs?: number;
  readDeadlineMs?: number;
  /** Between two operations of one writer or searcher, in milliseconds; 0: none. */
  pauseMs?: number;
}

/** Points of a fresh batch: enough that several shards get some. */
const freshCount = 20;

export class Load {
  readonly #options: LoadOptions;
  #isOver = false;
  #nextFreshId: number;
  #running: Promise<void>[] = [];
  /** Acknowledged writes. */
  acknowledged = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#nextFreshId = 1_000_000_000;
  }

  /** Writes the points that are there from the beginning, and waits until they are indexed. */
  async fill(): Promise<void> {
    const { stableCount, idCount } = this.#options;
    const handle = this.#handle(0);
    for (let from = 0; from < idCount; from += 1_000) {
      const ids = Array.from({ length: Math.min(1_000, idCount - from) }, (_, i) => from + i);
      if (!(await this.#upsert(handle, ids, { deadlineMs: 60_000 }))) {
        throw new KithError("FAILED_PRECONDITION", `the first ${stableCount} points could not be written`);
      }
    }
    await handle.waitIndexed({ deadlineMs: 120_000 });
  }

  start(): void {
    const { writers = 3, searchers = 2 } = this.#options;
    this.#isOver = false;
    this.#options.history.restartGap();
    this.#running = [
      ...Array.from({ length: writers }, (_, i) => this.#write(i, writers)),
      ...Array.from({ length: searchers }, (_, i) => this.#search(writers + i)),
    ];
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
  }

  /** Resolves when so many more writes were acknowledged; false where that takes longer than `withinMs`. */
  async progress(count: number, withinMs: number): Promise<boolean> {
    const from = this.acknowledged;
    const endMs = systemClock.monotonicMs() + withinMs;
    while (this.acknowledged < from + count) {
      if (systemClock.monotonicMs() > endMs) return false;
      await sleep(systemClock, 20);
    }
    return true;
  }

  #handle(worker: number): CollectionHandle<Stamp> {
    const { handles } = this.#options;
    const handle = handles[worker % handles.length];
    if (handle === undefined) throw new Error("there is no client");
    return handle;
  }

  async #write(writer: number, writers: number): Promise<void> {
    const { random, stableCount, idCount, writeDeadlineMs = 10_000, pauseMs = 0 } = this.#options;
    const handle = this.#handle(writer);
    const own = (count: number): number[] => {
      const ids = new Set<number>();
      while (ids.size < count) {
        const id = stableCount + random.below(idCount - stableCount);
        ids.add(id - (id % writers) + writer);
      }
      return [...ids].filter((id) => id >= stableCount);
    };
    const options = { deadlineMs: writeDeadlineMs };
    while (!this.#isOver) {
      const chance = random.float();
      if (chance < 0.5) await this.#upsert(handle, own(1 + random.below(8)), options);
      else if (chance < 0.75) {
        const from = this.#nextFreshId;
        this.#nextFreshId += freshCount;
        const ids = Array.from({ length: freshCount }, (_, i) => from + i);
        await this.#upsert(handle, ids, { ...options, isFresh: true });
      } else if (chance < 0.85) await this.#delete(handle, own(1 + random.below(3)), options);
      else if (chance < 0.95) await this.#refusedByVersion(handle, own(1)[0] ?? stableCount, options);
      else await this.#refusedByDimension(handle, own(1)[0] ?? stableCount, options);
      if (pauseMs > 0) await sleep(systemClock, pauseMs);
    }
  }

  #begin(kind: Write["kind"], ids: readonly number[], isFresh = false): Write {
    return this.#options.history.begin(kind, ids, { isFresh, nowMs: systemClock.monotonicMs() });
  }

  #end(write: Write, outcome: Write["outcome"], code?: string): void {
    this.#options.history.end(write, outcome, systemClock.monotonicMs(), code);
    if (outcome === "ok") this.acknowledged++;
  }

  #fail(write: Write, error: unknown): void {
    if (!(error instanceof KithError)) throw error;
    this.#end(write, outcomeOf(error), error.code);
  }

  async #upsert(
    handle: CollectionHandle<Stamp>,
    ids: readonly number[],
    options: { deadlineMs: number; isFresh?: boolean },
  ): Promise<boolean> {
    const { history, random, readDeadlineMs = 10_000 } = this.#options;
    const write = this.#begin("upsert", ids, options.isFresh);
    let token: Awaited<ReturnType<CollectionHandle<Stamp>["upsert"]>>["token"];
    try {
      const points = ids.map((id) => pointOf(id, write.serial));
      ({ token } = await handle.upsert(points, { deadlineMs: options.deadlineMs }));
    } catch (error) {
      this.#fail(write, error);
      return false;
    }
    this.#end(write, "ok");
    if (random.float() > 0.4 || ids.length > 100) return true;
    // Whoever has the token sees the write, from whichever replica; nobody else writes these ids meanwhile.
    try {
      const found = await handle.get(ids, { consistency: { atLeast: token }, deadlineMs: readDeadlineMs });
      history.readsOk++;
      for (const { id, version } of found) history.seeVersion(Number(id), version);
      const serials = new Map(found.map(({ id, payload }) => [id, payload?.serial]));
      for (const id of ids) {
        const serial = serials.get(id);
        if (serial === write.serial) continue;
        const late = serial === undefined ? undefined : history.bySerial(serial);
        // One whose outcome is unknown may take effect late.
        if (late?.outcome === "unknown" && late.ids.includes(id)) continue;
        history.violate(
          `a read with the token of write ${write.serial} shows point ${id} as written by ${serial ?? "nobody"}: stale`,
        );
      }
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      history.readFailed(error.code);
    }
    return true;
  }

  async #delete(
    handle: CollectionHandle<Stamp>,
    ids: readonly number[],
    options: { deadlineMs: number },
  ): Promise<void> {
    const write = this.#begin("delete", ids);
    try {
      await handle.delete(ids, options);
      this.#end(write, "ok");
    } catch (error) {
      this.#fail(write, error);
    }
  }

  /** A write on a condition that never holds: refused where it stands in the log, and told so. */
  async #refusedByVersion(handle: CollectionHandle<Stamp>, id: number, options: { deadlineMs: number }): Promise<void> {
    const write = this.#begin("upsert", [id]);
    try {
      const { errors } = await handle.upsert([{ ...pointOf(id, write.serial), expectedVersion: 2 ** 40 }], options);
      if (errors.length === 1) this.#end(write, "failed", errors[0]?.code);
      else {
        this.#options.history.violate(
          `write ${write.serial} of point ${id} took effect although its condition did not hold`,
        );
        this.#end(write, "ok");
      }
    } catch (error) {
      // It cannot take effect, whatever became of the answer.
      if (!(error instanceof KithError)) throw error;
      this.#end(write, "failed", error.code);
    }
  }

  async #refusedByDimension(
    handle: CollectionHandle<Stamp>,
    id: number,
    options: { deadlineMs: number },
  ): Promise<void> {
    const write = this.#begin("upsert", [id]);
    try {
      await handle.upsert([{ id, vector: [1, 2, 3], payload: { serial: write.serial } }], options);
      this.#options.history.violate(`write ${write.serial} of a vector with 3 components was accepted`);
      this.#end(write, "ok");
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      this.#end(write, "failed", error.code);
    }
  }

  async #search(worker: number): Promise<void> {
    const { history, random, stableCount, readDeadlineMs = 10_000, pauseMs = 0 } = this.#options;
    const handle = this.#handle(worker);
    while (!this.#isOver) {
      const id = random.below(stableCount);
      const serial = history.of(id)[0]?.serial ?? 0;
      try {
        const query = {
          vector: vectorOf(id, serial),
          limit: 5,
          consistency: "none" as const,
          deadlineMs: readDeadlineMs,
        };
        const { points } = await handle.query(query);
        history.readsOk++;
        if (points[0]?.id !== id) history.violate(`a search for point ${id} finds ${points[0]?.id ?? "nothing"} first`);
        for (const point of points) judgePoint(history, Number(point.id), point.payload?.serial, "a search");
      } catch (error) {
        if (!(error instanceof KithError)) throw error;
        history.readFailed(error.code);
      }
      if (pauseMs > 0) await sleep(systemClock, pauseMs);
    }
  }
}

/** A point that was read was written so by some write that may have taken effect. */
export function judgePoint(history: History, id: number, serial: unknown, where: string): void {
  const write = typeof serial === "number" ? history.bySerial(serial) : undefined;
  if (write === undefined || !write.ids.includes(id)) {
    history.violate(`${where} shows point ${id} with the stamp ${String(serial)}, which no write has given it`);
  } else if (write.outcome === "failed") {
    history.violate(`${where} shows point ${id} as written by ${write.serial}, which failed with ${write.code ?? "?"}`);
  }
}
