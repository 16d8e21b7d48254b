import { expect, test } from "vitest";
import { ManualClock } from "../../../libs/base/testing.js";
import { QueryAdmission } from "./admission.js";

function scene() {
  const clock = new ManualClock();
  const admission = new QueryAdmission(clock, 1_000, 10);
  const ask = (deadlineMs: number | undefined): void => {
    admission.check(deadlineMs);
    admission.enter();
  };
  const fill = (count: number): void => {
    for (let i = 0; i < count; i++) ask(clock.monotonicMs() + 5_000);
  };
  const end = (count: number): void => {
    for (let i = 0; i < count; i++) admission.leave();
  };
  return { clock, admission, ask, fill, end };
}

const refused: unknown = expect.objectContaining({ code: "RESOURCE_EXHAUSTED", retryable: true });

test("a query that would wait beyond its deadline is refused at once, and one with time enough is not", async () => {
  const { clock, admission, ask, fill, end } = scene();
  fill(500);
  // 100 of 500 end in two seconds: the other 400 take eight.
  for (let second = 0; second < 2; second++) {
    end(50);
    await clock.advance(1_000);
  }
  const nowMs = clock.monotonicMs();
  expect(() => ask(nowMs + 5_000)).toThrow(refused);
  expect(() => ask(nowMs + 5_000)).toThrow(
    /behind 400 queries one more would wait about 8000 ms, and its deadline is in 5000 ms/,
  );
  ask(nowMs + 8_500);
  ask(undefined);
  expect(admission.inFlight).toBe(402);
});

test("where none ends, more than a few are refused", async () => {
  const { clock, admission, ask, fill, end } = scene();
  fill(20);
  // The event loop may have stood still for one.
  await clock.advance(1_000);
  fill(1);
  await clock.advance(1_000);
  expect(() => ask(undefined)).toThrow(/longer than can be said/);
  end(15);
  fill(5);
  expect(admission.inFlight).toBe(11);
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
  const { clock, ask, fill, end } = scene();
  fill(100);
  await clock.advance(2_000);
  expect(() => ask(undefined)).toThrow(refused);
  end(60);
  await clock.advance(1_000);
  ask(clock.monotonicMs() + 5_000);
  end(41);
  fill(500);
});
