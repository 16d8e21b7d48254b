import { expect, test } from "vitest";
import { noFailures, type Outcome } from "./outcome.js";
import { OutcomeWindow } from "./outcomes.js";

const minuteMs = 60_000;
const done: Outcome = { affected: 1, failures: noFailures, contentHash: -5 };

/** A window with one operation to a record; its id is the record's sequence. */
class Log {
  readonly window: OutcomeWindow;
  sequence = 0;

  constructor(count = 1_000_000) {
    this.window = new OutcomeWindow({ timeMs: 10 * minuteMs, count });
  }

  append(appendedAtMs: number, outcome = done): string {
    const id = String(++this.sequence);
    this.window.advance(appendedAtMs);
    this.window.remember(this.sequence, [{ id, outcome }]);
    return id;
  }

  remembers(id: string): boolean {
    return this.window.applied(id) !== undefined;
  }
}

const startMs = 1_700_000_000_000;

/** One write a second for `ms`, by the clock that `clockMs` makes of the right time. */
function busy(log: Log, ms: number, clockMs: (nowMs: number, i: number) => number): void {
  for (let i = 1; i <= ms / 1000; i++) log.append(clockMs(startMs + i * 1000, i));
}

test.each([
  ["that jumps a day ahead and stays there", (nowMs: number) => nowMs + 24 * 60 * minuteMs],
  ["of one of two routers that is a day ahead", (nowMs: number, i: number) => nowMs + (i % 2) * 24 * 60 * minuteMs],
  ["that jumps ahead for one write", (nowMs: number, i: number) => nowMs + (i === 1 ? 24 * 60 * minuteMs : 0)],
])("a clock %s takes seconds from the window, not all of it", (_, clockMs) => {
  const log = new Log();
  const first = log.append(startMs);
  busy(log, 9 * minuteMs, clockMs);
  expect(log.remembers(first)).toBe(true);
});

test("an operation is remembered for the window, to the millisecond, and no longer", () => {
  const log = new Log();
  const first = log.append(startMs);
  busy(log, 10 * minuteMs, (nowMs) => nowMs);
  expect(log.remembers(first)).toBe(true);
  log.append(startMs + 10 * minuteMs + 1);
  expect(log.remembers(first)).toBe(false);
  expect(log.remembers("2")).toBe(true);
});

test("after a jump the window is as long as before", () => {
  const log = new Log();
  log.append(startMs);
  const first = log.append(startMs + 60 * minuteMs);
  busy(log, 10 * minuteMs, (nowMs) => nowMs + 60 * minuteMs);
  expect(log.remembers(first)).toBe(true);
  log.append(startMs + 70 * minuteMs + 1);
  expect(log.remembers(first)).toBe(false);
});

test("an item that was refused counts much less than an operation", () => {
  const log = new Log(10);
  const first = log.append(startMs);
  log.append(startMs, { affected: 0, failures: new Uint32Array(8 * 32) });
  expect(log.remembers(first)).toBe(true);
  log.append(startMs);
  expect(log.remembers(first)).toBe(false);
});
