import { expect, test } from "vitest";
import { deferred } from "../../../libs/base/index.js";
import { ManualClock } from "../../../libs/base/testing.js";
import { QueryAdmission } from "./admission.js";

function scene() {
  const clock = new ManualClock();
  const admission = new QueryAdmission(clock, 1_000, 10);
  const ask = (deadlineMs: number | undefined): void => {
    admission.check(deadlineMs);
    admission.enter();
  };
  const refuses = (deadlineMs: number | undefined): boolean => {
    try {
      admission.check(deadlineMs);
      return false;
    } catch {
      return true;
    }
  };
  const fill = (count: number): void => {
    for (let i = 0; i < count; i++) ask(clock.monotonicMs() + 5_000);
  };
  const end = (count: number, isAnswered = true): void => {
    for (let i = 0; i < count; i++) admission.leave(isAnswered);
  };
  /** So many end in a quarter of a second each, while others come, which look at the rate. */
  const pass = async (parts: number, count: number, isAnswered = true): Promise<void> => {
    for (let i = 0; i < parts; i++) {
      await clock.advance(250);
      end(count, isAnswered);
      refuses(undefined);
    }
  };
  return { clock, admission, ask, refuses, fill, end, pass };
}

const refused: unknown = expect.objectContaining({ code: "RESOURCE_EXHAUSTED", retryable: true });

test("a query that would wait beyond its deadline is refused at once, and one with time enough is not", async () => {
  const { clock, admission, ask, refuses, fill, pass } = scene();
  fill(480);
  await pass(8, 10);
  // The other 400 take ten seconds.
  const nowMs = clock.monotonicMs();
  expect(() => ask(nowMs + 5_000)).toThrow(refused);
  expect(() => ask(nowMs + 5_000)).toThrow(
    /behind 400 queries one more would wait about 10000 ms, and its deadline is in 5000 ms/,
  );
  // A fifth is kept for the answer itself, and for what is not known exactly.
  expect(refuses(nowMs + 12_400)).toBe(true);
  ask(nowMs + 12_600);
  expect(() => ask(undefined)).toThrow(refused);
  expect(admission.inFlight).toBe(401);
});

test("queries that are given up are not taken for answered ones", async () => {
  const { clock, refuses, fill, pass } = scene();
  fill(900);
  // As many end at their deadlines as come: none has been of use to anybody.
  await pass(4, 100, false);
  expect(refuses(clock.monotonicMs() + 5_000)).toBe(true);
});

test("the rate is known while timers have no turn", () => {
  const { admission, clock } = scene();
  // All in one turn of the event loop, which reads thousands of requests before it looks at timers and answers.
  let nowMs = 0;
  clock.monotonicMs = () => nowMs;
  let inside = 0;
  for (; nowMs < 5_000; nowMs++) {
    try {
      admission.check(nowMs + 5_000);
    } catch {
      continue;
    }
    admission.enter();
    inside++;
  }
  expect(inside).toBeLessThanOrEqual(510);
});

/** Shards that answer one query each 10 ms, first come, first served, for 20 s in which `each` queries come every 10 ms. */
function served(each: number): { came: number; refused: number; inTime: number; late: number } {
  const { admission, clock } = scene();
  let nowMs = 0;
  clock.monotonicMs = () => nowMs;
  const queue: number[] = [];
  const count = { came: 0, refused: 0, inTime: 0, late: 0 };
  let due = 0;
  for (; nowMs < 20_000; nowMs += 10) {
    for (due += each; due >= 1; due--) {
      count.came++;
      try {
        admission.check(nowMs + 5_000);
      } catch {
        count.refused++;
        continue;
      }
      admission.enter();
      queue.push(nowMs + 5_000);
    }
    while ((queue[0] ?? Number.POSITIVE_INFINITY) <= nowMs) {
      queue.shift();
      count.late++;
      admission.leave(false);
    }
    if (queue.shift() === undefined) continue;
    count.inTime++;
    admission.leave(true);
  }
  return count;
}

test("below what can be kept up none is refused, and at nine times that as many are answered in time as can be", () => {
  expect(served(0.95)).toMatchObject({ refused: 0, late: 0 });
  const { came, refused: refusals, inTime, late } = served(9);
  expect(inTime).toBe(2_000);
  expect(late).toBe(0);
  // What is left waits yet.
  expect(refusals).toBeGreaterThan(came - inTime - 450);
});

test("where none ends, more than a few are refused", async () => {
  const { clock, admission, ask, fill, end } = scene();
  fill(20);
  await clock.advance(499);
  fill(1);
  await clock.advance(1);
  expect(() => ask(undefined)).toThrow(/longer than can be said/);
  end(12);
  fill(1);
  expect(admission.inFlight).toBe(10);
});

test("what a router did while little was asked of it refuses nothing", async () => {
  const { clock, ask, fill, end } = scene();
  for (let i = 0; i < 20; i++) {
    fill(1);
    await clock.advance(10_000);
    end(1);
  }
  fill(1_000);
  expect(() => ask(undefined)).toThrow(/answering 1000 queries already/);
});

test("an overload that has passed refuses nothing any more", async () => {
  const { clock, ask, fill, end, pass } = scene();
  fill(100);
  await clock.advance(2_000);
  expect(() => ask(undefined)).toThrow(refused);
  await pass(4, 15);
  ask(clock.monotonicMs() + 5_000);
  end(41);
  fill(500);
});

test("queries that wait for room for their answers keep no others out, up to what may be in flight", async () => {
  const { clock, admission, ask, refuses, end } = scene();
  const room = deferred<undefined>();
  const waiting = Array.from({ length: 999 }, () => {
    ask(undefined);
    return admission.aside(room.promise);
  });
  await clock.advance(5_000);
  expect(refuses(undefined)).toBe(false);
  ask(undefined);
  expect(admission.inFlight).toBe(1_000);
  expect(() => ask(undefined)).toThrow(/answering 1000 queries already/);
  end(1);
  room.resolve(undefined);
  await Promise.all(waiting);
  // They are others' queue from then on.
  await clock.advance(1_000);
  expect(refuses(undefined)).toBe(true);
  end(999);
  expect(admission.inFlight).toBe(0);
});
