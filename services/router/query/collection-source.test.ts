import { expect, test } from "vitest";
import { systemClock } from "../../../libs/base/index.js";
import { call, collectionRecord } from "../testing/router.js";
import { CollectionSource, type CollectionSourceOptions } from "./collection-source.js";

function* counting(count: number): Generator<void, number> {
  for (let i = 0; i < count; i++) yield;
  return count;
}

/** A source whose clock goes on by a millisecond whenever it is asked; `turns` tells how often others have run. */
function sourceOf(signal?: AbortSignal): { source: CollectionSource; turns: () => number } {
  let nowMs = 0;
  let turns = 0;
  const clock = {
    ...systemClock,
    monotonicMs: () => nowMs++,
    soon: (callback: () => void) => {
      turns++;
      systemClock.soon(callback);
    },
  };
  const options: Partial<CollectionSourceOptions> = {
    collection: { record: collectionRecord("c", ["a"]) } as CollectionSourceOptions["collection"],
    call: { ...call, ...(signal && { signal }) },
    clock,
  };
  return { source: new CollectionSource(options as CollectionSourceOptions), turns: () => turns };
}

test("long work gives others their turn every two milliseconds", async () => {
  const { source, turns } = sourceOf();
  expect(await source.workInSteps("evaluate", counting(100))).toBe(100);
  expect(turns()).toBe(50);
  const short = sourceOf();
  expect(await short.source.workInSteps("evaluate", counting(1))).toBe(1);
  expect(short.turns()).toBe(0);
});

test("long work ends with its call", async () => {
  const ended = new AbortController();
  const { source } = sourceOf(ended.signal);
  const endless = function* (): Generator<void, never> {
    for (let step = 0; ; step++) {
      if (step === 10) ended.abort();
      yield;
    }
  };
  await expect(source.workInSteps("diversify", endless())).rejects.toMatchObject({ code: "CANCELLED" });
});
