import { expect, test, vi } from "vitest";
import { deferred, KithError, sleep, systemClock, withTimeout } from "./index.js";
import { ManualClock } from "./testing.js";

test("due timers run by their time, then in the order in which they were set", async () => {
  const clock = new ManualClock();
  const ran: string[] = [];
  const startMs = clock.monotonicMs();
  const note = (name: string) => () => void ran.push(`${name}@${clock.monotonicMs() - startMs}`);
  clock.setTimer(note("late"), 30);
  clock.setTimer(note("first"), 10);
  clock.setTimer(note("second"), 10);
  clock.soon(note("soon"));
  const every = clock.every(note("every"), 10);
  const closed = clock.setTimer(note("closed"), 5);
  closed.close();
  await clock.advance(25);
  expect(ran).toEqual(["soon@0", "first@10", "second@10", "every@10", "every@20"]);
  expect(clock.monotonicMs() - startMs).toBe(25);
  every.close();
  await clock.advance(100);
  expect(ran.slice(5)).toEqual(["late@30"]);
  expect(clock.pending).toBe(0);
});

test("timers that promises set while the time moves are run within it", async () => {
  const clock = new ManualClock();
  let steps = 0;
  const walk = async (): Promise<void> => {
    for (; steps < 3; steps++) await sleep(clock, 10);
  };
  const walked = walk();
  await clock.advance(29);
  expect(steps).toBe(2);
  await clock.advance(1);
  await walked;
  expect(steps).toBe(3);
});

test("a timer may close itself and others", async () => {
  const clock = new ManualClock();
  let ticks = 0;
  const other = clock.setTimer(() => void (ticks += 100), 20);
  const timer = clock.every(() => {
    if (++ticks === 2) timer.close();
    other.close();
  }, 10);
  await clock.advance(100);
  expect(ticks).toBe(2);
});

test("a jump runs nothing, and what it passed runs with the next move", async () => {
  const clock = new ManualClock();
  const callback = vi.fn();
  clock.setTimer(callback, 10);
  clock.jump(50);
  expect(callback).not.toHaveBeenCalled();
  await clock.advance(0);
  expect(callback).toHaveBeenCalledOnce();
});

test("the wall clock jumps by itself", () => {
  const clock = new ManualClock();
  const [wallMs, monotonicMs] = [clock.nowMs(), clock.monotonicMs()];
  clock.wallOffsetMs -= 86_400_000;
  expect(clock.nowMs()).toBe(wallMs - 86_400_000);
  expect(clock.monotonicMs()).toBe(monotonicMs);
});

test("a sleep ends with its signal, and leaves no timer", async () => {
  const clock = new ManualClock();
  const abort = new AbortController();
  const slept = sleep(clock, 1_000, abort.signal);
  abort.abort(new KithError("SHUTTING_DOWN", "the end"));
  await expect(slept).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  expect(clock.pending).toBe(0);
  await expect(sleep(clock, 1, AbortSignal.abort())).rejects.toMatchObject({ code: "CANCELLED" });
});

test("a timeout aborts the work's signal, the parent does too, and no timer is left", async () => {
  const clock = new ManualClock();
  const untilAborted = (signal: AbortSignal): Promise<never> => {
    const end = deferred<never>();
    if (signal.aborted) end.reject(signal.reason);
    signal.addEventListener("abort", () => end.reject(signal.reason));
    return end.promise;
  };
  const late = expect(withTimeout(clock, 100, untilAborted)).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
  await clock.advance(100);
  await late;
  const parent = new AbortController();
  const cancelled = withTimeout(clock, 100, untilAborted, parent.signal);
  const reason = new KithError("CANCELLED", "by the caller");
  parent.abort(reason);
  await expect(cancelled).rejects.toBe(reason);
  await expect(withTimeout(clock, 100, untilAborted, parent.signal)).rejects.toBe(reason);
  expect(await withTimeout(clock, 100, () => Promise.resolve(7), new AbortController().signal)).toBe(7);
  expect(clock.pending).toBe(0);
});

test("as many parts of a work may listen to its signal as there are, without a warning of Node", async () => {
  const warned = vi.fn();
  process.on("warning", warned);
  await withTimeout(new ManualClock(), 100, async (signal) => {
    for (let i = 0; i < 20; i++) signal.addEventListener("abort", () => undefined);
    await new Promise((resolve) => setImmediate(resolve));
  });
  process.off("warning", warned);
  expect(warned).not.toHaveBeenCalled();
});

test("the system's timers run, and can be closed", async () => {
  const closed = vi.fn();
  systemClock.setTimer(closed, 1).unref().close();
  const ticks = deferred<void>();
  let count = 0;
  const every = systemClock.every(() => {
    if (++count === 2) ticks.resolve();
  }, 1);
  await ticks.promise;
  every.close();
  const soon = deferred<void>();
  systemClock.soon(() => soon.resolve());
  await soon.promise;
  await sleep(systemClock, 5);
  expect(closed).not.toHaveBeenCalled();
});
