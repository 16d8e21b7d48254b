import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { crc32c, deferred, type ErrorCode, KithError, sleep, systemClock } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { deliveryEntriesMax, recordBytesMax } from "./limits.js";
import type { Log, LogEntry, LogFault, LogSubscription } from "./port.js";
import type { ShardId } from "../model/index.js";

/** One adapter's storage, opened as often as the suite wants. */
export interface LogHarness {
  /** Opens the log; each time the same storage. */
  open(): Promise<Log>;
  /** Makes the storage refuse writes until `end`. */
  outage: { begin(): Promise<void>; end(): Promise<void> };
  dispose(): Promise<void>;
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** A subscriber that keeps all it is told. */
export class Collector {
  readonly entries: LogEntry[] = [];
  readonly batches: number[] = [];
  readonly faults: LogFault[] = [];
  readonly errors: unknown[] = [];
  overlaps = 0;
  readonly subscription: LogSubscription;
  #running = false;

  constructor(
    log: Log,
    name: ShardId,
    options: {
      fromSequence: number;
      incarnation?: string;
      lastChecksum?: number | undefined;
      onEntries?: (entries: readonly LogEntry[]) => Promise<void>;
    },
  ) {
    this.subscription = log.subscribe(name, {
      fromSequence: options.fromSequence,
      incarnation: options.incarnation,
      lastChecksum: options.lastChecksum,
      onEntries: async (entries) => {
        if (this.#running) this.overlaps++;
        this.#running = true;
        try {
          this.batches.push(entries.length);
          this.entries.push(...entries);
          await options.onEntries?.(entries);
        } finally {
          this.#running = false;
        }
      },
      onFault: (fault) => this.faults.push(fault),
      onError: (error) => this.errors.push(error),
    });
  }

  get sequences(): number[] {
    return this.entries.map((entry) => entry.sequence);
  }

  get texts(): string[] {
    return this.entries.map((entry) => Buffer.from(entry.data).toString());
  }

  async received(count: number): Promise<void> {
    await eventually(() => {
      if (this.errors.length > 0) throw this.errors[0];
      expect(this.faults).toEqual([]);
      expect(this.entries.length).toBeGreaterThanOrEqual(count);
    });
  }
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

export async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(KithError);
    return (error as KithError).code;
  }
}

/** What both adapters of the Log port must do. */
export function describeLog(adapter: string, makeHarness: () => Promise<LogHarness>): void {
  describe(`log: ${adapter}`, () => {
    let harness: LogHarness;
    let log: Log;
    const opened: LogSubscription[] = [];

    const freshName = (): ShardId => ({ collectionId: randomBytes(8).toString("hex"), shard: 3 });
    const fresh = async (): Promise<ShardId> => {
      const name = freshName();
      await log.create(name);
      return name;
    };
    const append = (name: ShardId, text: string, messageId: string = randomUUID()) =>
      log.append(name, Buffer.from(text), { messageId });
    const appendMany = async (name: ShardId, count: number): Promise<void> => {
      await Promise.all(range(1, count).map((index) => append(name, `record ${index}`)));
    };
    /** In parts: every append is fsynced, and the last of thousands would wait longer on a slow disk than one may take. */
    const inParts = async (numbers: readonly number[], work: (index: number) => Promise<unknown>): Promise<void> => {
      for (let at = 0; at < numbers.length; at += 600) await Promise.all(numbers.slice(at, at + 600).map(work));
    };
    const collect = (name: ShardId, options: ConstructorParameters<typeof Collector>[2]): Collector => {
      const collector = new Collector(log, name, options);
      opened.push(collector.subscription);
      return collector;
    };

    beforeAll(async () => {
      harness = await makeHarness();
      log = await harness.open();
    });
    afterEach(async () => {
      await Promise.all(opened.splice(0).map((subscription) => subscription.close()));
    });
    afterAll(async () => {
      await log.close();
      await harness.dispose();
    });

    it("creates a log once", async () => {
      const name = freshName();
      const first = await log.create(name);
      expect(first).toMatchObject({ firstSequence: 1, lastSequence: 0, sizeBytes: 0 });
      expect(first.incarnation).not.toBe("");
      await append(name, "kept");
      const second = await log.create(name);
      expect(second).toMatchObject({ firstSequence: 1, lastSequence: 1, incarnation: first.incarnation });
      expect(second.sizeBytes).toBeGreaterThanOrEqual(4);
      expect(await log.state(name)).toEqual(second);
    });

    it("goes on where another log ended", async () => {
      const name = freshName();
      expect(await log.create(name, { afterSequence: 41 })).toMatchObject({ firstSequence: 42, lastSequence: 41 });
      expect(await log.state(name)).toMatchObject({ firstSequence: 42, lastSequence: 41 });
      expect((await append(name, "first")).sequence).toBe(42);
      expect(await log.create(name, { afterSequence: 7 })).toMatchObject({ firstSequence: 42, lastSequence: 42 });
      const reader = collect(name, { fromSequence: 42 });
      await reader.received(1);
      expect(reader.sequences).toEqual([42]);
      const late = collect(name, { fromSequence: 1 });
      await eventually(() => expect(late.faults).toEqual([{ kind: "gap", expected: 1, found: 42 }]));
    });

    it("takes one seal, and nothing that counts behind it", async () => {
      const name = await fresh();
      await append(name, "before", "m1");
      expect(await log.sealedAt(name)).toBeUndefined();
      const racing = range(1, 20).map((i) =>
        log.append(name, Buffer.from(`racing ${i}`), { messageId: `r${i}`, fenced: true }).then(
          ({ sequence }) => sequence,
          (error: unknown) => (error as KithError).code,
        ),
      );
      const seals = await Promise.all([1, 2].map(() => log.seal(name, Buffer.from("seal"))));
      const [seal = 0] = seals;
      expect(seals).toEqual([seal, seal]);
      expect(await log.seal(name, Buffer.from("seal again"))).toBe(seal);
      expect(await log.sealedAt(name)).toBe(seal);
      for (const each of await Promise.all(racing)) {
        if (typeof each === "number") expect(each).toBeLessThan(seal);
        else expect(each).toBe("STALE_EPOCH");
      }
      const late = { messageId: "late", fenced: true };
      expect(await codeOf(log.append(name, Buffer.from("late"), late))).toBe("STALE_EPOCH");
      // What was before is told as before.
      expect(await append(name, "before", "m1")).toMatchObject({ sequence: 1, duplicate: true });
      const reader = collect(name, { fromSequence: seal });
      await reader.received(1);
      expect(reader.texts[0]).toBe("seal");
      expect(await codeOf(log.seal(freshName(), Buffer.from("seal")))).toBe("NOT_FOUND");
    });

    it("takes a record in its own place alone", async () => {
      const name = freshName();
      await log.create(name, { afterSequence: 5 });
      const put = (sequence: number): Promise<unknown> =>
        log.append(name, Buffer.from(`record ${sequence}`), {
          messageId: `m${sequence}`,
          expectedSequence: sequence,
        });
      expect(await codeOf(put(5))).toBe("REVISION_MISMATCH");
      await Promise.all(range(6, 205).map(put));
      // Repeated, it is told to be there, or not to be the next one.
      expect([undefined, "REVISION_MISMATCH"]).toContain(await codeOf(put(7)));
      expect(await codeOf(put(207))).toBe("REVISION_MISMATCH");
      const seal = (sequence: number) => log.seal(name, Buffer.from("seal"), { expectedSequence: sequence });
      expect(await codeOf(seal(207))).toBe("REVISION_MISMATCH");
      expect(await seal(206)).toBe(206);
      const reader = collect(name, { fromSequence: 6 });
      await reader.received(201);
      expect(reader.texts).toEqual([...range(6, 205).map((sequence) => `record ${sequence}`), "seal"]);
      expect(reader.entries.filter(({ isSeal }) => isSeal).map(({ sequence }) => sequence)).toEqual([206]);
    });

    it("repeats another log under that one's identity", async () => {
      const first = await log.create(freshName());
      const name = freshName();
      const { incarnation } = await log.create(name, { afterSequence: 3, incarnation: first.incarnation });
      expect(incarnation).toBe(first.incarnation);
      expect(await log.create(name)).toMatchObject({ incarnation, lastSequence: 3 });
      await append(name, "fourth");
      const reader = collect(name, { fromSequence: 4, incarnation });
      await reader.received(1);
      expect(reader.sequences).toEqual([4]);
    });

    it("says NOT_FOUND of a log that does not exist", async () => {
      const name = freshName();
      expect(await codeOf(log.state(name))).toBe("NOT_FOUND");
      expect(await codeOf(append(name, "lost"))).toBe("NOT_FOUND");
      expect(await codeOf(log.trim(name, 1))).toBe("NOT_FOUND");
      await log.remove(name);
      const reader = collect(name, { fromSequence: 1 });
      await eventually(() => expect(reader.errors.map((error) => (error as KithError).code)).toEqual(["NOT_FOUND"]));
    });

    it("goes on behind what replicas have, where it is gone, too short, or lacks records", async () => {
      const name = freshName();
      const continues = { incarnation: "before", sequence: 20, checksum: 7, first: 21 };
      // It is gone.
      const made = await log.mend(name, continues);
      expect(made).toMatchObject({ firstSequence: 21, lastSequence: 20, continues, sizeBytes: 0 });
      expect(made.incarnation).not.toBe("");
      expect(await append(name, "one")).toMatchObject({ sequence: 21 });
      // Again: what it holds stays.
      expect(await log.mend(name, continues)).toMatchObject({ firstSequence: 21, lastSequence: 21 });
      await append(name, "two");
      // It is too short, and what it holds is known to be of another past.
      const further = { incarnation: made.incarnation, sequence: 40, first: 41 };
      const reader = collect(name, { fromSequence: 23, incarnation: made.incarnation });
      const mended = await log.mend(name, further);
      expect(mended).toMatchObject({ firstSequence: 41, lastSequence: 40, incarnation: made.incarnation });
      expect(mended).toMatchObject({ continues: further, sizeBytes: 0 });
      expect(await append(name, "three")).toMatchObject({ sequence: 41 });
      await eventually(() => expect(reader.faults).toMatchObject([{ kind: "gap", expected: 23 }]));
      expect(await log.state(name)).toMatchObject({ firstSequence: 41, lastSequence: 41, continues: further });
      expect(Buffer.from((await log.read(name, 41)) ?? "").toString()).toBe("three");
      // Its first records are lost, and it goes on with the others.
      const rest = { incarnation: made.incarnation, sequence: 38, first: 41 };
      expect(await log.mend(name, rest)).toMatchObject({ firstSequence: 41, lastSequence: 41, continues: rest });
      await log.close();
      log = await harness.open();
      expect(await log.state(name)).toMatchObject({ firstSequence: 41, lastSequence: 41, continues: rest });
      expect(await append(name, "four")).toMatchObject({ sequence: 42 });
    });

    it("reads single records", async () => {
      const name = await fresh();
      for (const text of ["one", "two", "three"]) await append(name, text);
      expect(Buffer.from((await log.read(name, 2)) ?? "").toString()).toBe("two");
      expect(await log.read(name, 4)).toBeUndefined();
      await log.trim(name, 2);
      expect(await log.read(name, 2)).toBeUndefined();
      expect(Buffer.from((await log.read(name, 3)) ?? "").toString()).toBe("three");
      expect(await codeOf(log.read(freshName(), 1))).toBe("NOT_FOUND");
    });

    it("refuses bad names, ids and sizes", async () => {
      expect(await codeOf((async () => log.create({ collectionId: "../x", shard: 0 }))())).toBe("INVALID_NAME");
      expect(await codeOf((async () => log.create({ collectionId: "x", shard: -1 }))())).toBe("INVALID_ARGUMENT");
      const name = await fresh();
      expect(await codeOf(append(name, "x", "two\r\nlines"))).toBe("INVALID_ARGUMENT");
      expect(await codeOf(append(name, "x", ""))).toBe("INVALID_ARGUMENT");
      const oversize = Buffer.alloc(recordBytesMax + 1);
      expect(await codeOf(log.append(name, oversize, { messageId: "big" }))).toBe("BATCH_TOO_LARGE");
      expect((await log.state(name)).lastSequence).toBe(0);
    });

    it("numbers records 1, 2, 3 and delivers them as appended", async () => {
      const name = await fresh();
      const reader = collect(name, { fromSequence: 1 });
      expect(await append(name, "one")).toEqual({ sequence: 1, duplicate: false });
      expect(await log.append(name, Buffer.from("two"), { messageId: "m-2", traceparent })).toEqual({
        sequence: 2,
        duplicate: false,
      });
      expect(await append(name, "")).toEqual({ sequence: 3, duplicate: false });
      await reader.received(3);
      expect(reader.sequences).toEqual([1, 2, 3]);
      expect(reader.texts).toEqual(["one", "two", ""]);
      expect(reader.entries.map((entry) => entry.traceparent)).toEqual([undefined, traceparent, undefined]);
    });

    it("orders concurrent appends without gaps, the same for every reader", async () => {
      const name = await fresh();
      const live = collect(name, { fromSequence: 1 });
      const acknowledged = new Map<number, string>();
      await inParts(range(1, 1_500), async (index) => {
        const { sequence } = await append(name, `record ${index}`);
        expect(acknowledged.has(sequence)).toBe(false);
        acknowledged.set(sequence, `record ${index}`);
      });
      expect([...acknowledged.keys()].sort((a, b) => a - b)).toEqual(range(1, 1_500));
      const late = collect(name, { fromSequence: 1 });
      for (const reader of [live, late]) {
        await reader.received(1_500);
        expect(reader.sequences).toEqual(range(1, 1_500));
        expect(reader.texts).toEqual(reader.sequences.map((sequence) => acknowledged.get(sequence)));
        expect(Math.max(...reader.batches)).toBeLessThanOrEqual(deliveryEntriesMax);
      }
    });

    it("keeps logs apart", async () => {
      const names = [await fresh(), await fresh(), await fresh()];
      await Promise.all(
        names.flatMap((name) =>
          range(1, 50).map((index) => append(name, `${name.collectionId} ${index}`, `m-${index}`)),
        ),
      );
      for (const name of names) {
        const reader = collect(name, { fromSequence: 1 });
        await reader.received(50);
        expect(reader.sequences).toEqual(range(1, 50));
        expect(reader.texts.every((text) => text.startsWith(name.collectionId))).toBe(true);
      }
    });

    it("writes a repeated message id once", async () => {
      const name = await fresh();
      expect(await append(name, "first", "same")).toEqual({ sequence: 1, duplicate: false });
      expect(await append(name, "again", "same")).toEqual({ sequence: 1, duplicate: true });
      const together = await Promise.all(range(1, 8).map(() => append(name, "together", "twin")));
      expect(together.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 8 }, () => 2));
      expect(together.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
      expect(await append(name, "other", "other")).toEqual({ sequence: 3, duplicate: false });
      const reader = collect(name, { fromSequence: 1 });
      await reader.received(3);
      expect(reader.texts).toEqual(["first", "together", "other"]);
    });

    it("resumes from any sequence", async () => {
      const name = await fresh();
      await appendMany(name, 40);
      const { incarnation } = await log.state(name);
      for (const fromSequence of [1, 17, 40, 41]) {
        const reader = collect(name, { fromSequence, incarnation });
        await reader.received(41 - fromSequence);
        expect(reader.sequences).toEqual(range(fromSequence, 40));
      }
      const tail = collect(name, { fromSequence: 41, incarnation });
      await append(name, "next");
      await tail.received(1);
      expect(tail.sequences).toEqual([41]);
    });

    it("waits for the handler before it delivers more", async () => {
      const name = await fresh();
      const gate = deferred<void>();
      const reader = collect(name, { fromSequence: 1, onEntries: () => gate.promise });
      await append(name, "1");
      await eventually(() => expect(reader.entries).toHaveLength(1));
      await inParts(range(2, 3_000), (index) => append(name, `${index}`));
      expect(reader.entries).toHaveLength(1);
      gate.resolve();
      await reader.received(3_000);
      expect(reader.sequences).toEqual(range(1, 3_000));
      expect(reader.overlaps).toBe(0);
    });

    it("delivers every record to a slow reader that falls far behind", async () => {
      const name = await fresh();
      const data = randomBytes(200 * 1024);
      const reader = collect(name, { fromSequence: 1, onEntries: () => sleep(systemClock, 2) });
      for (const part of range(1, 8)) {
        await Promise.all(range(1, 15).map((index) => log.append(name, data, { messageId: `${part}-${index}` })));
      }
      await reader.received(120);
      expect(reader.sequences).toEqual(range(1, 120));
      expect(reader.entries.every((entry) => data.equals(entry.data))).toBe(true);
    });

    it("carries records of 900 KiB", async () => {
      const name = await fresh();
      const reader = collect(name, { fromSequence: 1 });
      const records = range(1, 12).map(() => randomBytes(900 * 1024));
      const sequences = await Promise.all(
        records.map((data, index) => log.append(name, data, { messageId: `big-${index}`, traceparent })),
      );
      const late = collect(name, { fromSequence: 1 });
      for (const collector of [reader, late]) {
        await collector.received(12);
        sequences.forEach(({ sequence }, index) => {
          expect(records[index]?.equals(collector.entries[sequence - 1]?.data ?? Buffer.alloc(0))).toBe(true);
        });
      }
      expect((await log.state(name)).sizeBytes).toBeGreaterThanOrEqual(12 * 900 * 1024);
    });

    it("ends the subscription when the handler fails", async () => {
      const name = await fresh();
      const broken = new Error("the handler failed");
      const reader = collect(name, { fromSequence: 1, onEntries: () => Promise.reject(broken) });
      await append(name, "1");
      await eventually(() => expect(reader.errors).toEqual([broken]));
      await append(name, "2");
      const witness = collect(name, { fromSequence: 1 });
      await witness.received(2);
      expect(reader.sequences).toEqual([1]);
    });

    it("delivers nothing after close", async () => {
      const name = await fresh();
      const reader = collect(name, { fromSequence: 1 });
      await append(name, "1");
      await reader.received(1);
      await reader.subscription.close();
      await append(name, "2");
      const witness = collect(name, { fromSequence: 1 });
      await witness.received(2);
      expect(reader.sequences).toEqual([1]);
      expect(reader.errors).toEqual([]);
    });

    it("lets a handler append to the log it reads", async () => {
      const name = await fresh();
      const reader = collect(name, {
        fromSequence: 1,
        onEntries: async (entries) => {
          for (const entry of entries) if (entry.sequence < 5) await append(name, `after ${entry.sequence}`);
        },
      });
      await append(name, "start");
      await reader.received(5);
      expect(reader.texts).toEqual(["start", "after 1", "after 2", "after 3", "after 4"]);
    });

    it("tells a reader that has read another record than the log holds", async () => {
      const name = await fresh();
      await append(name, "one");
      await append(name, "two");
      const { incarnation } = await log.state(name);
      const checksum = await log.checksum(name, 2);
      const second = collect(name, { fromSequence: 2 });
      await second.received(1);
      expect(checksum).toBe(second.entries[0]?.checksum ?? crc32c(Buffer.from("two")));
      expect(await log.checksum(name, 3)).toBeUndefined();
      const same = collect(name, { fromSequence: 3, lastChecksum: checksum });
      const other = collect(name, { fromSequence: 3, lastChecksum: crc32c(Buffer.from("another two")) });
      const fault = { kind: "rewound", lastRead: 2, lastSequence: 2, incarnation };
      await eventually(() => expect(other.faults).toEqual([fault]));
      await append(name, "three");
      await same.received(1);
      expect([same.texts, same.faults, other.texts]).toEqual([["three"], [], []]);
      // What was trimmed cannot be compared.
      await log.trim(name, 2);
      expect(await log.checksum(name, 2)).toBeUndefined();
      const behind = collect(name, { fromSequence: 3, lastChecksum: 1 });
      await behind.received(1);
      expect(behind.faults).toEqual([]);
    });

    it("trims, and tells a reader below the trim", async () => {
      const name = await fresh();
      await appendMany(name, 10);
      const live = collect(name, { fromSequence: 1 });
      await live.received(10);
      const before = await log.state(name);
      await log.trim(name, 4);
      const state = await log.state(name);
      expect(state).toMatchObject({ firstSequence: 5, lastSequence: 10, incarnation: before.incarnation });
      expect(state.sizeBytes).toBeLessThan(before.sizeBytes);
      const reader = collect(name, { fromSequence: 1 });
      await eventually(() => expect(reader.faults).toEqual([{ kind: "gap", expected: 1, found: 5 }]));
      expect(reader.entries).toEqual([]);
      const rest = collect(name, { fromSequence: 5 });
      await rest.received(6);
      expect(rest.sequences).toEqual(range(5, 10));
      await log.trim(name, 2);
      expect(await log.state(name)).toMatchObject({ firstSequence: 5, lastSequence: 10 });
      await log.trim(name, 99);
      expect(await log.state(name)).toMatchObject({ firstSequence: 11, lastSequence: 10, sizeBytes: 0 });
      expect((await append(name, "eleven")).sequence).toBe(11);
      await live.received(11);
      expect(live.sequences).toEqual(range(1, 11));
      const empty = collect(name, { fromSequence: 3 });
      await eventually(() => expect(empty.faults).toEqual([{ kind: "gap", expected: 3, found: 11 }]));
    });

    it("tells a reader that knows more than the log holds", async () => {
      const name = await fresh();
      await appendMany(name, 3);
      const { incarnation } = await log.state(name);
      const beyond = collect(name, { fromSequence: 6, incarnation });
      const fault = { kind: "rewound", lastSequence: 3, incarnation };
      await eventually(() => expect(beyond.faults).toEqual([{ ...fault, lastRead: 5 }]));
      const other = collect(name, { fromSequence: 2, incarnation: "another" });
      await eventually(() => expect(other.faults).toEqual([{ ...fault, lastRead: 1 }]));
      expect([...beyond.entries, ...other.entries]).toEqual([]);
    });

    it("starts anew after a removal, and tells the readers", async () => {
      const name = await fresh();
      await appendMany(name, 5);
      await append(name, "six", "six");
      const before = await log.state(name);
      const live = collect(name, { fromSequence: 1, incarnation: before.incarnation });
      await live.received(6);
      await log.remove(name);
      expect(await codeOf(log.state(name))).toBe("NOT_FOUND");
      await eventually(() => expect(live.errors.map((error) => (error as KithError).code)).toEqual(["NOT_FOUND"]));
      const after = await log.create(name);
      expect(after).toMatchObject({ firstSequence: 1, lastSequence: 0, sizeBytes: 0 });
      expect(after.incarnation).not.toBe(before.incarnation);
      expect(await append(name, "six", "six")).toEqual({ sequence: 1, duplicate: false });
      const stale = collect(name, { fromSequence: 7, incarnation: before.incarnation });
      await eventually(() =>
        expect(stale.faults).toEqual([
          { kind: "rewound", lastRead: 6, lastSequence: 1, incarnation: after.incarnation },
        ]),
      );
      expect(live.sequences).toEqual(range(1, 6));
      expect(live.faults).toEqual([]);
    });

    it("obeys the caller's signal", async () => {
      const name = await fresh();
      const signal = AbortSignal.abort();
      expect(await codeOf(log.append(name, Buffer.from("x"), { messageId: "x", signal }))).toBe("CANCELLED");
      expect((await log.state(name)).lastSequence).toBe(0);
      const controller = new AbortController();
      const doomed = codeOf(log.append(name, Buffer.from("y"), { messageId: "y", signal: controller.signal }));
      controller.abort();
      expect(await doomed).toBe("CANCELLED");
      const again = await append(name, "y", "y");
      expect(again.sequence).toBe(1);
      expect((await log.state(name)).lastSequence).toBe(1);
    });

    it("keeps everything when it is opened again", async () => {
      const name = await fresh();
      await appendMany(name, 20);
      const known = await append(name, "known", "known");
      await log.trim(name, 7);
      const before = await log.state(name);
      await log.close();
      expect(log.available).toBe(false);
      expect(await codeOf(append(name, "closed"))).toBe("SHUTTING_DOWN");
      log = await harness.open();
      expect(log.available).toBe(true);
      expect(await log.state(name)).toEqual(before);
      expect(await append(name, "known", "known")).toEqual({ sequence: known.sequence, duplicate: true });
      expect(await append(name, "new")).toEqual({ sequence: 22, duplicate: false });
      const reader = collect(name, { fromSequence: 8, incarnation: before.incarnation });
      await reader.received(15);
      expect(reader.sequences).toEqual(range(8, 22));
    });

    it("refuses writes quickly and does not guess its end while its storage is away, and goes on after", async () => {
      const name = await fresh();
      const reader = collect(name, { fromSequence: 1 });
      await appendMany(name, 20);
      await reader.received(20);
      const handled = deferred<void>();
      const slow = collect(name, { fromSequence: 1, onEntries: () => handled.promise });
      await eventually(() => expect(slow.entries).not.toEqual([]));
      const changes: boolean[] = [];
      const unsubscribe = log.onAvailability((available) => changes.push(available));
      await harness.outage.begin();
      const began = performance.now();
      expect(await codeOf(append(name, "away", "away"))).toBe("LOG_UNAVAILABLE");
      expect(performance.now() - began).toBeLessThan(5_000);
      await eventually(() => expect(log.available).toBe(false));
      expect(await codeOf(append(name, "away", "away"))).toBe("LOG_UNAVAILABLE");
      expect(await codeOf(log.state(name))).toBe("LOG_UNAVAILABLE");
      handled.resolve();
      await harness.outage.end();
      await eventually(() => expect(log.available).toBe(true));
      expect(changes).toEqual([false, true]);
      unsubscribe();
      const { sequence } = await append(name, "away", "away");
      expect(sequence).toBe(21);
      await append(name, "after");
      for (const each of [reader, slow]) {
        await each.received(22);
        expect(each.sequences).toEqual(range(1, 22));
        expect(each.texts.slice(20)).toEqual(["away", "after"]);
      }
    });
  });
}
