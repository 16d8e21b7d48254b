import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRuntime } from "../../../libs/base/index.js";
import { eventually } from "../../../libs/base/testing.js";
import type { Log } from "../../../libs/log/index.js";
import { FakeLog } from "../../../libs/log/testing.js";
import { LogMirror } from "./log-mirror.js";
import { fence } from "./settle.js";

const name = { collectionId: "one", shard: 0 };
let theirs: FakeLog;
let ours: FakeLog;
let restarts: string[];
let failures: string[];
const mirrors: LogMirror[] = [];

beforeEach(async () => {
  [theirs, ours] = await Promise.all([FakeLog.open(), FakeLog.open()]);
  restarts = [];
  failures = [];
});
afterEach(async () => {
  await Promise.all(mirrors.splice(0).map((mirror) => mirror.close()));
  await Promise.all([theirs, ours].map((log) => log.close()));
});

function mirror(from: Log = theirs, to: Log = ours): LogMirror {
  const made = new LogMirror({
    ...{ name, theirs: from, ours: to, ...systemRuntime },
    onRestart: (reason) => restarts.push(reason),
    onFailure: ({ message }) => failures.push(message),
  });
  mirrors.push(made);
  return made;
}

async function write(log: Log, ...texts: string[]): Promise<void> {
  for (const text of texts) await log.append(name, Buffer.from(text), { messageId: text });
}

async function contentOf(log: Log): Promise<string[]> {
  const { firstSequence, lastSequence } = await log.state(name);
  const records: string[] = [];
  for (let at = firstSequence; at <= lastSequence; at++) {
    records.push(`${at} ${Buffer.from((await log.read(name, at)) ?? "").toString()}`);
  }
  return records;
}

const equal = (): Promise<void> =>
  eventually(async () => expect(await contentOf(ours)).toEqual(await contentOf(theirs)));

test("a log comes to be what the other one is, record by record, from where that begins", async () => {
  await theirs.create(name);
  await write(theirs, "a", "b", "c");
  await theirs.trim(name, 1);
  const one = mirror();
  await equal();
  expect((await ours.state(name)).incarnation).toBe((await theirs.state(name)).incarnation);
  await write(theirs, "d", "e");
  await equal();
  one.noteEnd(7, systemRuntime.clock.monotonicMs());
  expect([one.state, one.sequence, one.primarySequence]).toEqual(["following", 5, 7]);
  await theirs.seal(name, Buffer.from("seal"));
  await eventually(() => expect([one.state, one.sequence]).toEqual(["sealed", 6]));
  expect(await ours.sealedAt(name)).toBe(6);
  expect([restarts, failures]).toEqual([[], []]);
});

test("two that repeat it at once write what one would", async () => {
  await theirs.create(name);
  await write(theirs, ...Array.from({ length: 200 }, (_, i) => `early-${i}`));
  mirror();
  mirror();
  for (let i = 0; i < 20; i++) await write(theirs, `late-${i}`);
  await equal();
});

test("who still repeats it after the promotion can write no more, and nothing of it comes in", async () => {
  await theirs.create(name);
  await write(theirs, "a");
  const late = mirror();
  await equal();
  await fence(name, 1, ours, 0);
  await write(theirs, "b", "c");
  await eventually(() => expect(failures.length).toBeGreaterThan(0));
  await write(ours, "own");
  await eventually(() => expect(late.state).toBe("failed"));
  const content = await contentOf(ours);
  expect(content).toHaveLength(3);
  expect([content[0], content[2]]).toEqual(["1 a", "3 own"]);
  // Nor does one that begins afterwards touch what is there.
  await late.close();
  const another = mirror();
  await eventually(() => expect(another.state).toBe("failed"));
  expect(await contentOf(ours)).toEqual(content);
});

test("one that fell behind a trim begins again, one that has more than the primary is left alone", async () => {
  await theirs.create(name);
  await write(theirs, "a", "b");
  const first = mirror();
  await equal();
  await first.close();
  await write(theirs, "c", "d", "e");
  await theirs.trim(name, 4);
  const second = mirror();
  await equal();
  expect(restarts).toEqual([expect.stringContaining("begins at 5")]);
  await second.close();
  await theirs.remove(name);
  await theirs.create(name);
  const third = mirror();
  await eventually(() => expect(third.state).toBe("failed"));
  expect(await contentOf(ours)).toEqual(["5 e"]);
});

test("an outage on either side is waited out", async () => {
  await theirs.create(name);
  await write(theirs, "a");
  mirror();
  await equal();
  ours.available = false;
  await write(theirs, "b");
  await eventually(() => expect(failures.length).toBeGreaterThan(0));
  ours.available = true;
  await equal();
});
