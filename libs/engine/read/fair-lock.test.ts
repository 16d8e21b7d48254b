import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { deferred } from "../../base/index.js";
import { FairLock } from "./fair-lock.js";

const none = undefined;

test("the writer waits for the readers before it, and readers that come meanwhile go behind its batch", async () => {
  const fairLock = new FairLock(new AbortController().signal);
  const events: string[] = [];
  const first = deferred<void>();
  const batch = deferred<void>();
  const reading = fairLock.read(() => first.promise.then(() => void events.push("first")), none);
  const writing = fairLock.write(() => batch.promise.then(() => void events.push("batch")));
  const later = ["second", "third"].map((name) => fairLock.read(async () => void events.push(name), none));
  await setImmediate();
  expect(events).toEqual([]);
  batch.resolve();
  await setImmediate();
  expect(events).toEqual([]);
  first.resolve();
  await Promise.all([reading, writing, ...later]);
  expect(events).toEqual(["first", "batch", "second", "third"]);
});

test("neither side starves while the other has no pause", async () => {
  const fairLock = new FairLock(new AbortController().signal);
  let writtenCount = 0;
  let readCount = 0;
  let isWriting = false;
  let isEnough = false;
  const writer = async (): Promise<void> => {
    while (!isEnough) {
      await fairLock.write(async () => {
        isWriting = true;
        await setImmediate();
        isWriting = false;
      });
      writtenCount++;
    }
  };
  // They overlap: at no moment would all have ended by themselves.
  const reader = async (ticks: number): Promise<void> => {
    while (!isEnough) {
      await fairLock.read(async () => {
        for (let tick = 0; tick < ticks; tick++) {
          expect(isWriting).toBe(false);
          await setImmediate();
        }
      }, none);
      readCount++;
      if (writtenCount >= 100 && readCount >= 100) isEnough = true;
    }
  };
  await Promise.all([writer(), reader(2), reader(3), reader(5)]);
});

test("a queued reader ends with its call, and everyone with the session", async () => {
  const replica = new AbortController();
  const fairLock = new FairLock(replica.signal);
  const held = deferred<void>();
  const holder = fairLock.read(() => held.promise, none);
  const writing = fairLock.write(() => Promise.reject(new Error("must not be written")));
  const call = new AbortController();
  const cancelled = fairLock.read(() => Promise.reject(new Error("must not be read")), call.signal);
  const queued = fairLock.read(() => Promise.reject(new Error("must not be read")), new AbortController().signal);
  const refusals = [
    expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" }),
    expect(queued).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" }),
    expect(writing).rejects.toMatchObject({ code: "CANCELLED" }),
  ];
  call.abort();
  await refusals[0];
  await expect(fairLock.read(() => held.promise, call.signal)).rejects.toMatchObject({ code: "CANCELLED" });
  replica.abort();
  await Promise.all(refusals);
  await expect(fairLock.read(() => held.promise, none)).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  held.resolve();
  await holder;
});

test("nobody reads behind a batch that failed", async () => {
  const replica = new AbortController();
  const fairLock = new FairLock(replica.signal);
  const written = deferred<void>();
  const writing = fairLock.write(() => written.promise);
  const queued = fairLock.read(() => Promise.reject(new Error("must not be read")), none);
  const refused = expect(queued).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
  written.reject(new Error("no space"));
  await expect(writing).rejects.toThrow("no space");
  await setImmediate();
  replica.abort();
  await refused;
});
